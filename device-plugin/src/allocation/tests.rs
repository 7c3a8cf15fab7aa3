//! The decision, by example.

use std::sync::Arc;

use super::*;
use crate::host::UsbAddress;
use crate::listing::Health;
use crate::node::Node;

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn nodes() -> Grant {
    Grant::Node {
        dir: "/run/coracle/dev".into(),
    }
}

fn kvm() -> Listing {
    let entry = Entry {
        slots: Some(3),
        nodes: [Node::alike("", "kvm", 1)].into(),
        ..Entry::new("kvm")
    };
    let resource = Resource::new("coracle.dev/kvm", Kind::Chardev, vec![]);
    Listing::new(Arc::new(resource), vec![entry])
}

/// Two functions of group 7, one of group 8.
fn gpus(name: &str) -> Listing {
    let function = |id: &str, group| Entry {
        key: Some(Key::Group(group)),
        nodes: [
            Node::alike("", "vfio/vfio", 1),
            Node::named(&format!("pci/{id}/group"), &format!("vfio/{group}"), 1),
        ]
        .into(),
        ..Entry::new(id)
    };
    let compatibility = vec![Compatibility::Kubevirt, Compatibility::Sriov];
    let resource = Resource::new(name, Kind::Pci, compatibility);
    let entries = vec![
        function("0000:01:00.0", 7),
        function("0000:01:00.1", 7),
        function("0000:02:00.0", 8),
    ];
    Listing::new(Arc::new(resource), entries)
}

/// What one container is answered, if nobody has anything.
fn alone(listing: &Listing, grant: &Grant, devices: &[&str]) -> Result<Granted, AllocateError> {
    let mut holdings = Holdings::default();
    let containers = [ids(devices)];
    let containers: Vec<&[String]> = containers.iter().map(Vec::as_slice).collect();
    let answers = allocate(listing, grant, &mut holdings, &containers, Instant::now())?;
    Ok(answers.into_iter().next().expect("an answer"))
}

#[test]
fn a_container_gets_the_nodes_and_is_told_its_devices() {
    let granted = alone(&kvm(), &nodes(), &["kvm-0", "kvm-2"]).expect("both");
    assert_eq!(
        granted.envs["CORACLE_DEVICE_CORACLE_DEV_KVM"],
        "kvm-0,kvm-2"
    );
    assert_eq!(granted.nodes["/dev/kvm"], "/run/coracle/dev/kvm");
    assert!(granted.nodes.len() == 1 && granted.cdi.is_empty());

    let gpus = gpus("example.com/a-10");
    let granted = alone(&gpus, &nodes(), &["0000:02:00.0", "0000:01:00.1"]).expect("both");
    let envs: Vec<_> = granted
        .envs
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        envs,
        [
            "CORACLE_DEVICE_EXAMPLE_COM_A_10=0000:02:00.0,0000:01:00.1",
            "PCIDEVICE_EXAMPLE_COM_A-10=0000:02:00.0,0000:01:00.1",
            "PCI_RESOURCE_EXAMPLE_COM_A-10=0000:02:00.0,0000:01:00.1",
        ]
    );
    let nodes: Vec<_> = granted.nodes.keys().map(String::as_str).collect();
    assert_eq!(nodes, ["/dev/vfio/7", "/dev/vfio/8", "/dev/vfio/vfio"]);
    assert_eq!(
        granted.nodes["/dev/vfio/7"],
        "/run/coracle/dev/pci/0000:01:00.1/group"
    );
}

#[test]
fn by_cdi_a_container_gets_names() {
    let cdi = Grant::Cdi { dir: "/c".into() };
    let granted = alone(&kvm(), &cdi, &["kvm-0", "kvm-1"]).expect("both");
    assert!(granted.nodes.is_empty());
    assert_eq!(
        granted.cdi.into_iter().collect::<Vec<_>>(),
        ["coracle.dev/kvm=kvm"]
    );
}

#[test]
fn names_of_kubevirt_for_mdev_and_usb() {
    let entry = Entry {
        usb: Some(UsbAddress { bus: 1, number: 7 }),
        ..Entry::new("1-4.2")
    };
    for (kind, variable, value) in [
        (Kind::Usb, "USB_RESOURCE_EXAMPLE_COM_KEY", "1:7"),
        (Kind::Mdev, "MDEV_PCI_RESOURCE_EXAMPLE_COM_KEY", "1-4.2"),
    ] {
        let resource = Resource::new("example.com/key", kind, vec![Compatibility::Kubevirt]);
        let listing = Listing::new(Arc::new(resource), vec![entry.clone()]);
        let granted = alone(&listing, &nodes(), &["1-4.2"]).expect("one");
        assert_eq!(granted.envs[variable], value);
    }
}

#[test]
fn unknown_and_unhealthy_devices_are_named() {
    let error = alone(&kvm(), &nodes(), &["kvm-0", "kvm-3"]).expect_err("unknown");
    assert_eq!(error.to_string(), "coracle.dev/kvm has no device \"kvm-3\"");
    let error = alone(&kvm(), &nodes(), &[]).expect_err("nothing");
    assert!(matches!(error, AllocateError::Nothing { .. }));
    let mut slow = kvm();
    slow.entries[0] = slow.entries[0].with(Health::unhealthy("KVM is slow"));
    let error = alone(&slow, &nodes(), &["kvm-1"]).expect_err("unhealthy");
    assert_eq!(
        error.to_string(),
        "coracle.dev/kvm: device \"kvm-1\" is unhealthy: KVM is slow"
    );
}

#[test]
fn a_group_goes_to_one_container() {
    let (gpu, audio) = (gpus("example.com/gpu"), gpus("example.com/audio"));
    let mut holdings = Holdings::default();
    let mut ask = |listing: &Listing, containers: &[&[&str]]| {
        let containers: Vec<_> = containers.iter().map(|c| ids(c)).collect();
        let containers: Vec<&[String]> = containers.iter().map(Vec::as_slice).collect();
        allocate(
            listing,
            &nodes(),
            &mut holdings,
            &containers,
            Instant::now(),
        )
    };
    let error = ask(&gpu, &[&["0000:01:00.0"], &["0000:01:00.1"]]).expect_err("one group");
    assert_eq!(
        error.to_string(),
        "example.com/gpu: device \"0000:01:00.1\" cannot be given out: IOMMU group 7 is in use \
         as example.com/gpu 0000:01:00.0"
    );
    // Nothing was given out.
    ask(&gpu, &[&["0000:01:00.1"], &["0000:02:00.0"]]).expect("two groups");
    ask(&audio, &[&["0000:01:00.1"]]).expect_err("in use by another resource");
    ask(&gpu, &[&["0000:01:00.0"]]).expect_err("in use by another function");
    ask(&gpu, &[&["0000:01:00.0", "0000:01:00.1"]]).expect("the kubelet took it back");
}
