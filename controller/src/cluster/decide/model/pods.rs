//! The model's pods: what happens to one on its node, and with it.

use super::Step;
use crate::cluster::facts::{Container, Life, PodFacts};
use crate::cluster::testing::{at, ended};

/// A pod, and whether its guest truly runs.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) facts: PodFacts,
    pub(super) runs: bool,
    pub(super) node: Node,
}

/// What the cluster cannot know of a pod's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Its kubelet talks to the API server.
    Reached,
    /// It does not, and the guest runs on.
    Cut,
    /// It does not, and nothing runs on it.
    Off,
}

/// The container runs, and the guest in it.
pub(super) fn start(pod: &mut Pod) -> bool {
    if pod.facts.life == Life::Alive && pod.node == Node::Reached {
        pod.facts.node = Some("node1".into());
        pod.facts.container = Container::Running {
            since: at(0),
            ready: Some(at(0)),
        };
    }
    true
}

/// The guest ends, and its kubelet says so.
pub(super) fn end(pod: &mut Pod, code: i32) -> bool {
    if pod.facts.life == Life::Alive && pod.runs && pod.node == Node::Reached {
        pod.runs = false;
        let reason = if code == 0 {
            "GuestShutdown"
        } else {
            "QemuFailed"
        };
        let end = ended(pod.facts.incarnation, reason, Some(code));
        pod.facts.life = Life::Ended(Box::new(end));
        pod.facts.container = Container::Terminated;
    }
    true
}

/// The kubelet has ended a pod that was deleted.
pub(super) fn confirm(pod: &mut Pod) -> bool {
    let confirmed =
        pod.facts.deleting && pod.facts.life != Life::Unproven && pod.node == Node::Reached;
    pod.runs &= !confirmed;
    !confirmed
}

/// What happens to a pod with its node; `false` when its object is gone.
pub(super) fn of_node(pod: &mut Pod, step: &Step) -> bool {
    match (step, pod.node) {
        (Step::Cut, Node::Reached) => pod.node = Node::Cut,
        (Step::Evict, Node::Cut | Node::Off) => pod.facts.deleting = true,
        (Step::SayFailed, Node::Cut | Node::Off) if pod.facts.life == Life::Alive => {
            pod.facts.life = Life::Unproven;
        }
        (Step::SwitchOff, Node::Reached | Node::Cut) => {
            pod.node = Node::Off;
            pod.runs = false;
        }
        // The pod garbage collector, of a node that was declared out of service
        // or deleted: whoever does either has switched it off. It says that the
        // pod has failed first, and then takes its object.
        (Step::Collect, Node::Off) => {
            if pod.facts.life == Life::Unproven {
                return false;
            }
            if pod.facts.life == Life::Alive {
                pod.facts.life = Life::Unproven;
            }
        }
        (Step::Return, Node::Cut) => pod.node = Node::Reached,
        (Step::Return, Node::Off) => {
            pod.node = Node::Reached;
            // Its kubelet finds what was there before the power was cut.
            if pod.facts.life == Life::Alive {
                let end = ended(pod.facts.incarnation, "ContainerFailed", Some(255));
                pod.facts.life = Life::Ended(Box::new(end));
                pod.facts.container = Container::Terminated;
            }
        }
        _ => {}
    }
    true
}
