//! Messages of the kernel, and of anyone.

use std::fs;

use proptest::prelude::*;
use tokio::time::timeout;

use super::*;

const BIND: &[u8] = b"bind@/devices/pci0000:00/0000:00:01.0/0000:01:00.0\0ACTION=bind\0\
    DEVPATH=/devices/pci0000:00/0000:00:01.0/0000:01:00.0\0SUBSYSTEM=pci\0DRIVER=vfio-pci\0\
    PCI_SLOT_NAME=0000:01:00.0\0SEQNUM=4711\0";

#[test]
fn messages_say_what_they_are_about() {
    assert_eq!(
        Uevent::parse(BIND),
        Some(Uevent {
            action: "bind",
            subsystem: "pci",
            node: "",
        })
    );
    let node = b"add@/devices/virtual/misc/tun\0SUBSYSTEM=misc\0DEVNAME=net/tun\0\xff\xfe=1\0";
    let node = Uevent::parse(node).expect("a message");
    assert_eq!((node.subsystem, node.node), ("misc", "net/tun"));
    for other in [
        &b"libudev\0\xfe\xed\xca\xfe"[..],
        b"",
        b"add",
        b"@/x",
        b"add@x",
        b"\xff@/x",
    ] {
        assert_eq!(Uevent::parse(other), None, "{other:?}");
    }
}

#[test]
fn only_what_comes_or_goes_matters() {
    let event = |action, subsystem, node| Uevent {
        action,
        subsystem,
        node,
    };
    for (event, matters) in [
        (event("bind", "pci", ""), true),
        (event("remove", "usb", "bus/usb/001/005"), true),
        (event("add", "misc", "vhost-net"), true),
        (event("change", "misc", "kvm"), false),
        (event("add", "block", "loop0"), false),
        (event("add", "net", ""), false),
    ] {
        assert_eq!(event.matters(), matters, "{event:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        crate::fuzz::uevent(&bytes);
    }

    #[test]
    fn a_message_with_slips_is_read_or_refused(
        edits in proptest::collection::vec((0..BIND.len(), any::<u8>()), 1..6)
    ) {
        let mut message = BIND.to_vec();
        for (at, byte) in edits {
            message[at] = byte;
        }
        crate::fuzz::uevent(&message);
    }
}

#[tokio::test]
async fn the_kernel_wakes_who_follows() {
    let file = "/sys/class/mem/null/uevent";
    if fs::OpenOptions::new().write(true).open(file).is_err() {
        eprintln!("skipped: {file} cannot be written");
        return;
    }
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let task = tokio::spawn(follow(wake.clone(), stop.clone()));
    // Until the socket is there nobody hears: say it again.
    let heard = async {
        loop {
            fs::write(file, "add").expect("the kernel says it");
            if timeout(Duration::from_millis(200), wake.notified())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(Duration::from_secs(60), heard)
        .await
        .expect("heard");
    stop.cancel();
    task.await.expect("ends");
}
