//! The whole of it on files of a directory: each refusal is made once, and
//! what a good machine finds is what it asks for.

use std::os::unix::fs::FileTypeExt as _;

use coracle_api::machine::{CloudInitData, Disk, DiskSource, Firmware};
use coracle_api::report::TerminationReason;
use coracle_api::types::{Accelerator, DiskBus};

use super::*;
use crate::qemu::tests::sample;

/// A container in a directory: its paths, and a machine of one ephemeral disk.
struct Container {
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Container {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let container = Self {
            machine: sample::machine(Accelerator::Emulation),
            dir,
        };
        container.write("meminfo", "MemAvailable: 1048576 kB\n");
        let path = container.path("scratch.img");
        container.with_disk(DiskSource::Ephemeral {
            path,
            size_bytes: 1 << 20,
        })
    }

    fn with_disk(mut self, source: DiskSource) -> Self {
        self.machine.disks = vec![Disk {
            source,
            ..sample::disk("root", DiskBus::Virtio)
        }];
        self
    }

    fn path(&self, name: &str) -> String {
        self.dir
            .path()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("a file");
    }

    fn paths(&self) -> Paths {
        Paths {
            run_dir: self.dir.path().to_owned(),
            kvm: self.dir.path().join("kvm"),
            meminfo: self.dir.path().join("meminfo"),
            cpuinfo: self.dir.path().join("cpuinfo"),
            qemu: crate::qemu::PROGRAM.into(),
            cgroup: self.dir.path().join("cgroup"),
            devices: DevicePaths::default(),
        }
    }

    fn prepare(&self) -> Result<Found, Refusal> {
        prepare(&self.machine, &self.paths(), &Environment::default())
    }

    fn refused(&self) -> (TerminationReason, String) {
        let refusal = self.prepare().expect_err("a refusal");
        (refusal.reason(), refusal.message())
    }
}

