//! Who may not open a disk: by mode, by device cgroup, by the device itself.
//! The binary is run as the VM's user.

use std::{
    fs,
    path::{Path, PathBuf},
};

use coracle_api::report::TerminationReason::{DiskPermission, DiskReadOnly};

use crate::support::*;

#[test]
fn a_device_whose_mode_forbids_it() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    if !has("setpriv") {
        return;
    }
    let dir = public_dir();
    let binary = binary(&dir);
    let Some(node) = node(dir.path(), number(&device.path), 0o660) else {
        return;
    };
    let as_vm = |groups: &[&str], command: &str| {
        let user = ["--reuid=107", "--regid=107"];
        let program = [binary.as_str(), command, "--json", &node];
        run("setpriv", &[&user, groups, &program].concat())
    };
    let (reason, message) = failure(&as_vm(&["--clear-groups"], "open"));
    assert_eq!(reason, DiskPermission);
    assert_eq!(
        message,
        format!(
            "{node} cannot be opened for writing as uid 107 (root:root 0660): add the device's \
             group to spec.podSecurity.supplementalGroups, or set \
             device_ownership_from_security_context = true in the container runtime"
        )
    );
    let (_, message) = failure(&as_vm(&["--clear-groups"], "inspect"));
    assert!(
        message.contains("cannot be opened for reading as uid 107"),
        "{message}"
    );
    // With the group that the message asks for, it opens.
    success(&as_vm(&["--groups=0"], "open"));
}

#[test]
fn a_read_only_device_whose_mode_allows_reading() {
    let Some(device) = Loop::new(MIB, &["--read-only"]) else {
        return;
    };
    if !has("setpriv") {
        return;
    }
    let dir = public_dir();
    let binary = binary(&dir);
    let Some(node) = node(dir.path(), number(&device.path), 0o644) else {
        return;
    };
    let user = ["--reuid=107", "--regid=107", "--clear-groups"];
    let program = [binary.as_str(), "open", "--json", &node];
    let (reason, message) = failure(&run("setpriv", &[&user[..], &program].concat()));
    assert_eq!(reason, DiskReadOnly, "{message}");
}

#[test]
fn a_file_or_directory_whose_mode_forbids_it() {
    if !is_root() || !has("setpriv") {
        return;
    }
    let dir = public_dir();
    let binary = binary(&dir);
    let file = image(&dir, MIB);
    let open = |path: &Path| {
        let path = text(path);
        let user = ["--reuid=107", "--regid=107", "--clear-groups"];
        run(
            "setpriv",
            &[&user[..], &[binary.as_str(), "open", "--json", &path]].concat(),
        )
    };
    let (reason, message) = failure(&open(&file));
    assert_eq!(reason, DiskPermission);
    assert!(
        message.contains("for writing as uid 107 (root:root 0644): let the group"),
        "{message}"
    );
}

#[test]
fn a_directory_in_which_no_image_may_be_created() {
    if !is_root() || !has("setpriv") {
        return;
    }
    let dir = public_dir();
    let binary = binary(&dir);
    let claim = dir.path().join("claim");
    fs::create_dir(&claim).expect("makes a directory");
    let path = text(&claim.join("disk.img"));
    let user = ["--reuid=107", "--regid=107", "--clear-groups"];
    let program = [
        binary.as_str(),
        "open",
        "--json",
        "--create-bytes=1048576",
        &path,
    ];
    let (reason, message) = failure(&run("setpriv", &[&user[..], &program].concat()));
    assert_eq!(reason, DiskPermission);
    let start = format!(
        "{} cannot be opened for writing as uid 107 (root:root 07",
        text(&claim)
    );
    assert!(message.starts_with(&start), "{message}");
}

/// A device cgroup (version 1) below our own, removed in the end.
struct DeviceCgroup(PathBuf);

impl DeviceCgroup {
    fn new() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.split_once(":devices:"))?.1;
        let name = format!("coracle-block-test-{}", std::process::id());
        let path = Path::new("/sys/fs/cgroup/devices")
            .join(own.trim_start_matches('/'))
            .join(name);
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for DeviceCgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} was not removed: {error}", self.0.display());
        }
    }
}

#[test]
fn a_device_that_the_container_was_not_given() {
    let Some(device) = Loop::new(MIB, &[]) else {
        return;
    };
    let Some(cgroup) = DeviceCgroup::new() else {
        return skipped("no device cgroup of version 1 in which to refuse a device");
    };
    let (major, minor) = number(&device.path);
    let script = "echo $$ >\"$1/cgroup.procs\"; exec \"$2\" open --json \"$3\"";
    let binary = env!("CARGO_BIN_EXE_coracle-block");
    for denied in ["rwm", "w"] {
        fs::write(
            cgroup.0.join("devices.deny"),
            format!("b {major}:{minor} {denied}"),
        )
        .expect("denies");
        let arguments = ["-ec", script, "sh", &text(&cgroup.0), binary, &device.path];
        let (reason, message) = failure(&run("sh", &arguments));
        assert_eq!(reason, DiskPermission);
        let start = format!(
            "{} ({major}:{minor}) cannot be opened for writing: the device cgroup",
            device.path
        );
        assert!(message.starts_with(&start), "{message}");
        fs::write(
            cgroup.0.join("devices.allow"),
            format!("b {major}:{minor} rwm"),
        )
        .expect("allows");
    }
}
