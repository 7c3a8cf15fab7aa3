//! What becomes of hosts that this machine is not.

mod model;
mod names;

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::*;
use crate::host::{Function, Mdev, UsbAddress, UsbDevice};
use crate::settings::parse;

/// VFIO's nodes for the groups 0 to 9.
fn vfio() -> Vfio {
    Vfio {
        container: Some(1000),
        groups: (0..10)
            .map(|group| (group, 100 + u64::from(group)))
            .collect(),
        ..Vfio::default()
    }
}

fn function(group: u32) -> Function {
    Function {
        vendor: 0x10de,
        device: 0x2236,
        class: 0x03_02_00,
        driver: Some("vfio-pci".into()),
        group: Some(group),
        numa: Some(1),
        ..Function::default()
    }
}

/// Two functions of group 7 and a bridge, one of group 8.
fn host() -> Host {
    let mut host = Host {
        vfio: vfio(),
        ..Host::default()
    };
    for (address, group) in [
        ("0000:01:00.0", 7),
        ("0000:01:00.1", 7),
        ("0000:02:00.0", 8),
    ] {
        host.pci.insert(address.into(), function(group));
    }
    let bridge = Function {
        class: 0x06_04_00,
        driver: Some("pcieport".into()),
        ..function(7)
    };
    host.pci.insert("0000:00:01.0".into(), bridge);
    host
}

const GPUS: &str = "resources: [{name: a/gpu, pci: [{vendor: 10de}]}]";

fn paths(node: &Node) -> String {
    format!("{} for {}", node.own(), node.container())
}

fn taken(text: &str, host: &Host) -> Inventory {
    Inventory::take(&parse(text).expect("good"), &[], host)
}

fn known() -> Holdings {
    let mut holdings = Holdings::default();
    holdings.observe(&BTreeSet::new(), Instant::now(), |_, _| None);
    holdings
}

/// Name and reason of each device of the first resource.
fn offered(text: &str, host: &Host, holdings: &Holdings) -> Vec<(String, Option<String>)> {
    let listings = taken(text, host).offer(holdings);
    let entries = listings[0].entries.iter();
    let pairs = entries.map(|entry| {
        (
            entry.id.to_string(),
            entry.health.reason().map(str::to_owned),
        )
    });
    pairs.collect()
}

/// Why the first device of the first resource is unhealthy.
fn reason(text: &str, host: &Host) -> String {
    let offered = offered(text, host, &known());
    offered
        .into_iter()
        .next()
        .and_then(|(_, reason)| reason)
        .expect("unhealthy")
}

#[test]
fn functions_are_offered_with_their_nodes_and_bridges_are_not() {
    let mut host = host();
    let gpu = host.pci.get_mut("0000:02:00.0").expect("there");
    gpu.cdev = Some("vfio3".into());
    host.vfio.cdevs.insert("vfio3".into(), 3);
    host.vfio.iommu = Some(126);
    let inventory = taken(GPUS, &host);
    let (_, entries) = &inventory.resources[0];
    let ids: Vec<_> = entries.iter().map(|entry| &*entry.id).collect();
    assert_eq!(ids, ["0000:01:00.0", "0000:01:00.1", "0000:02:00.0"]);
    assert!(
        entries
            .iter()
            .all(|entry| entry.health == Health::Healthy && entry.numa == Some(1))
    );
    let nodes: Vec<_> = entries[2]
        .nodes
        .iter()
        .map(|node| (paths(node), node.rdev))
        .collect();
    assert_eq!(
        nodes,
        [
            ("vfio/vfio for /dev/vfio/vfio".into(), 1000),
            ("pci/0000:02:00.0/group for /dev/vfio/8".into(), 108),
            ("iommu for /dev/iommu".into(), 126),
            (
                "pci/0000:02:00.0/cdev for /dev/vfio/devices/vfio3".into(),
                3
            ),
        ]
    );
}

#[test]
fn what_keeps_a_function_from_a_guest_is_named() {
    let first = "0000:01:00.0";
    let after = |change: fn(&mut Function)| {
        let mut host = host();
        change(host.pci.get_mut(first).expect("there"));
        reason(GPUS, &host)
    };
    let text = after(|function| function.driver = Some("nouveau".into()));
    assert_eq!(
        text,
        "it is bound to nouveau, not to vfio-pci: driverctl set-override 0000:01:00.0 vfio-pci"
    );
    assert!(after(|function| function.driver = None).contains("bound to no driver"));
    assert!(after(|function| function.group = None).contains("intel_iommu=on"));
    assert!(after(|function| function.silent = true).contains("all ones"));
    let text = after(|function| function.group = Some(99));
    assert_eq!(text, "/dev/vfio/99 is not there: load the module vfio-pci");

    let mut host = host();
    host.pci.get_mut("0000:01:00.1").expect("there").driver = Some("snd_hda_intel".into());
    assert_eq!(
        reason(GPUS, &host),
        "IOMMU group 7 is not viable: 0000:01:00.1 in it is bound to snd_hda_intel; bind that to \
         vfio-pci too, or to nothing"
    );
    let pairs = offered(GPUS, &host, &known());
    assert_eq!(
        pairs[2],
        ("0000:02:00.0".into(), None),
        "another group is not concerned"
    );
    host.pci.get_mut("0000:01:00.1").expect("there").driver = None;
    assert_eq!(offered(GPUS, &host, &known())[0].1, None);
}

