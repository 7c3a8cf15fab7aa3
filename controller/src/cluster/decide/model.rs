//! Two controllers that lead in turn, with caches as stale as can be, a
//! kubelet, a node that is cut off, evicted, switched off, declared out of
//! service or deleted, and that comes back, and a restless user, in every
//! order: never do two pods of the VM run at once.
//!
//! The decisions and statuses are the real ones; the API server is a model of
//! what matters of it: names are unique, a status write names the version it
//! follows, a deletion takes a running pod's object only when its kubelet
//! confirms, and a pod's with a final phase at once. A request of a leader has
//! arrived when the next one begins, or never does: the assumption in
//! `cluster`.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::vm::RunPolicy;
use proptest::prelude::*;
use serde_json::json;

use pods::{Node, Pod, confirm, end, of_node, start};

use super::*;
use crate::cluster::apply::Outcome;
use crate::cluster::facts::Life;
use crate::cluster::status::{Sources, status};
use crate::cluster::testing::{at, settings, vm};

#[derive(Clone, Debug, Default)]
struct Cache {
    vm: Option<VirtualMachine>,
    pods: Vec<PodFacts>,
    /// A request to create a pod that is under way.
    post: Option<(PodFacts, Observation)>,
}

#[derive(Debug)]
struct World {
    vm: VirtualMachine,
    version: u64,
    pods: BTreeMap<String, Pod>,
    /// Guests that run although their pod's object is gone.
    ghosts: usize,
    caches: [Cache; 2],
    leader: usize,
    uids: u64,
    now: i64,
}

#[derive(Clone, Debug)]
enum Step {
    SeeVm(usize),
    SeePods(usize),
    Look,
    PostArrives,
    HandOver { arrives: bool },
    Start,
    End(i32),
    Confirm,
    Cut,
    Evict,
    SayFailed,
    SwitchOff,
    Collect,
    Return,
    DeletePod,
    Policy(RunPolicy),
    Restart,
    Change,
}

impl World {
    fn new() -> Self {
        Self {
            vm: vm(json!({"metadata": {"resourceVersion": "0"}})),
            version: 0,
            pods: BTreeMap::new(),
            ghosts: 0,
            caches: <[Cache; 2]>::default(),
            leader: 0,
            uids: 0,
            now: 1000,
        }
    }

    fn take(&mut self, step: &Step) {
        // Long enough that every pause has passed.
        self.now += 1000;
        match step {
            Step::SeeVm(c) => self.caches[*c].vm = Some(self.vm.clone()),
            Step::SeePods(c) => {
                self.caches[*c].pods = self.pods.values().map(|pod| pod.facts.clone()).collect();
            }
            Step::Look => self.look(self.leader),
            Step::PostArrives => self.post(self.leader),
            Step::HandOver { arrives } => {
                if *arrives {
                    self.post(self.leader);
                }
                self.caches[self.leader].post = None;
                self.leader = 1 - self.leader;
            }
            Step::Start => self.on_pods(start),
            Step::End(code) => self.on_pods(|pod| end(pod, *code)),
            Step::Confirm => self.on_pods(confirm),
            Step::Cut
            | Step::Evict
            | Step::SayFailed
            | Step::SwitchOff
            | Step::Collect
            | Step::Return => self.on_pods(|pod| of_node(pod, step)),
            // A user who deletes a pod of a lost node with a final phase removes
            // it at once, and answers for it: not modelled.
            Step::DeletePod => self.on_pods(|pod| {
                pod.facts.deleting = true;
                pod.facts.termination().is_none()
            }),
            Step::Policy(_) | Step::Restart | Step::Change => self.user(step),
        }
    }

    /// What a user does to the VM.
    fn user(&mut self, step: &Step) {
        match step {
            Step::Policy(policy) => self.vm.spec.run_policy = *policy,
            Step::Restart => {
                let annotations = self.vm.metadata.annotations.get_or_insert_default();
                annotations.insert("coracle.dev/restart".into(), self.now.to_string());
                return self.changed();
            }
            _ => {}
        }
        let generation = self.vm.metadata.generation.unwrap_or(0);
        self.vm.metadata.generation = Some(generation + 1);
        self.changed();
    }

    /// Changes every pod; those for which `keep` is false are gone.
    fn on_pods(&mut self, mut keep: impl FnMut(&mut Pod) -> bool) {
        let ghosts = &mut self.ghosts;
        self.pods.retain(|_, pod| {
            let stays = keep(pod);
            *ghosts += usize::from(!stays && pod.runs);
            stays
        });
    }

    fn changed(&mut self) {
        self.version += 1;
        self.vm.metadata.resource_version = Some(self.version.to_string());
    }

