//! The `coracle` program on manifests and volumes that cannot be run: what it
//! says, the exit code, and that nothing is left.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const VM: &str = "\
apiVersion: coracle.dev/v1alpha1
kind: VirtualMachine
metadata: {name: web}
spec:
  accelerator: Emulation
  memory: 64Mi
  disks:
  - name: root
    claim: {name: web-root}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: web-root}
spec:
  volumeMode: Block
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
";

struct Bench(TempDir);

impl Bench {
    /// Or nothing for users that `coracle run` sends away first.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: coracle run needs root");
            return None;
        }
        Some(Self(tempfile::tempdir().expect("temporary directory")))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("file");
    }

    /// Runs `coracle run` in the directory.
    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .current_dir(self.0.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .args(["--state-dir", "state", "run"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("coracle");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(input.as_bytes()).expect("input");
        drop(stdin);
        child.wait_with_output().expect("output")
    }

    /// What it says on standard error, its exit code checked.
    fn refusal(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args, "");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            !self.path("state/pods").exists() || is_empty(&self.path("state/pods")),
            "{said}"
        );
        said
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("directory").next().is_none()
}

#[test]
fn problems_are_told_with_their_lines() {
    let Some(bench) = Bench::new() else { return };
    bench.write(
        "vm.yaml",
        &VM.replace("    claim:", "    bootorder: 1\n    claim:"),
    );
    assert_eq!(
        bench.refusal(&["vm.yaml"], 2),
        "coracle: vm.yaml:9:5: spec.disks[0]: unknown field \"bootorder\": did you mean \
         \"bootOrder\"?\n"
    );
    bench.write(
        "vm.yaml",
        &VM.replace("64Mi", "64").replace("Block", "block"),
    );
    assert_eq!(
        bench.refusal(&["vm.yaml"], 2),
        "coracle: the manifests have 2 problems:\n\
         vm.yaml:6:11: spec.memory: must be a text, not the number 64; put it in quotes\n\
         vm.yaml:15:15: spec.volumeMode: unknown value \"block\": allowed are \"Block\", \
         \"Filesystem\"\n"
    );
    bench.write("vm.yaml", "a: b: c\n");
    let said = bench.refusal(&["vm.yaml"], 2);
    assert!(
        said.starts_with("coracle: vm.yaml:1:5: not YAML: "),
        "{said}"
    );
}

#[test]
fn standard_input_is_named() {
    let Some(bench) = Bench::new() else { return };
    let output = bench.run(
        &["-"],
        &VM.replace("kind: VirtualMachine", "kind: VirtualMachin"),
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).expect("UTF-8"),
        "coracle: <stdin>:2:7: kind: unknown kind \"VirtualMachin\": allowed are \
         \"VirtualMachine\", \"PersistentVolumeClaim\", \"Secret\", \"ConfigMap\": did you mean \
         \"VirtualMachine\"?\n"
    );
}

#[test]
fn files_that_are_missing_are_named() {
    let Some(bench) = Bench::new() else { return };
    assert_eq!(
        bench.refusal(&["missing.yaml"], 2),
        "coracle: manifest missing.yaml cannot be read: No such file or directory (os error 2)\n"
    );
    let (vm, claim) = VM.split_once("---\n").expect("two documents");
    bench.write("vm.yaml", vm);
    bench.write("claim.yaml", claim);
    assert_eq!(
        bench.refusal(&["vm.yaml"], 2),
        "coracle: vm.yaml:9:19: spec.disks[0].claim.name: no manifest has the \
         PersistentVolumeClaim \"web-root\"; add it to the files\n"
    );
    assert_eq!(
        bench.refusal(&["claim.yaml"], 2),
        "coracle: claim.yaml: no VirtualMachine; add a document with apiVersion: \
         coracle.dev/v1alpha1, kind: VirtualMachine\n"
    );
}

#[test]
fn arguments_that_name_no_volume_are_refused() {
    let Some(bench) = Bench::new() else { return };
    bench.write("vm.yaml", VM);
    let said = bench.refusal(&["vm.yaml", "--volume", "web-root"], 2);
    assert!(
        said.contains("is not CLAIM=PATH; write, say, web-root=/dev/vg0/web"),
        "{said}"
    );
}

#[test]
fn volumes_that_cannot_be_attached_are_refused_and_leave_nothing() {
    let Some(bench) = Bench::new() else { return };
    bench.write("vm.yaml", VM);
    std::fs::write(bench.path("qcow2.img"), b"QFI\xfb\0\0\0\x03").expect("image");
    for (volumes, expected) in [
        (
            &[][..],
            "nothing plays it; add `--volume web-root=PATH` with a block device or an image",
        ),
        (
            &["web-root=missing.img"],
            "missing.img does not exist; name a block device",
        ),
        (
            &["web-root=/dev/null"],
            "/dev/null is a character device, neither a block device nor",
        ),
        (
            &["web-root=qcow2.img"],
            "is a qcow2 image, and a volume is raw bytes",
        ),
        (
            &["web-root=a", "web-root=b"],
            "--volume names claim \"web-root\" twice",
        ),
        (
            &["other=a"],
            "no manifest has a PersistentVolumeClaim of that name (there is: web-root)",
        ),
    ] {
        let flags = volumes.iter().flat_map(|volume| ["--volume", volume]);
        let args: Vec<&str> = std::iter::once("vm.yaml").chain(flags).collect();
        let output = bench.run(&args, "");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(matches!(output.status.code(), Some(2 | 3)), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(is_empty(&bench.path("state/pods")), "{said}");
    }
}

#[test]
fn devices_of_the_node_need_a_cluster() {
    let Some(bench) = Bench::new() else { return };
    let devices = "  devices:\n  - {name: gpu, resource: example.com/a10}\n---\n";
    bench.write("vm.yaml", &VM.replace("---\n", devices));
    let said = bench.refusal(&["vm.yaml"], 2);
    for part in ["spec.devices", "\"gpu\" (example.com/a10)", "in a cluster"] {
        assert!(said.contains(part), "{said}");
    }
    bench.write(
        "vm.yaml",
        &VM.replace(
            "---\n",
            &devices.replace("example.com/a10", "coracle.dev/kvm"),
        ),
    );
    let said = bench.refusal(&["vm.yaml"], 2);
    assert!(
        said.contains("vm.yaml:") && said.contains("no device for a guest"),
        "{said}"
    );
}
