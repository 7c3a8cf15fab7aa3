//! Mistakes: each gets an error that says what, where and how to mend it, and
//! leaves nothing.

use std::process::Command;

use coracle_tests::{Node, Run, vm};

use crate::refused::{CONFIG, HOST, refused};

const GOOD: &str = "\
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

/// What of the good manifest is replaced, by what, and the words that it gets.
const MISTAKES: [(&str, &str, &[&str]); 10] = [
    (
        "bootOrder: 1",
        "bootorder: 1",
        &["vm.yaml:10:", "bootorder", "did you mean \"bootOrder\""],
    ),
    (
        "memory: 64Mi",
        "memory: [64]",
        &["vm.yaml:7:", "spec.memory"],
    ),
    (
        "memory: 64Mi",
        "memory: 64MB",
        &["vm.yaml:7:", "spec.memory", "64MB"],
    ),
    (
        "Emulation",
        "Qemu",
        &["vm.yaml:6:", "spec.accelerator", "Kvm", "Emulation"],
    ),
    ("memory: 64Mi", "cpus: two", &["vm.yaml:7:", "spec.cpus"]),
    (
        "  memory: 64Mi\n",
        "",
        &["vm.yaml:6:", "\"memory\" is missing"],
    ),
    (
        "name: web",
        "name: Web",
        &["vm.yaml:4:", "metadata.name", "lower-case"],
    ),
    ("{size: 1Mi}", "{size: 1Mi", &["vm.yaml:"]),
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

#[test]
fn a_mistake_in_a_manifest_is_told_with_its_line() -> anyhow::Result<()> {
    let Some(node) = Node::new()? else {
        return Ok(());
    };
    for (from, to, words) in MISTAKES {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let file = node.file("vm.yaml", text)?;
        refused(&node, &mut node.coracle(&["run", &file])?, CONFIG, words)
            .map_err(|error| error.context(to))?;
    }
    let missing = node.dir().join("none.yaml").display().to_string();
    refused(
        &node,
        &mut node.coracle(&["run", &missing])?,
        CONFIG,
        &[&missing, "cannot be read"],
    )
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