#[test]
fn selectors_select_what_they_say() {
    let mut host = host();
    let other = host.pci.get_mut("0000:02:00.0").expect("there");
    (other.device, other.class, other.subsystem) = (0x1111, 0x02_00_00, (0x8086, 1));
    for (selector, ids) in [
        ("{device: 2236}", vec!["0000:01:00.0", "0000:01:00.1"]),
        ("{class: 02}", vec!["0000:02:00.0"]),
        ("{class: \"020000\"}", vec!["0000:02:00.0"]),
        ("{subsystem: \"8086:0001\"}", vec!["0000:02:00.0"]),
        ("{address: \"01:00.1\"}", vec!["0000:01:00.1"]),
        ("{vendor: 10de, class: \"0200\", device: 2236}", vec![]),
        (
            "{class: 02}, {address: \"0000:02:00.0\"}",
            vec!["0000:02:00.0"],
        ),
    ] {
        let text = format!("resources: [{{name: a/b, pci: [{selector}]}}]");
        let found = offered(&text, &host, &known());
        let found: Vec<_> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(found, ids, "{selector}");
    }
}

#[test]
fn two_resources_that_select_one_device_have_it_neither_and_both_are_named() {
    let text = "resources:\n- {name: a/one, pci: [{vendor: 10de}]}\n- name: a/two\n  pci:\n  - {address: \"02:00.0\"}\n";
    let inventory = taken(text, &host());
    let told = "PCI function 0000:02:00.0 is selected by a/one (line 2) and by a/two (line 5): one \
                device belongs to one resource";
    assert_eq!(inventory.conflicts["PCI function 0000:02:00.0"], told);
    for (_, entries) in &inventory.resources {
        let claimed = entries
            .iter()
            .find(|entry| &*entry.id == "0000:02:00.0")
            .expect("listed");
        assert_eq!(claimed.health.reason(), Some(told));
    }
    assert_eq!(
        inventory.resources[0].1[0].health,
        Health::Healthy,
        "others are not concerned"
    );
}

#[test]
fn what_has_several_names_is_marked() {
    let other = "- {name: a/other, pci: [{address: \"02:00.0\"}]}\n";
    let first = "resources:\n- {name: a/gpu, pci: [{address: \"01:00.0\"}]}\n";
    let shared = |text: &str| {
        let inventory = taken(text, &host());
        let entries = inventory.resources.iter().flat_map(|(_, entries)| entries);
        entries.map(|entry| entry.shared).collect::<Vec<_>>()
    };
    assert_eq!(shared(GPUS), [true, true, false]);
    assert_eq!(shared(&format!("{first}{other}")), [false, false]);
    // In another resource is as good.
    let sound = "- {name: a/sound, pci: [{address: \"01:00.1\"}]}\n";
    assert_eq!(shared(&format!("{first}{sound}")), [true, true]);
}

#[test]
fn a_group_in_use_is_offered_to_nobody_else() {
    let host = host();
    let mut holdings = known();
    let ids = BTreeSet::from(["0000:01:00.0".to_owned()]);
    holdings.take(Key::Group(7), "a/gpu", ids, Instant::now());
    let pairs = offered(GPUS, &host, &holdings);
    assert_eq!(pairs[0].1, None, "a device that is in use is a healthy one");
    assert_eq!(
        pairs[1].1.as_deref(),
        Some("IOMMU group 7 is in use as a/gpu 0000:01:00.0")
    );
    assert_eq!(pairs[2].1, None);
}

#[test]
fn without_knowledge_of_what_is_in_use_a_group_is_offered_once() {
    let pairs = offered(GPUS, &host(), &Holdings::default());
    assert_eq!(pairs[0].1, None);
    let told = pairs[1].1.as_deref().expect("not offered");
    assert!(
        told.starts_with("IOMMU group 7 is offered as a/gpu 0000:01:00.0"),
        "{told}"
    );
    assert_eq!(pairs[2].1, None);
}

#[test]
fn a_device_that_is_gone_while_it_is_in_use_is_listed_as_such() {
    let mut host = host();
    let mut holdings = known();
    let ids = BTreeSet::from(["0000:02:00.0".to_owned()]);
    holdings.take(Key::Group(8), "a/gpu", ids, Instant::now());
    host.pci.remove("0000:02:00.0");
    let pairs = offered(GPUS, &host, &holdings);
    assert_eq!(
        pairs[2],
        (
            "0000:02:00.0".into(),
            Some("it is not there any more".into())
        )
    );
}

