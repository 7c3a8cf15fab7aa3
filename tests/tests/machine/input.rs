//! Mistakes: each gets an error that says what, where and how to mend it, and
//! leaves nothing.

use std::path::Path;
use std::process::Command;

use coracle_tests::{Manifest, Node, Run, disk, vm};
use serde_json::json;

/// Exit codes of the command.
const CONFIG: i32 = 2;
const HOST: i32 = 3;

/// A run that is refused: with this exit code, these words, no output, and
/// nothing left.
fn refused(node: &Node, command: &mut Command, code: i32, words: &[&str]) -> anyhow::Result<()> {
    let finished = Run::start(command)?.finish()?.expect_code(code)?;
    finished.expect_said(words)?;
    assert_eq!(finished.stdout, "");
    node.expect_clean()
}

/// Manifests as text: what is wrong with them is told with file and line.
#[test]
fn a_mistake_in_a_manifest_is_told_with_its_line() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let good = "\
apiVersion: coracle.dev/v1alpha1
kind: VirtualMachine
metadata:
  name: web
spec:
  accelerator: Emulation
  memory: 64Mi
  disks:
  - name: root
    bootOrder: 1
    ephemeral: {size: 1Mi}
";
    let cases: [(&str, &str, &[&str]); 10] = [
        (
            "    bootOrder: 1",
            "    bootorder: 1",
            &["vm.yaml:10:", "bootorder", "did you mean \"bootOrder\""],
        ),
        (
            "  memory: 64Mi",
            "  memory: [64]",
            &["vm.yaml:7:", "spec.memory"],
        ),
        (
            "  memory: 64Mi",
            "  memory: 64MB",
            &["vm.yaml:7:", "spec.memory", "64MB"],
        ),
        (
            "Emulation",
            "Qemu",
            &["vm.yaml:6:", "spec.accelerator", "Kvm", "Emulation"],
        ),
        (
            "  memory: 64Mi",
            "  cpus: two",
            &["vm.yaml:7:", "spec.cpus"],
        ),
        (
            "  memory: 64Mi\n",
            "",
            &["vm.yaml:6:", "\"memory\" is missing"],
        ),
        (
            "  name: web",
            "  name: Web",
            &["vm.yaml:4:", "metadata.name", "lower-case"],
        ),
        (
            "    ephemeral: {size: 1Mi}",
            "    ephemeral: {size: 1Mi",
            &["vm.yaml:"],
        ),
        (
            "VirtualMachine",
            "VirtualMashine",
            &["vm.yaml:2:", "VirtualMashine"],
        ),
        (
            "    ephemeral: {size: 1Mi}\n",
            "    ephemeral: {size: 1Mi}\n  - name: root\n    ephemeral: {size: 1Mi}\n",
            &["vm.yaml:9:", "two entries have the name \"root\""],
        ),
    ];
    for (from, to, words) in cases {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let file = node.file("vm.yaml", text)?;
        refused(&node, &mut node.coracle(&["run", &file])?, CONFIG, words)
            .map_err(|error| error.context(to.to_owned()))?;
    }
    let missing = node.dir().join("none.yaml").display().to_string();
    refused(
        &node,
        &mut node.coracle(&["run", &missing])?,
        CONFIG,
        &[&missing, "cannot be read"],
    )
}

/// A manifest, its volumes, and the exit code and the words that it gets.
type Case<'a> = (
    &'a dyn Fn() -> Manifest,
    Vec<(&'a str, &'a Path)>,
    i32,
    &'a [&'a str],
);