#[test]
fn a_description_that_is_not_there_is_named_with_the_annotation() {
    let container = Container::new();
    let refusal = load(container.dir.path()).expect_err("no file");
    assert_eq!(refusal.reason(), TerminationReason::InvalidMachine);
    let text = refusal.message();
    for part in ["machine.json", "coracle.dev/machine", "No such file"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_malformed_description_is_told_with_line_and_column() {
    let container = Container::new();
    let good = container.machine.to_json();
    let odd = good.replace("\"name\":\"web\"", "\"name\":\n  7");
    for (text, part) in [("{", "line 1"), (odd.as_str(), "line 2"), ("", "EOF")] {
        container.write(names::MACHINE_FILE, text);
        let refusal = load(container.dir.path()).expect_err("malformed");
        assert_eq!(refusal.reason(), TerminationReason::InvalidMachine);
        let message = refusal.message();
        assert!(
            message.contains(part) && message.contains("column"),
            "{message}"
        );
    }
}

#[test]
fn a_newer_description_is_called_newer() {
    let container = Container::new();
    let newer = container
        .machine
        .to_json()
        .replace("\"version\":1", "\"version\":2");
    container.write(names::MACHINE_FILE, &newer);
    let refusal = load(container.dir.path()).expect_err("newer");
    assert_eq!(refusal.reason(), TerminationReason::UnsupportedVersion);
    assert!(
        refusal.message().contains("version 2"),
        "{}",
        refusal.message()
    );
}

#[test]
fn a_good_description_is_read() {
    let container = Container::new();
    container.write(names::MACHINE_FILE, &container.machine.to_json());
    assert_eq!(load(container.dir.path()).expect("good"), container.machine);
}

#[test]
fn a_good_machine_gets_its_disks_and_keeps_them() {
    let container = Container::new();
    let found = container.prepare().expect("good");
    assert_eq!(found.disks[0].facts.size_bytes, 1 << 20);
    assert_eq!(found.disks[0].facts.path, container.path("scratch.img"));
    // A second VM on the same disk is kept off it while the first one lives.
    let (reason, text) = container.refused();
    assert_eq!(reason, TerminationReason::DiskBusy, "{text}");
    drop(found);
    container.prepare().expect("free again");
}

#[test]
fn problems_of_the_description_come_before_everything_else() {
    let mut container = Container::new();
    container.machine.memory_bytes = u64::MAX;
    container.machine.disks[0].serial = "a,b".into();
    let (reason, text) = container.refused();
    assert_eq!(reason, TerminationReason::InvalidMachine);
    assert!(
        text.contains("MiB") && text.contains("disk \"root\": the serial number"),
        "{text}"
    );
    let refusal = container.prepare().expect_err("a refusal");
    assert_eq!(refusal.to_termination().disk.as_deref(), Some("root"));
}

#[test]
fn a_missing_kernel_is_named() {
    let mut container = Container::new();
    let kernel = container.path("vmlinuz");
    container.machine.firmware = Firmware::Kernel {
        kernel: kernel.clone(),
        initrd: None,
        cmdline: String::new(),
    };
    let (reason, text) = container.refused();
    assert_eq!(reason, TerminationReason::InvalidMachine);
    assert!(text.contains(&kernel), "{text}");
}

#[test]
fn too_much_memory_is_refused_with_both_numbers() {
    let mut container = Container::new();
    container.machine.memory_bytes = 2 << 30;
    let (reason, text) = container.refused();
    assert_eq!(reason, TerminationReason::MemoryUnavailable);
    assert!(
        text.contains("2048 MiB") && text.contains("1024 MiB"),
        "{text}"
    );
}

#[test]
fn kvm_is_probed_only_when_it_is_asked_for() {
    let mut container = Container::new();
    container.prepare().expect("emulation needs no KVM");
    container.machine.accelerator = Accelerator::Kvm;
    let (reason, text) = container.refused();
    assert_eq!(reason, TerminationReason::KvmUnavailable);
    assert!(
        text.contains("coracle.dev/kvm") && text.contains("/kvm"),
        "{text}"
    );
    let environment = Environment {
        kvm_probe: Some("thorough".into()),
        ..Environment::default()
    };
    let refusal = prepare(&container.machine, &container.paths(), &environment);
    let text = refusal.expect_err("no such level").message();
    assert!(text.contains("CORACLE_KVM_PROBE is \"thorough\""), "{text}");
}

#[test]
fn a_missing_disk_is_named_with_its_reason() {
    let path = "/nonexistent/root".to_owned();
    let container = Container::new().with_disk(DiskSource::Block { path });
    let refusal = container.prepare().expect_err("a refusal");
    let termination = refusal.to_termination();
    assert_eq!(termination.reason, TerminationReason::DiskNotFound);
    assert_eq!(termination.disk.as_deref(), Some("root"));
    assert!(
        termination.message.starts_with("disk \"root\""),
        "{}",
        termination.message
    );
    assert!(
        termination.message.contains("/nonexistent/root"),
        "{}",
        termination.message
    );
}

#[test]
fn a_device_that_is_none_is_invalid() {
    let container = Container::new();
    container.write("file", "x");
    let path = container.path("file");
    let (reason, text) = container.with_disk(DiskSource::Block { path }).refused();
    assert_eq!(reason, TerminationReason::DiskInvalid, "{text}");
}

#[test]
fn cloud_init_data_becomes_a_seed_of_this_instance() {
    let container = Container::new();
    container.write("userdata", "#cloud-config\n");
    let user_data = CloudInitData::Path(container.path("userdata"));
    let network_data = Some(CloudInitData::Inline("version: 2\n".into()));
    let container = container.with_disk(DiskSource::CloudInit {
        user_data,
        network_data,
    });
    let found = container.prepare().expect("good");
    let [disk] = &found.disks[..] else {
        panic!("one disk")
    };
    assert!(disk.disk.read_only);
    assert_eq!(disk.facts.path, container.path("seed-root.img"));
    let image = fs::read(&disk.facts.path).expect("a seed");
    let expected = crate::seed::Seed {
        instance_id: container.machine.uid.as_deref().expect("a uid"),
        local_hostname: "web",
        user_data: b"#cloud-config\n",
        network_config: Some(b"version: 2\n"),
    };
    assert_eq!(image, expected.image().expect("an image"));
    drop(found);
    container
        .prepare()
        .expect("made anew when the container starts again");
}

#[test]
fn cloud_init_data_that_cannot_be_had_is_named() {
    let of = |path: String| DiskSource::CloudInit {
        user_data: CloudInitData::Path(path),
        network_data: None,
    };
    let container = Container::new();
    let missing = container.path("userdata");
    let (reason, text) = container.with_disk(of(missing.clone())).refused();
    assert_eq!(reason, TerminationReason::DiskNotFound);
    assert!(text.contains(&missing) && text.contains("secret"), "{text}");

    let container = Container::new();
    let directory = container.path("");
    let (reason, _) = container.with_disk(of(directory)).refused();
    assert_eq!(reason, TerminationReason::HostFailed);

    let container = Container::new();
    let zero = fs::metadata("/dev/zero").expect("a device");
    assert!(zero.file_type().is_char_device());
    let (reason, text) = container.with_disk(of("/dev/zero".into())).refused();
    assert_eq!(reason, TerminationReason::InvalidMachine);
    assert!(text.contains("user-data has more than"), "{text}");
}

#[test]
fn a_runtime_directory_that_is_not_there_is_the_hosts_trouble() {
    let user_data = CloudInitData::Inline(String::new());
    let container = Container::new().with_disk(DiskSource::CloudInit {
        user_data,
        network_data: None,
    });
    let paths = Paths {
        run_dir: "/nonexistent".into(),
        ..container.paths()
    };
    let refusal = prepare(&container.machine, &paths, &Environment::default());
    let refusal = refusal.expect_err("no directory");
    assert_eq!(refusal.reason(), TerminationReason::HostFailed);
    assert!(
        refusal.message().contains("/nonexistent/seed-root.img"),
        "{}",
        refusal.message()
    );
}

#[test]
fn the_environment_is_read_by_name() {
    let of = |value: Option<&str>| {
        let variable = value.map(|value| (names::ENV_KVM_PROBE.to_owned(), value.to_owned()));
        Environment::of(variable)
    };
    assert_eq!(of(Some("run")).kvm_probe.as_deref(), Some("run"));
    assert_eq!(of(None).kvm_probe, None);
}
