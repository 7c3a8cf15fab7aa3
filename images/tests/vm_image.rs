//! The VM image, made from real Debian packages around a stand-in program:
//! reproducible, complete, and its root file system alone runs qemu.
//!
//! Package files come from Coracle's cache, so that tests fetch them once.

#![expect(clippy::unwrap_used, reason = "in a test a failed step is the failure")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use coracle_images::build::{BuildError, Built, Request, build};
use coracle_images::closure;
use coracle_images::recipe::Which;
use coracle_images::tree::Tree;
use flate2::read::GzDecoder;
use serde_json::Value;

/// Stands in for the shim: any program of ours will do.
const PROGRAM: &str = env!("CARGO_BIN_EXE_coracle-images");

fn request(out: &Path) -> Request {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap();
    Request {
        out: out.to_owned(),
        debs: cache.join("coracle/debs"),
        version: "test".to_owned(),
        epoch: 0,
    }
}

/// Builds the VM image, or says why that cannot be done here.
fn build_vm(out: &Path) -> Option<Built> {
    match build(&request(out), Which::Vm, Path::new(PROGRAM), &mut |_| {}) {
        Ok(built) => Some(built),
        Err(BuildError::Package(error)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{:#}", anyhow::Error::new(error)),
    }
}

/// The VM image, built once for all tests of this file.
fn shared_vm() -> Option<&'static Built> {
    static BUILT: OnceLock<Option<Built>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-image");
            let _ = fs::remove_dir_all(&out);
            build_vm(&out)
        })
        .as_ref()
}

/// The archive's blobs by digest, and its index.
fn read_archive(path: &Path) -> (BTreeMap<String, Vec<u8>>, Value) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(File::open(path).unwrap())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    let index = serde_json::from_slice(&files["index.json"]).unwrap();
    let blobs = files
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.strip_prefix("blobs/")?.replace('/', ":"), bytes)))
        .collect();
    (blobs, index)
}

fn parse(blobs: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Value {
    serde_json::from_slice(&blobs[descriptor["digest"].as_str().unwrap()]).unwrap()
}

/// Unpacks all layers into `root`, as a runtime would.
fn unpack(archive: &Path, root: &Path) {
    let (blobs, index) = read_archive(archive);
    let manifest = parse(&blobs, &index["manifests"][0]);
    for layer in manifest["layers"].as_array().unwrap() {
        let blob = &blobs[layer["digest"].as_str().unwrap()];
        let mut layer = tar::Archive::new(GzDecoder::new(&blob[..]));
        layer.set_preserve_permissions(true);
        layer.unpack(root).unwrap();
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
}

fn read_tree(root: &Path, at: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            read_tree(root, &path, tree);
        } else if metadata.is_symlink() {
            tree.symlink(name, fs::read_link(&path).unwrap().to_str().unwrap());
        } else {
            tree.file(name, metadata.mode(), fs::read(&path).unwrap());
        }
    }
}

#[test]
fn two_builds_make_the_same_bytes_and_a_third_is_not_made() {
    let two = tempfile::tempdir().unwrap();
    let (Some(first), Some(second)) = (shared_vm(), build_vm(two.path())) else {
        return;
    };
    assert_eq!(first.identity, second.identity);
    assert_eq!(
        fs::read(&first.archive).unwrap(),
        fs::read(&second.archive).unwrap()
    );
    assert!(!first.cached && !second.cached);

    let again = build_vm(two.path()).unwrap();
    assert!(again.cached);
    assert_eq!(again.identity, first.identity);
}

#[test]
fn the_image_is_what_its_name_says_and_within_its_size() {
    let Some(built) = shared_vm() else {
        return;
    };
    assert!(built.archive.ends_with("vm.tar"));
    assert!(
        built.identity.compressed_bytes < 40 << 20,
        "{:?}",
        built.identity
    );

    let (blobs, index) = read_archive(&built.archive);
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"], built.identity.digest);
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "coracle.dev/vm:test"
    );
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "test"
    );
    let config = parse(&blobs, &parse(&blobs, entry)["config"]);
    assert_eq!(config["config"]["User"], "107:107");
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/usr/bin/coracle-shim", "run"])
    );
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}