#[test]
fn a_claim_that_nothing_or_the_wrong_thing_plays_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let image = node.file("root.img", vec![0; 1 << 20])?;
    let qcow = node.file("root.qcow2", [&b"QFI\xfb"[..], &[0; 4092]].concat())?;
    let odd = node.file("odd.img", vec![0; 1000])?;
    let directory = node.dir().join("directory");
    std::fs::create_dir(&directory)?;
    let (image, qcow, odd) = (Path::new(&image), Path::new(&qcow), Path::new(&odd));
    let nothing = node.dir().join("nothing");
    let block = || vm("web").boots_from("root");
    let mounted = || {
        let fields = json!({"bootOrder": 1, "claim": {"name": "root"}});
        vm("web")
            .with_disk(disk("root", fields))
            .with_claim("root", "Filesystem", "64Mi")
    };
    let big = || {
        let fields = json!({"bootOrder": 1, "claim": {"name": "root"}});
        vm("web")
            .with_disk(disk("root", fields))
            .with_claim("root", "Block", "1Gi")
    };
    let unclaimed = || {
        vm("web").with_disk(disk(
            "root",
            json!({"bootOrder": 1, "claim": {"name": "root"}}),
        ))
    };
    let odd_mode = || unclaimed().with_claim("root", "Tape", "1Mi");
    let cases: [Case<'_>; 13] = [
        (
            &unclaimed,
            vec![("root", image)],
            CONFIG,
            &["PersistentVolumeClaim \"root\"", "add it"],
        ),
        (
            &odd_mode,
            vec![("root", image)],
            CONFIG,
            &["volumeMode", "Tape", "Block", "Filesystem"],
        ),
        (
            &block,
            vec![],
            HOST,
            &["claim \"root\"", "nothing plays it", "--volume root=PATH"],
        ),
        (
            &block,
            vec![("root", &nothing)],
            HOST,
            &["\"root\"", "nothing does not exist", "truncate"],
        ),
        (
            &block,
            vec![("root", Path::new("/dev/null"))],
            HOST,
            &["/dev/null is a character device"],
        ),
        (
            &block,
            vec![("root", &directory)],
            HOST,
            &["is a directory", "volumeMode Block"],
        ),
        (
            &mounted,
            vec![("root", image)],
            HOST,
            &["volumeMode Filesystem", "directory"],
        ),
        (
            &block,
            vec![("root", qcow)],
            HOST,
            &["qcow2", "qemu-img convert -O raw"],
        ),
        (
            &block,
            vec![("root", odd)],
            HOST,
            &["1000 bytes", "512-byte sectors", "truncate"],
        ),
        (
            &big,
            vec![("root", image)],
            HOST,
            &["1048576 bytes", "requests 1Gi", "truncate"],
        ),
        (
            &block,
            vec![("rot", image)],
            HOST,
            &["\"rot\"", "there is: root"],
        ),
        (
            &block,
            vec![("root", image), ("root", image)],
            HOST,
            &["\"root\" twice"],
        ),
        (
            &two_claims,
            vec![("root", image), ("data", image)],
            HOST,
            &["plays both claims"],
        ),
    ];
    for (manifest, volumes, code, words) in cases {
        refused(
            &node,
            &mut node.run(&manifest(), &volumes, &[])?,
            code,
            words,
        )
        .map_err(|error| error.context(format!("{words:?}")))?;
    }
    let file = node.file("web.yaml", block().text())?;
    let mut no_path = node.coracle(&["run", &file, "--volume", "root"])?;
    refused(&node, &mut no_path, CONFIG, &["CLAIM=PATH"])
}

fn two_claims() -> Manifest {
    vm("web")
        .boots_from("root")
        .with_disk(disk("data", json!({"claim": {"name": "data"}})))
        .with_claim("data", "Block", "1Mi")
}

#[test]
fn a_device_that_the_host_has_mounted_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.disk("mounted", &[], 16 << 20)?;
    let point = node.dir().join("point");
    std::fs::create_dir(&point)?;
    must(Command::new("mkfs.ext4").arg("-q").arg(device.path()))?;
    must(Command::new("mount").arg(device.path()).arg(&point))?;
    let name = device.path().display().to_string();
    let words = [
        "\"root\"",
        &name,
        "is mounted on this machine",
        "point",
        "unmount it first",
    ];
    let manifest = vm("web").boots_from("root");
    let command = node.run(&manifest, &[("root", device.path())], &[]);
    let finished = Run::start(&mut command?)?.finish();
    must(Command::new("umount").arg(&point))?;
    let finished = finished?.expect_code(HOST)?;
    finished.expect_said(&words)?;
    node.expect_clean()
}

