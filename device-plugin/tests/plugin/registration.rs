//! The plugin and a kubelet that comes and goes.

use std::fs;
use std::time::Duration;

use coracle_device_plugin::Config;
use coracle_kubelet::{Device, Faults, Options, Takeover};

use crate::kit::{COUNT, LIMIT, Node, Plugin, RESOURCE, all_healthy, none_healthy};

#[tokio::test]
async fn it_registers_and_lists_its_slots() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let plugin = Plugin::start(node.config());
    let devices = all_healthy(&kubelet).await;
    let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, ["kvm-0", "kvm-1", "kvm-2"]);
    assert!(devices.iter().all(|device| device.numa.is_empty()));
    plugin.stop().await;
    assert!(
        !node.plugin_socket().exists(),
        "the socket goes with the plugin"
    );
    none_healthy(&kubelet).await;
    kubelet.stop().await;
}

#[tokio::test]
async fn it_waits_for_a_kubelet_that_has_no_directory_yet() {
    let Some(node) = Node::new() else { return };
    fs::remove_dir(node.kubelet_dir()).expect("removes");
    let plugin = Plugin::start(node.config());
    let kubelet = node.kubelet(Options::default()).await;
    all_healthy(&kubelet).await;
    plugin.stop().await;
}

#[tokio::test]
async fn it_registers_again_whatever_a_kubelet_leaves_and_finds() {
    let Some(node) = Node::new() else { return };
    let plugin = Plugin::start(node.config());
    let mut kubelet = node.kubelet(Options::default()).await;
    all_healthy(&kubelet).await;
    for takeover in [Takeover::Wipe, Takeover::Keep, Takeover::Replace] {
        for leave_socket in [false, true] {
            // The options of the kubelet that ends were its own; only what
            // is left behind differs.
            let options = Options {
                takeover,
                leave_socket,
                ..Options::default()
            };
            kubelet.stop().await;
            kubelet = node.kubelet(options.clone()).await;
            all_healthy(&kubelet).await;
            kubelet.stop().await;
            kubelet = node.kubelet(options).await;
            all_healthy(&kubelet).await;
            kubelet
                .allocate(RESOURCE, COUNT)
                .await
                .expect("it can be used");
        }
    }
    plugin.stop().await;
}

#[tokio::test]
async fn it_registers_with_a_kubelet_that_takes_over_from_one_alive() {
    let Some(node) = Node::new() else { return };
    let plugin = Plugin::start(node.config());
    let first = node.kubelet(Options::default()).await;
    all_healthy(&first).await;
    for takeover in [Takeover::Replace, Takeover::Keep, Takeover::Wipe] {
        let second = node
            .kubelet(Options {
                takeover,
                ..Options::default()
            })
            .await;
        all_healthy(&second).await;
        drop(second);
    }
    none_healthy(&first).await;
    plugin.stop().await;
}

#[tokio::test]
async fn two_kubelets_in_a_row_leave_it_with_the_second() {
    let Some(node) = Node::new() else { return };
    let plugin = Plugin::start(node.config());
    for _ in 0..5 {
        node.kubelet(Options::default()).await.stop().await;
        let second = node.kubelet(Options::default()).await;
        all_healthy(&second).await;
        second.stop().await;
    }
    plugin.stop().await;
}

#[tokio::test]
async fn a_slow_kubelet_is_waited_for_and_a_newer_one_is_not_missed_meanwhile() {
    let Some(node) = Node::new() else { return };
    let slow = |answer_after| Options {
        faults: Faults {
            answer_after,
            ..Faults::default()
        },
        takeover: Takeover::Replace,
        ..Options::default()
    };
    let plugin = Plugin::start(node.config());
    let first = node.kubelet(slow(Duration::from_millis(300))).await;
    all_healthy(&first).await;
    assert_eq!(first.registrations(), 1, "it was asked once");
    // This one would hold the plugin for longer than the test may take.
    let second = node.kubelet(slow(Duration::from_secs(3600))).await;
    none_healthy(&first).await;
    let third = node.kubelet(slow(Duration::ZERO)).await;
    all_healthy(&third).await;
    drop(second);
    plugin.stop().await;
}

#[tokio::test]
async fn a_refusal_is_not_the_end() {
    let Some(node) = Node::new() else { return };
    let faults = Faults {
        refuse: 3,
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let plugin = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    assert_eq!(kubelet.registrations(), 4);
    plugin.stop().await;
}

#[tokio::test]
async fn it_registers_again_when_nobody_follows_its_list() {
    let Some(node) = Node::new() else { return };
    let faults = Faults {
        drop_streams: 2,
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let plugin = Plugin::start(node.config());
    kubelet
        .wait_for(RESOURCE, |_| kubelet.registrations() == 3, LIMIT)
        .await
        .expect("a third registration");
    all_healthy(&kubelet).await;
    plugin.stop().await;
}

#[tokio::test]
async fn it_registers_again_when_its_socket_is_gone_and_the_old_stream_does_no_harm() {
    let Some(node) = Node::new() else { return };
    let faults = Faults {
        stale_stream_disconnects: true,
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let plugin = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    for again in 2..5 {
        fs::remove_file(node.plugin_socket()).expect("removes");
        kubelet
            .wait_for(RESOURCE, |_| kubelet.registrations() >= again, LIMIT)
            .await
            .expect("another registration");
        all_healthy(&kubelet).await;
    }
    plugin.stop().await;
}

#[tokio::test]
async fn a_second_plugin_waits_for_the_end_of_the_first() {
    let Some(node) = Node::new() else { return };
    let kubelet = node.kubelet(Options::default()).await;
    let first = Plugin::start(node.config());
    all_healthy(&kubelet).await;
    let second = Plugin::start(Config {
        kvm_count: u32::try_from(2 * COUNT).expect("a small number"),
        ..node.config()
    });
    // A restart of the kubelet makes them compete; either may win, and then
    // keeps what it has.
    kubelet.stop().await;
    let kubelet = node.kubelet(Options::default()).await;
    let listed = |devices: &[Device]| !devices.is_empty() && devices.iter().all(|d| d.healthy);
    let won = kubelet
        .wait_for(RESOURCE, listed, LIMIT)
        .await
        .expect("one registers")
        .len();
    let (winner, loser) = if won == COUNT {
        (first, second)
    } else {
        (second, first)
    };
    winner.stop().await;
    kubelet
        .wait_for(
            RESOURCE,
            |devices| listed(devices) && devices.len() != won,
            LIMIT,
        )
        .await
        .expect("the other takes over");
    assert_eq!(kubelet.registrations(), 2, "they did not fight");
    loser.stop().await;
}

#[tokio::test]
async fn it_stops_at_once_wherever_it_is() {
    let Some(node) = Node::new() else { return };
    // No kubelet.
    Plugin::start(node.config()).stop().await;
    // A kubelet that died and left its socket.
    let options = Options {
        leave_socket: true,
        ..Options::default()
    };
    node.kubelet(options).await.stop().await;
    Plugin::start(node.config()).stop().await;
    // A kubelet that never answers.
    let faults = Faults {
        answer_after: Duration::from_secs(3600),
        ..Faults::default()
    };
    let kubelet = node.faulty_kubelet(faults).await;
    let plugin = Plugin::start(node.config());
    while kubelet.registrations() == 0 {
        tokio::task::yield_now().await;
    }
    plugin.stop().await;
    assert!(!node.plugin_socket().exists());
}
