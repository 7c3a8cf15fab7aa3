//! Devices of the configuration file, in a tree like the kernel's, before a
//! kubelet.

use std::fs;
use std::time::Duration;

use coracle_device_plugin::{Config, Grant, Roots};
use coracle_kubelet::{Device, Kubelet, KubeletError};
use tokio::time::{sleep, timeout};

use crate::kit::{LIMIT, Plugin, numbers_and_mode};
use crate::machine::{Machine, allocated, healthy, poke, second};
use crate::tree::{Pci, Usb};

const GPU: &str = "example.com/gpu";
const GPUS: &str = "- {name: example.com/gpu, compatibility: kubevirt, pci: [{vendor: 10de}]}\n";
const KEY: &str = "example.com/key";
const KEYS: &str = "- {name: example.com/key, usb: [{vendor: 1050}]}\n";
const SERIAL: &str = "example.com/serial";
const SERIALS: &str = "- {name: example.com/serial, chardev: [{glob: /dev/ttyS*, count: 2}]}\n";

#[tokio::test]
async fn a_function_follows_its_driver_and_a_container_gets_its_group() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.write(&[GPUS]);
    machine.tree.pci(&Pci::default());
    machine.tree.pci(&second("0000:02:00.0"));
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, GPU, &["0000:01:00.0", "0000:02:00.0"]).await;
    let numa: Vec<_> = kubelet
        .devices(GPU)
        .into_iter()
        .map(|device| device.numa)
        .collect();
    assert_eq!(
        numa,
        [vec![], vec![1]],
        "what has no NUMA node has no topology"
    );

    for how in ["driver", "group", "silent", "unplugged"] {
        machine.breaks(how, true);
        healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
        machine.breaks(how, false);
        healthy(&kubelet, GPU, &["0000:01:00.0", "0000:02:00.0"]).await;
    }
    assert_eq!(kubelet.registrations(), 1, "health needs no registration");

    let both = allocated(&kubelet, GPU, 2).await;
    let node = machine.path("nodes/pci/0000:02:00.0/group");
    let group = both
        .response
        .devices
        .iter()
        .find(|d| d.container_path == "/dev/vfio/8");
    assert_eq!(
        group.expect("a group").host_path,
        node.display().to_string()
    );
    assert_eq!(numbers_and_mode(&node).1, 0o666);
    assert_eq!(
        both.response.envs["PCI_RESOURCE_EXAMPLE_COM_GPU"],
        both.ids.join(",")
    );
    plugin.stop().await;
}

#[tokio::test]
async fn what_no_event_tells_is_seen_by_looking() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.write(&[GPUS]);
    machine.tree.pci(&Pci::default());
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    // In a tree of files the kernel says nothing, and nothing is in its /dev.
    // Twice, because it looks again soon after it has begun to listen.
    machine.tree.bind("0000:01:00.0", Some("nouveau"));
    healthy(&kubelet, GPU, &[]).await;
    machine.tree.bind("0000:01:00.0", Some("vfio-pci"));
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_group_goes_to_one_container_whatever_restarts_or_is_reloaded() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.write(&[GPUS]);
    machine.tree.pci(&Pci::default());
    machine.tree.pci(&Pci {
        address: "0000:01:00.1",
        ..Pci::default()
    });
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    let both = ["0000:01:00.0", "0000:01:00.1"];
    healthy(&kubelet, GPU, &both).await;
    let held = allocated(&kubelet, GPU, 1).await;
    let one: Vec<&str> = held.ids.iter().map(String::as_str).collect();
    healthy(&kubelet, GPU, &one).await;

    // A plugin that was restarted asks who has what.
    plugin.stop().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, GPU, &one).await;
    // The devices become another resource's: its names are free to the kubelet.
    machine.write(&["- {name: example.com/moved, pci: [{vendor: 10de}]}\n"]);
    let all_unhealthy =
        |devices: &[Device]| devices.len() == 2 && devices.iter().all(|d| !d.healthy);
    kubelet
        .wait_for("example.com/moved", all_unhealthy, LIMIT)
        .await
        .expect("in use");
    machine.write(&[GPUS]);
    healthy(&kubelet, GPU, &one).await;

    kubelet.release(GPU, &held.ids);
    // An answer of just now cannot be listed as in use at once, so it counts
    // for a while; a restart has forgotten it.
    plugin.stop().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, GPU, &both).await;
    assert_eq!(
        allocated(&kubelet, GPU, 2).await.ids.len(),
        2,
        "one container may have both"
    );
    plugin.stop().await;
}