#[test]
fn mediated_devices_by_type_or_name_and_parent() {
    let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
    let mut host = Host {
        vfio: vfio(),
        ..Host::default()
    };
    let device = Mdev {
        kind: "nvidia-63".into(),
        name: Some("GRID A10-4Q".into()),
        parent: "0000:3b:00.0".into(),
        group: Some(9),
        numa: Some(0),
        cdev: None,
    };
    host.mdev.insert(uuid.into(), device);
    for (selector, count) in [
        ("{type: nvidia-63}", 1),
        ("{type: GRID A10-4Q, parent: 3b:00.0}", 1),
        ("{type: nvidia-64}", 0),
        ("{parent: 3c:00.0}", 0),
    ] {
        let text = format!("resources: [{{name: a/vgpu, mdev: [{selector}]}}]");
        assert_eq!(offered(&text, &host, &known()).len(), count, "{selector}");
    }
    let inventory = taken(
        "resources: [{name: a/vgpu, mdev: [{type: nvidia-63}]}]",
        &host,
    );
    let entry = &inventory.resources[0].1[0];
    assert_eq!((&*entry.id, &entry.key), (uuid, &Some(Key::Group(9))));
    assert_eq!(entry.nodes[1].own(), format!("mdev/{uuid}/group"));
}

#[test]
fn a_usb_device_is_its_port_and_follows_its_node() {
    let text = "resources: [{name: a/key, usb: [{vendor: 1050, serial: \"12\"}]}]";
    let mut host = Host::default();
    let mut plug = |number, node: Option<u64>| {
        let device = UsbDevice {
            vendor: 0x1050,
            product: 0x0407,
            serial: Some("12".into()),
            address: UsbAddress { bus: 1, number },
            rdev: number.into(),
            node,
        };
        host.usb.insert("1-4.2".into(), device);
        taken(text, &host).resources[0].1[0].clone()
    };
    let key = plug(5, Some(5));
    assert_eq!(
        (&*key.id, key.usb.map(|usb| usb.to_string())),
        ("1-4.2", Some("1:5".into()))
    );
    assert_eq!(paths(&key.nodes[0]), "usb/1-4.2 for /dev/bus/usb/001/005");
    let again = plug(6, Some(6));
    assert_eq!(
        (&*again.id, paths(&again.nodes[0])),
        ("1-4.2", "usb/1-4.2 for /dev/bus/usb/001/006".into())
    );
    assert_eq!(
        plug(7, None).health.reason(),
        Some("/dev/bus/usb/001/007 is not there")
    );
    assert_eq!(
        plug(7, Some(6)).health.reason(),
        Some("/dev/bus/usb/001/007 is another device")
    );
}

#[test]
fn character_devices_shared_alone_and_missing() {
    let text = "resources:\n- name: a/c\n  chardev: [{glob: /dev/fuse, count: 3}, {glob: /dev/tty*}, {glob: /dev/sev}]\n";
    let mut host = Host::default();
    for (path, rdev) in [("fuse", 1), ("ttyUSB0", 2), ("net/tun", 3)] {
        host.nodes.insert(path.into(), rdev);
    }
    let inventory = taken(text, &host);
    let ids: Vec<_> = inventory.resources[0]
        .1
        .iter()
        .flat_map(|entry| entry.ids())
        .collect();
    assert_eq!(ids, ["fuse-0", "fuse-1", "fuse-2", "sev", "ttyUSB0"]);
    let sev = &inventory.resources[0].1[1];
    assert_eq!(
        sev.health.reason(),
        Some("/dev/sev is not there, or is no character device")
    );

    let link = "resources: [{name: a/l, chardev: [{glob: /dev/by-id/*}, {glob: /dev/tty*}]}]";
    host.nodes.insert("by-id/modem".into(), 2);
    let found = offered(link, &host, &known());
    assert_eq!(
        found,
        [("by-id-modem".into(), None)],
        "a device has one name"
    );

    let inventory = Inventory::take(&Settings::default(), &builtins([2, 0, 1]), &host);
    let names: Vec<_> = inventory
        .resources
        .iter()
        .map(|(r, _)| r.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["coracle.dev/tun", "coracle.dev/vhost-vsock"],
        "0 switches off"
    );
    let (tun, vsock) = (&inventory.resources[0].1[0], &inventory.resources[1].1[0]);
    assert_eq!(tun.ids().collect::<Vec<_>>(), ["tun-0", "tun-1"]);
    assert_eq!(paths(&tun.nodes[0]), "net/tun for /dev/net/tun");
    assert_eq!(
        vsock.health.reason(),
        Some("/dev/vhost-vsock is not there: load the module vhost_vsock")
    );
}
