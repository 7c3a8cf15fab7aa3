//! Nothing that may happen, in whatever order, hands one device to two
//! containers, or one that is not there to any.
//!
//! The kubelet of the model does as the real one: it believes the last list it
//! was sent, gives out names that it thinks free, knows nothing of what a name
//! leads to, and is told of the end of a container by nobody but itself.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::allocation::allocate;
use crate::config::Grant;
use crate::holdings::InUse;

/// Functions; two of each group.
const FUNCTIONS: usize = 6;
const RESOURCES: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    Plug(usize),
    Unplug(usize),
    Rebind(usize, bool),
    /// Which resource has which function.
    Reload([Option<usize>; FUNCTIONS]),
    KubeletRestarts,
    PluginRestarts,
    /// The kubelet says what is in use.
    Listed,
    Allocate {
        resource: usize,
        count: usize,
    },
    ContainerEnds(usize),
    TimePasses,
}

fn event() -> impl Strategy<Value = Event> {
    let function = 0..FUNCTIONS;
    let owner = proptest::option::weighted(0.8, 0..RESOURCES);
    prop_oneof![
        2 => function.clone().prop_map(Event::Plug),
        1 => function.clone().prop_map(Event::Unplug),
        2 => (function, any::<bool>()).prop_map(|(function, vfio)| Event::Rebind(function, vfio)),
        1 => proptest::array::uniform6(owner).prop_map(Event::Reload),
        1 => Just(Event::KubeletRestarts),
        1 => Just(Event::PluginRestarts),
        1 => Just(Event::Listed),
        6 => (0..RESOURCES, 1_usize..3).prop_map(|(resource, count)| Event::Allocate { resource, count }),
        3 => (0_usize..8).prop_map(Event::ContainerEnds),
        1 => Just(Event::TimePasses),
    ]
}

fn address(function: usize) -> String {
    format!("0000:0{function}:00.0")
}

fn text(owners: &[Option<usize>; FUNCTIONS]) -> String {
    let mut text = "resources:\n".to_owned();
    for resource in 0..RESOURCES {
        let own = owners
            .iter()
            .enumerate()
            .filter(|(_, owner)| **owner == Some(resource));
        let selectors: Vec<_> = own
            .map(|(function, _)| format!("{{address: \"{}\"}}", address(function)))
            .collect();
        if !selectors.is_empty() {
            let line = format!(
                "- {{name: a/r{resource}, pci: [{}]}}
",
                selectors.join(", ")
            );
            text.push_str(&line);
        }
    }
    text
}

/// A container, and what it was given.
struct Container {
    resource: String,
    ids: Vec<String>,
}

struct World {
    host: Host,
    inventory: Inventory,
    settings: Settings,
    holdings: Holdings,
    /// The lists as the kubelet has them.
    lists: BTreeMap<String, Listing>,
    containers: Vec<Container>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            host: Host {
                vfio: vfio(),
                ..Host::default()
            },
            inventory: Inventory::default(),
            settings: parse(&text(&[
                Some(0),
                Some(0),
                Some(0),
                Some(1),
                Some(1),
                Some(2),
            ]))
            .expect("good"),
            holdings: Holdings::default(),
            lists: BTreeMap::new(),
            containers: vec![],
            now: Instant::now(),
        };
        for function in 0..FUNCTIONS {
            world.plug(function);
        }
        world.observe();
        world.look();
        world
    }

    fn plug(&mut self, number: usize) {
        let group = u32::try_from(number / 2).expect("small");
        self.host
            .pci
            .entry(address(number))
            .or_insert_with(|| function(group));
    }

    /// What the task of the stock does.
    fn look(&mut self) {
        self.inventory = Inventory::take(&self.settings, &[], &self.host);
        self.lists = self
            .inventory
            .offer(&self.holdings)
            .into_iter()
            .map(|listing| (listing.resource.name.clone(), listing))
            .collect();
    }

    fn observe(&mut self) {
        let pairs = self.containers.iter().flat_map(|container| {
            container
                .ids
                .iter()
                .map(|id| (container.resource.clone(), id.clone()))
        });
        let in_use: InUse = pairs.collect();
        let (inventory, host) = (&self.inventory, &self.host);
        self.holdings.observe(&in_use, self.now, |resource, id| {
            inventory.key_of(host, resource, id)
        });
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Plug(function) => self.plug(function),
            // The kernel does not let go of a function that a guest has.
            Event::Unplug(function) => {
                if !self.is_held(&address(function)) {
                    self.host.pci.remove(&address(function));
                }
            }
            Event::Rebind(function, vfio) => {
                if let Some(function) = self.host.pci.get_mut(&address(function)) {
                    function.driver = Some(if vfio { "vfio-pci" } else { "nvidia" }.into());
                }
            }
            Event::Reload(owners) => self.settings = parse(&text(&owners)).expect("good"),
            // It asks for the lists again, and remembers who has what.
            Event::KubeletRestarts => {}
            Event::PluginRestarts => {
                self.holdings = Holdings::default();
                self.observe();
            }
            Event::Listed => self.observe(),
            Event::Allocate { resource, count } => {
                return self.allocate(&format!("a/r{resource}"), count);
            }
            Event::ContainerEnds(index) => {
                if index < self.containers.len() {
                    self.containers.remove(index);
                }
                return;
            }
            Event::TimePasses => self.now += Duration::from_secs(60),
        }
        self.look();
    }

    fn is_held(&self, id: &str) -> bool {
        self.containers
            .iter()
            .any(|container| container.ids.iter().any(|other| other == id))
    }

    /// What the kubelet does for a container; the list it goes by is the one
    /// it was sent, which what was given out since has not changed.
    fn allocate(&mut self, resource: &str, count: usize) {
        let Some(listing) = self.lists.get(resource) else {
            return;
        };
        let free = |entry: &&Arc<Entry>| {
            let held = |container: &Container| {
                container.resource == resource && container.ids.iter().any(|id| **id == *entry.id)
            };
            entry.health == Health::Healthy && !self.containers.iter().any(held)
        };
        let ids: Vec<String> = listing
            .entries
            .iter()
            .filter(free)
            .take(count)
            .map(|entry| entry.id.to_string())
            .collect();
        if ids.len() < count {
            return;
        }
        let grant = Grant::Node { dir: "/d".into() };
        let answer = allocate(listing, &grant, &mut self.holdings, &[&ids], self.now);
        if answer.is_ok() {
            let resource = resource.to_owned();
            self.containers.push(Container { resource, ids });
        }
    }

    fn check(&self) {
        let mut holders: BTreeMap<u32, usize> = BTreeMap::new();
        for (index, container) in self.containers.iter().enumerate() {
            for id in &container.ids {
                let group = self.host.group(id).expect("what is held stays");
                let holder = *holders.entry(group).or_insert(index);
                assert_eq!(holder, index, "group {group} was given to two containers");
            }
        }
        for entry in self.lists.values().flat_map(|listing| &listing.entries) {
            if entry.health == Health::Healthy {
                let function = self
                    .host
                    .pci
                    .get(&*entry.id)
                    .expect("what is offered is there");
                assert_eq!(function.driver.as_deref(), Some("vfio-pci"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_device_is_given_twice_or_offered_while_it_is_missing(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut world = World::new();
        for event in events {
            world.happens(event);
            world.check();
        }
    }
}
