//! Devices of a made-up node: sysfs in a directory, and for nodes links to the
//! memory devices, which open and have numbers of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use coracle_api::machine::Device;
use coracle_api::report::TerminationReason as Reason;
use coracle_api::types::Accelerator;
use proptest::prelude::*;
use tempfile::TempDir;

use super::assign::{assign, names};
use super::*;
use crate::qemu::tests::sample;

const GPU: &str = "0000:3b:00.0";
const AUDIO: &str = "0000:3b:00.1";
const PART: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";

/// A node, and the variables of a container on it.
struct Node {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            dir: tempfile::tempdir().expect("a directory"),
            variables: vec![],
        };
        // The process under test may be root's, whom no limit holds.
        node.file("status", "CapEff:\t000001ffffffffff\n");
        node
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    }

    fn link(&self, to: impl AsRef<Path>, path: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        symlink(self.dir.path().join(to), path).expect("a link");
    }

    /// A device on `bus` in a group.
    fn device(&self, bus: &str, id: &str, group: &str) {
        let device = format!("sys/bus/{bus}/devices/{id}");
        let groups = format!("sys/kernel/iommu_groups/{group}");
        self.link(&groups, &format!("{device}/iommu_group"));
        self.link(&device, &format!("{groups}/devices/{id}"));
    }

    fn pci(&self, id: &str, group: &str, driver: &str) {
        self.device("pci", id, group);
        let driver = format!("sys/bus/pci/drivers/{driver}");
        self.link(driver, &format!("sys/bus/pci/devices/{id}/driver"));
    }

    /// The node of a group, which is `memory` here.
    fn group(&self, group: &str, memory: &str, numbers: &str) {
        self.file(&format!("sys/class/vfio/{group}/dev"), numbers);
        self.link(memory, &format!("dev/vfio/{group}"));
        if !self.dir.path().join("dev/vfio/vfio").exists() {
            self.link("/dev/null", "dev/vfio/vfio");
        }
    }

    /// A function in a group of its own, with its node.
    fn gpu() -> Self {
        let node = Self::new();
        node.pci(GPU, "7", "vfio-pci");
        node.group("7", "/dev/zero", "1:5\n");
        node
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is found for devices of these resources.
    fn find(&self, resources: &[&str]) -> Result<Vec<Passed>, Refusal> {
        let mut machine = sample::machine(Accelerator::Kvm);
        machine.devices = devices(resources);
        let path = |name: &str| self.dir.path().join(name);
        let paths = DevicePaths {
            sys: path("sys"),
            dev: path("dev"),
            status: path("status"),
        };
        let found = find(&machine, &Variables::of(self.variables.clone()), &paths)?;
        Ok(found.into_iter().map(|found| found.passed).collect())
    }

    /// Why the first of these is refused.
    #[track_caller]
    fn refused(&self, resources: &[&str], parts: &[&str]) {
        let refusal = self.find(resources).expect_err("refused");
        assert_eq!(refusal.reason(), Reason::DeviceUnavailable);
        assert_eq!(refusal.reason().exit_code(), 3);
        let text = refusal.message();
        for part in parts {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}

fn devices(resources: &[&str]) -> Vec<Device> {
    let device = |(index, resource): (usize, &&str)| Device {
        name: format!("d{index}"),
        resource: (*resource).to_owned(),
    };
    resources.iter().enumerate().map(device).collect()
}

fn pci(host: &str) -> Passed {
    Passed::Pci { host: host.into() }
}

#[test]
fn each_plugins_variable_leads_to_a_function() {
    for name in [
        "CORACLE_DEVICE_EXAMPLE_COM_A_10",
        "PCI_RESOURCE_EXAMPLE_COM_A-10",
        "PCI_RESOURCE_EXAMPLE_COM_A_10",
        "PCIDEVICE_EXAMPLE_COM_A_10",
    ] {
        let node = Node::gpu().with(name, GPU);
        let found = node.find(&["example.com/a-10"]).expect("found");
        assert_eq!(found, [pci(GPU)], "{name}");
    }
}

#[test]
fn a_mediated_device_is_a_directory_of_sysfs() {
    let node = Node::new().with("MDEV_PCI_RESOURCE_EXAMPLE_COM_VGPU", PART);
    node.device("mdev", PART, "9");
    node.group("9", "/dev/full", "1:7");
    let dir = node.dir.path().join("sys/bus/mdev/devices").join(PART);
    let sysfsdev = dir.display().to_string();
    let found = node.find(&["example.com/vgpu"]).expect("found");
    assert_eq!(found, [Passed::Mdev { sysfsdev }]);
}

fn usb(node: &Node, port: &str, number: &str, numbers: &str) {
    let file = |name: &str| format!("sys/bus/usb/devices/{port}/{name}");
    node.file(&file("busnum"), "1\n");
    node.file(&file("devnum"), number);
    node.file(&file("dev"), numbers);
}

#[test]
fn a_usb_device_is_found_by_port_and_by_number() {
    for (name, value) in [
        ("CORACLE_DEVICE_EXAMPLE_COM_KEY", "1-4.2"),
        ("USB_RESOURCE_EXAMPLE_COM_KEY", "1:7"),
    ] {
        let node = Node::new().with(name, value);
        usb(&node, "1-4.2", "7\n", "1:5\n");
        node.link("/dev/zero", "dev/bus/usb/001/007");
        let path = node.dir.path().join("dev/bus/usb/001/007");
        let hostdevice = path.display().to_string();
        let found = node.find(&["example.com/key"]).expect("found");
        assert_eq!(found, [Passed::Usb { hostdevice }], "{name}");
    }
}

#[test]
fn a_usb_device_that_was_plugged_in_again_is_found_by_its_numbers() {
    let node = Node::new().with("CORACLE_DEVICE_EXAMPLE_COM_KEY", "1-4.2");
    usb(&node, "1-4.2", "8", "1:7");
    node.link("/dev/zero", "dev/bus/usb/001/006");
    node.link("/dev/full", "dev/bus/usb/001/007");
    let path = node.dir.path().join("dev/bus/usb/001/007");
    let hostdevice = path.display().to_string();
    let found = node.find(&["example.com/key"]).expect("found");
    assert_eq!(found, [Passed::Usb { hostdevice }]);
    fs::remove_file(path).expect("unplugged");
    node.refused(&["example.com/key"], &["bus/usb/001/008", "no node"]);
}

#[test]
fn devices_of_one_resource_take_its_list_in_order() {
    let node = Node::gpu().with("CORACLE_DEVICE_A_B_GPU", &format!("{AUDIO},{GPU}"));
    node.pci(AUDIO, "7", "vfio-pci");
    let found = node.find(&["a.b/gpu", "a.b/gpu"]).expect("found");
    assert_eq!(found, [pci(AUDIO), pci(GPU)]);
    node.refused(&["a.b/gpu"; 3], &["device \"d2\" (a.b/gpu)", "names 2"]);
}

#[test]
fn no_two_devices_are_one() {
    let twice = format!("{GPU},{GPU}");
    let node = Node::gpu().with("PCI_RESOURCE_A_B_GPU", &twice);
    node.refused(&["a.b/gpu", "a.b/gpu"], &["device \"d1\"", GPU, "\"d0\""]);
    let node = Node::gpu()
        .with("PCI_RESOURCE_A_B_GPU", GPU)
        .with("PCI_RESOURCE_A_B_NPU", &GPU.to_uppercase());
    node.refused(&["a.b/gpu", "a.b/npu"], &["two resources lead to one"]);
    let node = Node::new()
        .with("CORACLE_DEVICE_A_B_KEY", "1-4")
        .with("USB_RESOURCE_A_B_OTHER", "1:7");
    usb(&node, "1-4", "7", "1:5");
    node.link("/dev/zero", "dev/bus/usb/001/007");
    node.refused(&["a.b/key", "a.b/other"], &["two resources lead to one"]);
}

#[test]
fn what_is_no_device_for_a_guest_is_named() {
    for id in [
        "kvm-0",
        "ttyUSB0",
        "0000:3b:00",
        "1-",
        "mlx5_core.sf.2",
        "a:b",
        "1:99999",
    ] {
        let node = Node::new().with("CORACLE_DEVICE_A_B_C", id);
        node.refused(&["a.b/c"], &["CORACLE_DEVICE_A_B_C", id, "no PCI function"]);
    }
    Node::new().refused(&["a.b/c"], &["CORACLE_DEVICE_A_B_C", "none was given"]);
    // An empty list is a list.
    let node = Node::new().with("CORACLE_DEVICE_A_B_C", " ,");
    node.refused(&["a.b/c"], &["names 0"]);
}

#[test]
fn everything_on_the_way_to_a_function_is_looked_at() {
    let gpu = |node: Node| node.with("CORACLE_DEVICE_A_B_C", GPU);
    gpu(Node::new()).refused(&["a.b/c"], &[GPU, "is not there"]);

    let node = gpu(Node::new());
    node.pci(GPU, "7", "nouveau");
    node.refused(&["a.b/c"], &["nouveau", "driverctl set-override"]);

    let node = gpu(Node::new());
    node.link(
        "sys/bus/pci/drivers/vfio-pci",
        &format!("sys/bus/pci/devices/{GPU}/driver"),
    );
    node.refused(&["a.b/c"], &["no IOMMU group"]);

    let node = gpu(Node::new());
    node.pci(GPU, "7", "mlx5_vfio_pci");
    node.refused(&["a.b/c"], &["dev/vfio/7", "is not in the container"]);

    // The container's node is called as before the node booted.
    node.group("5", "/dev/zero", "1:5");
    node.file("sys/class/vfio/7/dev", "1:5");
    node.refused(
        &["a.b/c"],
        &["IOMMU group 7 now", "dev/vfio/5", "delete the pod"],
    );

    // It is even called as another group's.
    let node = Node::gpu().with("CORACLE_DEVICE_A_B_C", GPU);
    node.file("sys/class/vfio/7/dev", "1:7");
    node.refused(&["a.b/c"], &["is not in the container"]);

    let node = gpu(Node::new());
    node.pci(GPU, "7", "vfio-pci");
    node.file("dev/iommu", "");
    node.file("dev/vfio/devices/vfio0", "");
    node.refused(&["a.b/c"], &["only /dev/iommu", "dev/vfio/7"]);

    // A node that nothing is behind.
    let node = Node::gpu().with("CORACLE_DEVICE_A_B_C", GPU);
    fs::remove_file(node.dir.path().join("dev/vfio/vfio")).expect("there");
    node.refused(&["a.b/c"], &["dev/vfio/vfio", "cannot be opened"]);
}

#[test]
fn nodes_without_names_are_taken_where_there_is_one_way_to() {
    let node = Node::gpu();
    assert_eq!(node.find(&["a.b/gpu"]).expect("found"), [pci(GPU)]);
    node.refused(&["a.b/gpu", "a.b/gpu"], &[GPU, "not one for each"]);
    node.refused(&["a.b/gpu", "a.b/npu"], &["not one for each"]);

    // A second function in the group: which of them is meant?
    node.pci(AUDIO, "7", "vfio-pci");
    node.refused(&["a.b/gpu"], &[GPU, AUDIO, "CORACLE_DEVICE_A_B_GPU"]);
    let both = node.find(&["a.b/gpu", "a.b/gpu"]).expect("found");
    assert_eq!(both, [pci(GPU), pci(AUDIO)]);

    // One that has a name is not taken for another.
    let node = node.with("PCIDEVICE_A_B_GPU", GPU);
    node.refused(
        &["a.b/gpu", "a.b/npu"],
        &["device \"d1\" (a.b/npu)", "none was given"],
    );
    node.link("/dev/full", "dev/bus/usb/002/003");
    let path = node.dir.path().join("dev/bus/usb/002/003");
    let hostdevice = path.display().to_string();
    let found = node.find(&["a.b/key", "a.b/gpu"]).expect("found");
    assert_eq!(found, [Passed::Usb { hostdevice }, pci(GPU)]);
}

#[test]
fn a_machine_without_devices_needs_nothing() {
    let node = Node::new().with("CORACLE_DEVICE_A_B_C", "nonsense");
    assert_eq!(node.find(&[]).expect("nothing"), []);
}

/// Texts as they are in such variables, and others.
fn value() -> impl Strategy<Value = String> {
    let id = prop_oneof![
        "0000:0[0-3]:0[0-1]\\.[0-8]",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[1-2]-[1-3](\\.[1-2])?",
        "[0-3]:[0-9]{1,6}",
        "\\PC{0,12}",
    ];
    proptest::collection::vec(id, 0..5).prop_map(|ids| ids.join(","))
}

proptest! {
    #[test]
    fn no_environment_makes_it_panic_and_no_two_devices_share(
        resources in proptest::collection::vec(prop_oneof![Just("a.b/c"), Just("a.b/c-d"), Just("a.b/c_d")], 1..6),
        values in proptest::collection::vec((0..5_usize, value()), 0..6),
    ) {
        let variables = values.into_iter().map(|(prefix, value)| {
            let names: Vec<String> = resources.iter().flat_map(|resource| names(resource)).collect();
            (names[prefix * 7 % names.len()].clone(), value)
        });
        let devices = devices(&resources);
        match assign(&devices, &Variables::of(variables)) {
            Ok(assigned) => {
                prop_assert_eq!(assigned.len(), devices.len());
                let mut ids: Vec<_> = assigned.iter().flatten().map(|a| a.id.clone()).collect();
                let count = ids.len();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), count);
            }
            Err((index, error)) => {
                prop_assert!(index < devices.len());
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
