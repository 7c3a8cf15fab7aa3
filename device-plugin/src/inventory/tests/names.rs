//! Character devices with several names, of which some come and go: whatever
//! happens, in whatever order, no two containers have one device.
//!
//! What the kernel does not do, the model does not: the numbers of a device that
//! a container has stay that device's, also while it has no name.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::allocation::allocate;
use crate::config::Grant;
use crate::holdings::InUse;

const NAMES: usize = 5;
const DEVICES: u64 = 3;
const RESOURCES: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Which device a name leads to.
    Link(usize, Option<u64>),
    /// Which resource selects which names.
    Reload([Option<usize>; NAMES]),
    PluginRestarts,
    Listed,
    Allocate(usize),
    ContainerEnds(usize),
    TimePasses,
}

fn event() -> impl Strategy<Value = Event> {
    let device = proptest::option::weighted(0.7, 0..DEVICES);
    let owner = proptest::option::weighted(0.8, 0..RESOURCES);
    prop_oneof![
        4 => (0..NAMES, device).prop_map(|(name, device)| Event::Link(name, device)),
        1 => proptest::array::uniform5(owner).prop_map(Event::Reload),
        1 => Just(Event::PluginRestarts),
        1 => Just(Event::Listed),
        6 => (0..RESOURCES).prop_map(Event::Allocate),
        2 => (0_usize..4).prop_map(Event::ContainerEnds),
        1 => Just(Event::TimePasses),
    ]
}

fn text(owners: &[Option<usize>; NAMES]) -> String {
    let mut text = "resources:\n".to_owned();
    for resource in 0..RESOURCES {
        let own = (0..NAMES).filter(|name| owners[*name] == Some(resource));
        let selectors: Vec<_> = own.map(|n| format!("{{glob: /dev/n{n}}}")).collect();
        if !selectors.is_empty() {
            let selectors = selectors.join(", ");
            let line = format!("- {{name: a/r{resource}, chardev: [{selectors}]}}\n");
            text.push_str(&line);
        }
    }
    text
}

/// A container, and the device that it was given by some name.
struct Container {
    resource: String,
    id: String,
    device: u64,
}

struct World {
    host: Host,
    inventory: Inventory,
    settings: Settings,
    holdings: Holdings,
    lists: BTreeMap<String, Listing>,
    containers: Vec<Container>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let owners = [Some(0), Some(0), Some(1), Some(1), None];
        let mut world = Self {
            host: Host::default(),
            inventory: Inventory::default(),
            settings: parse(&text(&owners)).expect("good"),
            holdings: Holdings::default(),
            lists: BTreeMap::new(),
            containers: vec![],
            now: Instant::now(),
        };
        world.observe();
        world
    }

    fn look(&mut self) {
        self.inventory = Inventory::take(&self.settings, &[], &self.host);
        let listings = self.inventory.offer(&self.holdings).into_iter();
        self.lists = listings.map(|l| (l.resource.name.clone(), l)).collect();
    }

    fn observe(&mut self) {
        let all = self.containers.iter();
        let in_use: InUse = all.map(|c| (c.resource.clone(), c.id.clone())).collect();
        let (inventory, host) = (&self.inventory, &self.host);
        let key_of = |resource: &str, id: &str| inventory.key_of(host, resource, id);
        self.holdings.observe(&in_use, self.now, key_of);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Link(name, device) => {
                let path = format!("n{name}");
                let before = self.host.nodes.remove(&path);
                // A name that a container was given leads to no other device.
                let held = self.containers.iter().any(|c| c.id == path);
                if let Some(device) = if held { before } else { device } {
                    self.host.nodes.insert(path, device);
                }
            }
            Event::Reload(owners) => self.settings = parse(&text(&owners)).expect("good"),
            // Whoever starts anew cannot know what a name led to that is gone.
            Event::PluginRestarts if self.containers.iter().all(|c| self.is_there(c)) => {
                self.holdings = Holdings::default();
                self.observe();
            }
            Event::PluginRestarts => {}
            Event::Listed => self.observe(),
            Event::Allocate(resource) => return self.allocate(&format!("a/r{resource}")),
            Event::ContainerEnds(index) => {
                if index < self.containers.len() {
                    self.containers.remove(index);
                }
            }
            Event::TimePasses => self.now += Duration::from_secs(60),
        }
        self.look();
    }

    fn is_there(&self, container: &Container) -> bool {
        let Container { resource, id, .. } = container;
        self.inventory.key_of(&self.host, resource, id).is_some()
    }

    fn allocate(&mut self, resource: &str) {
        let Some(listing) = self.lists.get(resource) else {
            return;
        };
        let held = |id: &str| {
            let mut all = self.containers.iter();
            all.any(|c| c.resource == resource && c.id == id)
        };
        let free = |entry: &&Arc<Entry>| entry.health == Health::Healthy && !held(&entry.id);
        let Some(entry) = listing.entries.iter().find(free) else {
            return;
        };
        let (ids, device) = ([entry.id.to_string()], entry.nodes[0].rdev);
        let grant = Grant::Node { dir: "/d".into() };
        let answer = allocate(listing, &grant, &mut self.holdings, &[&ids], self.now);
        if answer.is_ok() {
            let [id] = ids;
            self.containers.push(Container {
                resource: resource.to_owned(),
                id,
                device,
            });
        }
    }

    fn check(&self) {
        let mut given = BTreeSet::new();
        for container in &self.containers {
            let first = given.insert(container.device);
            assert!(first, "{} was given to two containers", container.device);
        }
        for listing in self.lists.values() {
            let devices = listing.entries.iter().filter_map(|e| e.nodes.first());
            let mut once = BTreeSet::new();
            for node in devices {
                assert!(once.insert(node.rdev), "{} is listed twice", node.rdev);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_device_is_given_twice_by_two_of_its_names(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut world = World::new();
        for event in events {
            world.happens(event);
            world.check();
        }
    }
}