#[tokio::test]
async fn a_file_that_changes_touches_only_what_changed() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.tree.node("ttyS0", 4, 64);
    machine.tree.pci(&Pci::default());
    machine.write(&[SERIALS]);
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, SERIAL, &["ttyS0-0", "ttyS0-1"]).await;
    let before = kubelet.registrations();
    machine.write(&[SERIALS, GPUS]);
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    assert_eq!(
        kubelet.registrations(),
        before + 1,
        "the other was not touched"
    );
    allocated(&kubelet, SERIAL, 2).await;

    // Mistakes leave things as they are; so does a file that is not there.
    fs::write(machine.path("config.yaml"), "resources: {").expect("writes");
    machine.tree.pci(&second("0000:02:00.0"));
    poke();
    healthy(&kubelet, GPU, &["0000:01:00.0", "0000:02:00.0"]).await;
    fs::remove_file(machine.path("config.yaml")).expect("removes");
    machine.tree.unplug_pci("0000:02:00.0");
    poke();
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    // A resource that would claim another's device is refused as well.
    machine.write(&[
        SERIALS,
        GPUS,
        "- {name: a/b, pci: [{address: \"01:00.0\"}]}\n",
    ]);
    machine.tree.pci(&second("0000:02:00.0"));
    poke();
    healthy(&kubelet, GPU, &["0000:01:00.0", "0000:02:00.0"]).await;
    assert!(kubelet.devices("a/b").is_empty());
    assert_eq!(kubelet.registrations(), before + 1);

    machine.write(&[SERIALS]);
    let none = |devices: &[Device]| devices.is_empty();
    kubelet
        .wait_for(GPU, none, LIMIT)
        .await
        .expect("an empty list is the last");
    allocated_nothing(&kubelet).await;
    assert_eq!(kubelet.registrations(), before + 1);
    plugin.stop().await;
}

async fn allocated_nothing(kubelet: &Kubelet) {
    let gone = async {
        while !matches!(
            kubelet.allocate(GPU, 1).await,
            Err(KubeletError::Disconnected { .. })
        ) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, gone).await.expect("the registration ends");
}

#[tokio::test]
async fn a_key_that_is_plugged_in_again_keeps_its_name_and_gets_its_new_node() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let key = Usb {
        port: "1-4.2",
        id: (0x1050, 0x0407),
        serial: "12",
        number: 5,
    };
    machine.tree.usb(&key);
    machine.write(&[KEYS]);
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(machine.config());
    healthy(&kubelet, KEY, &["1-4.2"]).await;
    let node = machine.path("nodes/usb/1-4.2");
    let before = numbers_and_mode(&node).0;
    machine.tree.unplug_usb("1-4.2");
    poke();
    healthy(&kubelet, KEY, &[]).await;
    assert!(
        !node.exists(),
        "its numbers may be another device's tomorrow"
    );
    machine.tree.usb(&Usb { number: 6, ..key });
    poke();
    healthy(&kubelet, KEY, &["1-4.2"]).await;
    assert_ne!(numbers_and_mode(&node).0, before);
    let response = allocated(&kubelet, KEY, 1).await.response;
    assert_eq!(response.devices[0].container_path, "/dev/bus/usb/001/006");
    assert_eq!(response.envs["CORACLE_DEVICE_EXAMPLE_COM_KEY"], "1-4.2");

    // Gone while a container has it: the pod's status is to say so.
    machine.tree.unplug_usb("1-4.2");
    poke();
    let missed = |devices: &[Device]| matches!(devices, [key] if key.id == "1-4.2" && !key.healthy);
    kubelet
        .wait_for(KEY, missed, LIMIT)
        .await
        .expect("listed as unhealthy");
    plugin.stop().await;
}