#[test]
fn the_root_file_system_is_complete_and_holds_no_shell() {
    let root = tempfile::tempdir().unwrap();
    let Some(built) = shared_vm() else {
        return;
    };
    unpack(&built.archive, root.path());
    let mut tree = Tree::default();
    read_tree(root.path(), root.path(), &mut tree);

    assert_eq!(closure::unsatisfied(&tree), BTreeMap::new());
    let programs: Vec<_> = tree
        .iter()
        .filter_map(|(path, _)| path.strip_prefix("usr/bin/"))
        .collect();
    assert_eq!(programs, ["coracle-shim", "qemu-system-x86_64"]);
    assert!(
        tree.get("usr/share/doc/qemu-system-x86/copyright")
            .is_some()
    );
    for (path, node) in tree.iter() {
        assert_eq!(node.mode & 0o6000, 0, "/{path} is setuid");
    }
}

/// `qemu` in a root that holds nothing but the image, as the image's user.
fn qemu_in(root: &Path) -> Option<Command> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: chroot needs root");
        return None;
    }
    // qemu tries its locks on the node that every container has.
    let null = Command::new("mknod")
        .arg("-m")
        .arg("0666")
        .arg(root.join("dev/null"))
        .args(["c", "1", "3"])
        .status();
    assert!(null.unwrap().success());
    let mut command = Command::new("timeout");
    command
        .args(["120", "chroot", "--userspec=107:107"])
        .arg(root);
    command.args([
        "/usr/bin/qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
    ]);
    command.args([
        "-accel", "tcg", "-M", "q35", "-display", "none", "-vga", "none",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

#[test]
fn qemu_greets_on_qmp_from_the_image_alone() {
    let root = tempfile::tempdir().unwrap();
    let Some(built) = shared_vm() else {
        return;
    };
    unpack(&built.archive, root.path());
    let Some(mut qemu) = qemu_in(root.path()) else {
        return;
    };
    // Its standard input is at its end, so qemu greets and goes on; the
    // commands come from a file.
    fs::write(
        root.path().join("qmp"),
        "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}",
    )
    .unwrap();
    let commands = File::open(root.path().join("qmp")).unwrap();
    let output = qemu
        .args(["-S", "-qmp", "stdio"])
        .stdin(commands)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("{\"QMP\": {\"version\""), "{said} {output:?}");
    assert!(said.contains("SHUTDOWN"), "{said} {output:?}");
    assert!(output.status.success(), "{output:?}");
}

/// Says `OK` on the serial port and ends qemu through isa-debug-exit.
fn boot_sector() -> Vec<u8> {
    let mut code = vec![0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    for letter in *b"OK" {
        code.extend([0xb0, letter, 0xee]); // mov al, letter; out dx, al
    }
    code.extend([0xb0, 0x10, 0xe6, 0xf4]); // mov al, 0x10; out 0xf4, al
    code.extend([0xf4, 0xeb, 0xfd]); // hlt; jmp back to it
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

#[test]
fn a_boot_sector_boots_through_the_image_s_firmware() {
    let root = tempfile::tempdir().unwrap();
    let Some(built) = shared_vm() else {
        return;
    };
    unpack(&built.archive, root.path());
    let Some(mut qemu) = qemu_in(root.path()) else {
        return;
    };
    let disk = root.path().join("disk");
    // A disk of one sector is one that SeaBIOS does not read.
    fs::write(&disk, boot_sector()).unwrap();
    File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let output = qemu
        .args([
            "-serial",
            "stdio",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=1",
        ])
        .args([
            "-blockdev",
            "driver=file,filename=/disk,node-name=d,read-only=on",
        ])
        .args(["-device", "virtio-blk-pci,drive=d,bootindex=1"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "OK", "{output:?}");
    assert_eq!(output.status.code(), Some(0x21), "{output:?}");
}

#[test]
fn something_that_is_no_program_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let script = out.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let refusal = |program: &Path| {
        build(&request(out.path()), Which::Pause, program, &mut |_| {}).unwrap_err()
    };
    assert!(matches!(
        refusal(&script),
        BuildError::NotAProgram { source: None, .. }
    ));
    assert!(matches!(
        refusal(Path::new("/nonexistent")),
        BuildError::Program { .. }
    ));
}
