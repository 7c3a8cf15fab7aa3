//! What is read from a tree like the kernel's.

use nix::sys::stat::makedev;

use super::*;
use crate::settings::parse;
use crate::tree::{Pci, Tree, Usb};

const ALL: &str = "resources:
  - {name: a/pci, pci: [{vendor: 10de}]}
  - {name: a/mdev, mdev: [{type: nvidia-63}]}
  - {name: a/usb, usb: [{vendor: 1050}]}
  - {name: a/char, chardev: [{glob: /dev/tty*}, {glob: /dev/serial/by-id/*}]}
";

fn seen(tree: &Tree) -> Host {
    let roots = Roots {
        dev: tree.dev(),
        sys: tree.sys(),
    };
    scan(&roots, &parse(ALL).expect("good"), &["net/tun"])
}

#[test]
fn functions_with_their_groups_and_nodes() {
    let Some(tree) = Tree::new() else { return };
    tree.pci(&Pci {
        numa: 1,
        ..Pci::default()
    });
    tree.cdev("0000:01:00.0", 3);
    tree.pci(&Pci {
        address: "0000:00:01.0",
        class: 0x06_04_00,
        driver: None,
        group: None,
        ..Pci::default()
    });
    let host = seen(&tree);
    assert_eq!(
        host.pci["0000:01:00.0"],
        Function {
            vendor: 0x10de,
            device: 0x2236,
            subsystem: (0x10de, 0x1482),
            class: 0x03_02_00,
            driver: Some("vfio-pci".into()),
            group: Some(7),
            numa: Some(1),
            silent: false,
            cdev: Some("vfio3".into()),
        }
    );
    let bridge = &host.pci["0000:00:01.0"];
    assert!(bridge.is_bridge() && bridge.numa.is_none() && bridge.driver.is_none());
    assert_eq!(host.vfio.groups, BTreeMap::from([(7, makedev(240, 7))]));
    assert_eq!(
        host.vfio.cdevs,
        BTreeMap::from([("vfio3".into(), makedev(241, 3))])
    );
    assert_eq!(host.vfio.container, Some(makedev(10, 196)));
    assert_eq!(host.vfio.iommu, Some(makedev(10, 126)));
    assert_eq!(host.group("0000:01:00.0"), Some(7));
    tree.silence("0000:01:00.0", true);
    assert!(seen(&tree).pci["0000:01:00.0"].silent);
    tree.unplug_pci("0000:01:00.0");
    assert_eq!(seen(&tree).pci.len(), 1);
}

#[test]
fn mediated_devices_and_what_they_are_parts_of() {
    let Some(tree) = Tree::new() else { return };
    let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
    tree.pci(&Pci {
        numa: 0,
        ..Pci::default()
    });
    tree.mdev(uuid, "0000:01:00.0", "nvidia-63", 21);
    let host = seen(&tree);
    assert_eq!(
        host.mdev[uuid],
        Mdev {
            kind: "nvidia-63".into(),
            name: Some("GRID A10-4Q".into()),
            parent: "0000:01:00.0".into(),
            group: Some(21),
            numa: Some(0),
            cdev: None,
        }
    );
    tree.remove_mdev(uuid);
    assert!(seen(&tree).mdev.is_empty());
}

#[test]
fn usb_devices_keep_their_port_and_change_their_number() {
    let Some(tree) = Tree::new() else { return };
    let key = Usb {
        port: "1-4.2",
        id: (0x1050, 0x0407),
        serial: "12",
        number: 5,
    };
    tree.usb(&key);
    let seen_key = &seen(&tree).usb["1-4.2"];
    assert_eq!(seen_key.path(), "bus/usb/001/005");
    assert_eq!(
        (seen_key.rdev, seen_key.node),
        (makedev(189, 4), Some(makedev(189, 4)))
    );
    tree.unplug_usb("1-4.2");
    assert!(seen(&tree).usb.is_empty());
    tree.usb(&Usb { number: 6, ..key });
    assert_eq!(seen(&tree).usb["1-4.2"].path(), "bus/usb/001/006");
}

#[test]
fn character_devices_by_pattern_and_through_links() {
    let Some(tree) = Tree::new() else { return };
    tree.node("ttyUSB0", 188, 0);
    tree.node("net/tun", 10, 200);
    fs::write(tree.dev().join("ttyfile"), "").expect("writes");
    fs::create_dir_all(tree.dev().join("serial/by-id")).expect("creates");
    std::os::unix::fs::symlink("../../ttyUSB0", tree.dev().join("serial/by-id/modem"))
        .expect("links");
    let nodes = seen(&tree).nodes;
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(path, rdev)| (path.as_str(), *rdev))
        .collect();
    let usb0 = makedev(188, 0);
    assert_eq!(
        nodes,
        [
            ("net/tun", makedev(10, 200)),
            ("serial/by-id/modem", usb0),
            ("ttyUSB0", usb0)
        ]
    );
}