#[tokio::test]
async fn by_cdi_each_resource_has_a_specification_while_it_is_one() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
    machine.tree.pci(&Pci::default());
    machine.tree.mdev(uuid, "0000:01:00.0", "nvidia-63", 21);
    machine.write(&["- {name: example.com/vgpu, mdev: [{type: nvidia-63}]}\n"]);
    let kubelet = machine.kubelet().await;
    let config = Config {
        grant: Grant::Cdi {
            dir: machine.path("cdi"),
        },
        ..machine.config()
    };
    let plugin = Plugin::start(config);
    healthy(&kubelet, "example.com/vgpu", &[uuid]).await;
    let response = allocated(&kubelet, "example.com/vgpu", 1).await.response;
    assert_eq!(
        response.cdi_devices[0].name,
        format!("example.com/vgpu={uuid}")
    );
    let spec = machine.path("cdi/coracle_example.com_vgpu.json");
    let text = fs::read_to_string(&spec).expect("is there");
    assert!(
        text.contains("\"/dev/vfio/21\"") && text.contains("\"/dev/vfio/vfio\""),
        "{text}"
    );
    machine.write(&[]);
    let gone = async {
        while spec.exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, gone)
        .await
        .expect("it goes with the resource");
    plugin.stop().await;
}

#[tokio::test]
async fn a_resource_that_cannot_be_registered_leaves_the_others_alone() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.tree.node("ttyS0", 4, 64);
    machine.tree.pci(&Pci::default());
    machine.write(&[GPUS]);
    let kubelet = machine.kubelet().await;
    let first = Plugin::start(machine.config());
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    // A second plugin finds the first one's socket occupied, and only that.
    let other = Machine::new().expect("as before");
    other.write(&[GPUS, SERIALS]);
    let second = Plugin::start(Config {
        file: other.config().file,
        ..machine.config()
    });
    healthy(&kubelet, SERIAL, &["ttyS0-0", "ttyS0-1"]).await;
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    first.stop().await;
    healthy(&kubelet, GPU, &["0000:01:00.0"]).await;
    second.stop().await;
}

#[tokio::test]
async fn tun_of_this_machine_is_handed_out_in_slots() {
    if fs::metadata("/dev/net/tun").is_err() {
        eprintln!("skipped: no /dev/net/tun");
        return;
    }
    let Some(machine) = Machine::new() else {
        return;
    };
    let kubelet = machine.kubelet().await;
    let plugin = Plugin::start(Config {
        roots: Roots {
            dev: "/dev".into(),
            sys: "/sys".into(),
        },
        counts: [3, 0, 2],
        file: None,
        ..machine.config()
    });
    healthy(&kubelet, "coracle.dev/tun", &["tun-0", "tun-1", "tun-2"]).await;
    let response = allocated(&kubelet, "coracle.dev/tun", 2).await.response;
    assert_eq!(
        response.envs["CORACLE_DEVICE_CORACLE_DEV_TUN"],
        "tun-0,tun-1"
    );
    assert_eq!(response.devices[0].container_path, "/dev/net/tun");
    let (numbers, mode) = numbers_and_mode(&machine.path("nodes/net/tun"));
    assert_eq!(
        (numbers, mode),
        (numbers_and_mode("/dev/net/tun".as_ref()).0, 0o666)
    );
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(machine.path("nodes/net/tun"))
        .expect("opens");
    let vsock = kubelet.devices("coracle.dev/vhost-vsock");
    assert_eq!(vsock.len(), 2, "advertised, healthy or not");
    assert!(
        kubelet.devices("coracle.dev/vhost-net").is_empty(),
        "switched off"
    );
    plugin.stop().await;
}
