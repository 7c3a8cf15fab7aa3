//! Kubelets and plugins that come, go, hang and are killed in any order: it
//! always ends with the plugin registered and its devices to be had.

use std::time::Duration;

use coracle_kubelet::{Faults, Kubelet, Options, Takeover};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use tokio::time::timeout;

use crate::binary::Program;
use crate::kit::{COUNT, LIMIT, Node, RESOURCE, all_healthy};

/// Something that happens to the registration.
#[derive(Clone, Debug)]
enum Step {
    /// Another kubelet comes, in order or while the one before still runs.
    Kubelet { options: Options, overlaps: bool },
    /// One that ends before anybody can have registered, then another.
    Two { options: Options },
    /// The plugin is killed, and another starts at once.
    PluginIsKilled,
    /// The plugin ends in order, and another starts.
    PluginEnds,
    /// Somebody removes the plugin's socket.
    SocketGoes,
}

fn options() -> impl Strategy<Value = Options> {
    let takeover = prop_oneof![
        Just(Takeover::Wipe),
        Just(Takeover::Keep),
        Just(Takeover::Replace)
    ];
    let faults = (0..2_u32, 0..3_u64, 0..2_u32);
    (takeover, any::<bool>(), faults).prop_map(|(takeover, leave_socket, faults)| {
        let (refuse, slow, drop_streams) = faults;
        Options {
            takeover,
            leave_socket,
            faults: Faults {
                refuse,
                answer_after: Duration::from_millis(100 * slow),
                drop_streams,
                // What a late end of an old stream does to the new one.
                stale_stream_disconnects: true,
                ..Faults::default()
            },
            ..Options::default()
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let kubelet = (options(), any::<bool>());
    prop_oneof![
        3 => kubelet.prop_map(|(options, overlaps)| Step::Kubelet { options, overlaps }),
        1 => options().prop_map(|options| Step::Two { options }),
        2 => Just(Step::PluginIsKilled),
        1 => Just(Step::PluginEnds),
        1 => Just(Step::SocketGoes),
    ]
}

/// Until the kubelet can give out every device. What it was told before
/// something happened may look well for a moment.
async fn usable(kubelet: &Kubelet) {
    let used = async {
        loop {
            all_healthy(kubelet).await;
            if let Ok(given) = kubelet.allocate(RESOURCE, COUNT).await {
                kubelet.release(RESOURCE, &given.ids);
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, used).await.expect("its devices can be had");
}

async fn play(node: &Node, steps: Vec<Step>) {
    let mut kubelet = node.kubelet(Options::default()).await;
    let mut plugin = Program::start(node);
    usable(&kubelet).await;
    for step in steps {
        match step {
            Step::Kubelet { options, overlaps } => {
                if overlaps {
                    // The old one is dropped when the new one is there.
                    kubelet = node.kubelet(options).await;
                } else {
                    kubelet.stop().await;
                    kubelet = node.kubelet(options).await;
                }
            }
            Step::Two { options } => {
                kubelet.stop().await;
                node.kubelet(options.clone()).await.stop().await;
                kubelet = node.kubelet(options).await;
            }
            Step::PluginIsKilled => {
                plugin.signal(Signal::SIGKILL);
                plugin = Program::start(node);
            }
            Step::PluginEnds => {
                plugin.signal(Signal::SIGTERM);
                plugin.0.wait().expect("ended");
                plugin = Program::start(node);
            }
            Step::SocketGoes => {
                let _ = std::fs::remove_file(node.plugin_socket());
            }
        }
        usable(&kubelet).await;
    }
    kubelet.stop().await;
}

#[test]
fn whatever_happens_in_whatever_order_it_ends_registered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = ProptestConfig {
        cases: 4,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in prop::collection::vec(step(), 4..9))| {
        if let Some(node) = Node::new() {
            runtime.block_on(play(&node, steps));
        }
    });
}