    fn look(&mut self, c: usize) {
        let cache = &self.caches[c];
        let (Some(vm), None) = (&cache.vm, &cache.post) else {
            return;
        };
        let observe = |vm: &VirtualMachine, pods: Vec<PodFacts>| Observation {
            vm: Arc::new(vm.clone()),
            pods: pods.into_iter().map(Arc::new).collect(),
            observed: Observed::default(),
        };
        let now = at(self.now);
        let mut seen = observe(vm, cache.pods.clone());
        let mut decision = decide(&seen, &settings(), now);
        if matches!(decision.act, Act::Create(_)) {
            // As `confirm` does: the VM and the pod of its status, from the
            // API server; what else is known of pods, from the cache.
            let incarnation = self
                .vm
                .status
                .as_ref()
                .and_then(|status| status.incarnation);
            let named = incarnation.map(|number| format!("web-{number}"));
            let mut pods = cache.pods.clone();
            pods.retain(|pod| Some(&pod.name) != named.as_ref());
            let live = named.and_then(|name| self.pods.get(&name));
            pods.extend(live.map(|pod| pod.facts.clone()));
            seen = observe(&self.vm, pods);
            decision = decide(&seen, &settings(), now);
        }
        match &decision.act {
            Act::Nothing | Act::SetDesired(..) | Act::Claims(_) => {
                self.report(&seen, &decision, &Outcome::Done);
            }
            Act::Delete(pod, _) => {
                // Only that very version of it, as `apply` asks.
                let Some(there) = self.pods.get(&pod.name) else {
                    return;
                };
                if there.facts != **pod {
                    return;
                }
                let name = pod.name.clone();
                self.on_pods(|there| {
                    there.facts.deleting |= there.facts.name == name;
                    there.facts.name != name || there.facts.life == Life::Alive
                });
                self.report(&seen, &decision, &Outcome::Done);
            }
            Act::Create(pod) => {
                let facts = PodFacts::of(pod, "web").expect("a pod of the VM");
                self.caches[c].post = Some((facts, seen));
            }
        }
    }

    fn post(&mut self, c: usize) {
        let Some((mut facts, seen)) = self.caches[c].post.take() else {
            return;
        };
        if let Some(there) = self.pods.get(&facts.name) {
            facts = there.facts.clone();
        } else {
            self.uids += 1;
            facts.uid = Some(self.uids.to_string());
            let name = facts.name.clone();
            let facts = facts.clone();
            let pod = Pod {
                facts,
                runs: true,
                node: Node::Reached,
            };
            self.pods.insert(name, pod);
        }
        let decision = Decision::rest(Stage::Creating);
        self.report(&seen, &decision, &Outcome::Created(Arc::new(facts)));
    }

    fn report(&mut self, seen: &Observation, decision: &Decision, outcome: &Outcome) {
        let sources = Sources {
            seen,
            decision,
            outcome,
            settings: &settings(),
            now: at(self.now),
        };
        let current = self.vm.metadata.resource_version == seen.vm.metadata.resource_version;
        if let (Some(new), true) = (status(&sources), current) {
            self.vm.status = Some(new);
            self.changed();
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let controller = 0..2_usize;
    let step = prop_oneof![
        4 => controller.clone().prop_map(Step::SeeVm),
        4 => controller.prop_map(Step::SeePods),
        8 => Just(Step::Look),
        6 => Just(Step::PostArrives),
        2 => any::<bool>().prop_map(|arrives| Step::HandOver { arrives }),
        2 => Just(Step::Start),
        2 => (0..4).prop_map(Step::End),
        3 => Just(Step::Confirm),
        2 => Just(Step::Cut),
        1 => Just(Step::Evict),
        1 => Just(Step::SayFailed),
        1 => Just(Step::SwitchOff),
        2 => Just(Step::Collect),
        1 => Just(Step::Return),
        1 => Just(Step::DeletePod),
        1 => prop_oneof![
            Just(RunPolicy::Always), Just(RunPolicy::OnFailure),
            Just(RunPolicy::Once), Just(RunPolicy::Halted)
        ].prop_map(Step::Policy),
        1 => Just(Step::Restart),
        1 => Just(Step::Change),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn two_pods_of_a_vm_never_run_at_once(steps in steps()) {
        let mut world = World::new();
        let mut highest = 0;
        for (index, step) in steps.iter().enumerate() {
            world.take(step);
            let running: Vec<&String> = world
                .pods
                .iter()
                .filter(|(_, pod)| pod.runs)
                .map(|(name, _)| name)
                .collect();
            let running = running.len() + world.ghosts;
            prop_assert!(running <= 1, "{running} run after step {index} of {steps:?}");
            let incarnation = world.vm.status.as_ref().and_then(|s| s.incarnation).unwrap_or(0);
            prop_assert!(incarnation >= highest, "the number went back at {index} of {steps:?}");
            highest = incarnation;
        }
    }
}

/// What a controller and a kubelet do when nothing disturbs them.
fn round(world: &mut World) {
    for step in [
        Step::SeeVm(0),
        Step::SeePods(0),
        Step::Look,
        Step::PostArrives,
        Step::Confirm,
        Step::Start,
    ] {
        world.take(&step);
    }
}

#[test]
fn a_vm_of_a_lost_node_stays_one_until_its_node_is_known_to_be_off() {
    let mut world = World::new();
    for _ in 0..6 {
        round(&mut world);
    }
    let only = |world: &World| world.pods.keys().cloned().collect::<Vec<_>>();
    assert_eq!(only(&world), ["web-1"]);
    for step in [
        Step::Cut,
        Step::Evict,
        Step::Restart,
        Step::SayFailed,
        Step::SwitchOff,
    ] {
        world.take(&step);
        for _ in 0..6 {
            round(&mut world);
        }
        assert_eq!(only(&world), ["web-1"], "after {step:?}");
    }
    world.take(&Step::Collect);
    for _ in 0..6 {
        round(&mut world);
    }
    assert_eq!(only(&world), ["web-2"]);
}

#[test]
fn left_alone_a_vm_always_comes_to_run() {
    let mut world = World::new();
    let mut made = 0;
    for _ in 0..4 {
        for _ in 0..6 {
            round(&mut world);
        }
        let phase = world.vm.status.as_ref().and_then(|status| status.phase);
        assert_eq!(phase, Some(coracle_api::vm::Phase::Running));
        assert_eq!(world.pods.len(), 1);
        made += 1;
        let status = world.vm.status.as_ref().expect("a status");
        assert_eq!(status.incarnation, Some(made));
        world.take(&Step::End(3));
    }
}

mod pods;