fn must(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

#[test]
fn a_read_only_device_is_refused_to_a_writer_and_given_to_a_reader() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.guest_disk("hello-poweroff")?;
    device.set_read_only(true)?;
    let volumes = [("root", device.path())];
    let writer = vm("writer").boots_from("root");
    let name = device.path().display().to_string();
    let words = [&name, "is read-only", "readOnly: true"];
    refused(&node, &mut node.run(&writer, &volumes, &[])?, HOST, &words)?;

    let fields = json!({"bootOrder": 1, "claim": {"name": "root"}, "readOnly": true});
    let reader = vm("reader")
        .with_disk(disk("root", fields))
        .with_claim("root", "Block", "1Mi");
    let finished = Run::start(&mut node.run(&reader, &volumes, &[])?)?
        .finish()?
        .expect_code(0)?;
    assert!(
        finished.stdout.contains("hello from the guest"),
        "{}",
        finished.stdout
    );
    node.expect_clean()
}

#[test]
fn a_guest_larger_than_the_machine_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.guest_disk("hello-poweroff")?;
    let manifest = vm("huge").boots_from("root").with("memory", "512Ti");
    let words = [
        "default/huge needs",
        "TiB",
        "this machine has",
        "lower spec.memory",
    ];
    let volumes = [("root", device.path())];
    refused(
        &node,
        &mut node.run(&manifest, &volumes, &[])?,
        HOST,
        &words,
    )
}

#[test]
fn an_image_that_is_not_there_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.guest_disk("hello-poweroff")?;
    let (manifest, volumes) = (vm("bare").boots_from("root"), [("root", device.path())]);
    let empty = node.dir().join("empty-cache");
    let mut command = node.run(&manifest, &volumes, &[])?;
    // The command looks for archives in the checkout it is called in, too.
    command
        .env("XDG_CACHE_HOME", &empty)
        .current_dir(node.dir());
    refused(
        &node,
        &mut command,
        HOST,
        &["image not there", "coracle.dev/pause", "make images"],
    )?;

    let junk = node.file("junk.tar", "this is no archive")?;
    let mut command = node.run(&manifest, &volumes, &["--image-archive", &junk])?;
    refused(&node, &mut command, HOST, &["junk.tar"])?;
    let mut command = node.run(&manifest, &volumes, &["--image", "example.com/other:1"])?;
    refused(
        &node,
        &mut command,
        HOST,
        &["does not hold example.com/other:1", "--image-archive"],
    )
}

#[test]
fn a_container_runtime_that_is_not_there_is_refused() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let device = node.guest_disk("hello-poweroff")?;
    let (manifest, volumes) = (vm("bare").boots_from("root"), [("root", device.path())]);
    let socket = node.dir().join("none.sock").display().to_string();
    let mut elsewhere = node.run(&manifest, &volumes, &["--containerd", &socket])?;
    refused(
        &node,
        &mut elsewhere,
        HOST,
        &["none.sock", "does not answer"],
    )?;

    // The same machine without the program: /dev/null in its place, in a
    // mount namespace of the command's own.
    let there = String::from_utf8(Command::new("which").arg("containerd").output()?.stdout)?;
    let run = node.run(&manifest, &volumes, &[])?;
    let mut without = Command::new("unshare");
    let script = "mount --bind /dev/null \"$0\" && exec \"$@\"";
    without
        .args(["--mount", "sh", "-c", script])
        .arg(there.trim());
    without.arg(run.get_program()).args(run.get_args());
    refused(
        &node,
        &mut without,
        HOST,
        &["containerd is not installed", "apt-get install containerd"],
    )
}

#[test]
fn somebody_who_is_not_root_is_told_so() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let file = node.file("web.yaml", vm("web").boots_from("root").text())?;
    let run = node.coracle(&["run", &file])?;
    // A copy where anybody may read it: the checkout may be root's alone.
    let program = node.dir().join("coracle");
    std::fs::copy(run.get_program(), &program)?;
    let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(node.dir(), readable)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program);
    command.args(run.get_args());
    refused(&node, &mut command, HOST, &["only root may", "sudo"])
}

#[test]
fn without_arguments_the_help_shows_examples() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    let mut bare = Command::new(node.coracle(&["ps"])?.get_program());
    let finished = Run::start(&mut bare)?.finish()?.expect_code(2)?;
    finished.expect_said(&["Examples:", "coracle run vm.yaml --volume", "coracle ps"])
}
