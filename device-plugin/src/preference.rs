//! Which of the free devices a container should get (device plugin v1beta1,
//! `GetPreferredAllocation`): all at one NUMA node if possible, whole IOMMU
//! groups, and so that as much as possible stays whole for the next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::listing::{Entry, Key, Listing};

/// What goes to one container together.
struct Unit<'a> {
    ids: Vec<&'a str>,
    numa: Option<u32>,
    /// How many of its devices the resource has, free or not.
    size: usize,
}

/// `size` of the `available` devices, those of `must` first; fewer when there
/// are not so many.
pub(crate) fn prefer(
    listing: &Listing,
    available: &[String],
    must: &[String],
    size: usize,
) -> Vec<String> {
    let mut chosen: Vec<&str> = vec![];
    for id in must {
        if !chosen.contains(&id.as_str()) {
            chosen.push(id);
        }
    }
    let available: BTreeSet<&str> = available.iter().map(String::as_str).collect();
    let begun: BTreeSet<&Key> = entries(listing, &chosen)
        .filter_map(|e| e.key.as_ref())
        .collect();
    let near: BTreeSet<u32> = entries(listing, &chosen).filter_map(|e| e.numa).collect();

    // The rest of a group that the container gets some of: nobody else can
    // have it.
    let rest = listing
        .entries
        .iter()
        .filter(|entry| entry.key.as_ref().is_some_and(|key| begun.contains(key)));
    let rest: Vec<&str> = rest.map(|entry| &*entry.id).collect();
    let rest = rest
        .into_iter()
        .filter(|id| available.contains(id) && !chosen.contains(id));
    let rest: Vec<&str> = rest.collect();
    chosen.extend(rest);

    let mut units = units(listing, &available, &chosen);
    while chosen.len() < size && !units.is_empty() {
        let numa = best_numa(&units, &near, size - chosen.len());
        let index = best_unit(&units, numa, size - chosen.len());
        chosen.extend(units.remove(index).ids);
    }
    chosen.truncate(size);
    chosen.into_iter().map(ToOwned::to_owned).collect()
}

fn entries<'a>(listing: &'a Listing, ids: &[&'a str]) -> impl Iterator<Item = &'a Entry> {
    ids.iter().filter_map(|id| listing.find(id))
}

/// The free devices by group, without those that are chosen.
fn units<'a>(listing: &'a Listing, available: &BTreeSet<&str>, chosen: &[&str]) -> Vec<Unit<'a>> {
    let mut units: BTreeMap<(Option<&Key>, &str), Unit<'a>> = BTreeMap::new();
    for entry in &listing.entries {
        let alone = entry.key.is_none();
        let place = (entry.key.as_ref(), if alone { &*entry.id } else { "" });
        let unit = units.entry(place).or_insert(Unit {
            ids: vec![],
            numa: entry.numa,
            size: 0,
        });
        unit.size += 1;
        let id = &*entry.id;
        if available.contains(id) && !chosen.contains(&id) {
            unit.ids.push(id);
        }
    }
    units
        .into_values()
        .filter(|unit| !unit.ids.is_empty())
        .collect()
}

/// The NUMA node to take from: one that the container is at already, else the
/// fullest that has enough, else the one that has most.
fn best_numa(units: &[Unit<'_>], near: &BTreeSet<u32>, wanted: usize) -> Option<u32> {
    let mut free: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    for unit in units {
        *free.entry(unit.numa).or_default() += unit.ids.len();
    }
    let at_hand = |numa: &Option<u32>| numa.is_some_and(|numa| near.contains(&numa));
    let best = free.into_iter().min_by_key(|(numa, free)| {
        let enough = *free >= wanted;
        let spare = if enough { *free } else { usize::MAX - *free };
        (!at_hand(numa), !enough, spare)
    });
    best.and_then(|(numa, _)| numa)
}

/// The unit to take from at a NUMA node: a whole group that fits, the largest
/// first, else the one that leaves least behind.
fn best_unit(units: &[Unit<'_>], numa: Option<u32>, wanted: usize) -> usize {
    let places = units
        .iter()
        .enumerate()
        .filter(|(_, unit)| unit.numa == numa);
    let best = places.min_by_key(|(_, unit)| {
        let free = unit.ids.len();
        let whole = free == unit.size;
        if free <= wanted {
            (0, !whole, usize::MAX - free)
        } else {
            (1, false, free)
        }
    });
    best.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::resource::{Kind, Resource};

    /// Devices `a0`, `a1`… by (name, NUMA node, group).
    fn listing(devices: &[(&str, Option<u32>, u32)]) -> Listing {
        let entry = |(id, numa, group): &(&str, Option<u32>, u32)| Entry {
            numa: *numa,
            key: Some(Key::Group(*group)),
            ..Entry::new(id)
        };
        let resource = Resource::new("example.com/x", Kind::Pci, vec![]);
        Listing::new(Arc::new(resource), devices.iter().map(entry))
    }

    fn chosen(listing: &Listing, available: &[&str], must: &[&str], size: usize) -> Vec<String> {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let mut chosen = prefer(listing, &owned(available), &owned(must), size);
        chosen.sort();
        chosen
    }

    #[test]
    fn one_numa_node_and_whole_groups() {
        let (zero, one) = (Some(0), Some(1));
        let host = listing(&[
            ("a", zero, 1),
            ("b", zero, 2),
            ("c", zero, 3),
            ("d", one, 4),
            ("e", one, 5),
            ("f", one, 5),
        ]);
        let all = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(chosen(&host, &all, &[], 2), ["a", "b"]);
        assert_eq!(
            chosen(&host, &["a", "d", "e", "f"], &[], 2),
            ["e", "f"],
            "a whole group"
        );
        assert_eq!(
            chosen(&host, &["a", "d", "e", "f"], &[], 1),
            ["a"],
            "the fuller node"
        );
        assert_eq!(
            chosen(&host, &["d", "e", "f"], &[], 1),
            ["d"],
            "breaks no group"
        );
        assert_eq!(
            chosen(&host, &all, &["d"], 3),
            ["d", "e", "f"],
            "beside what it has"
        );
        assert_eq!(
            chosen(&host, &all, &["e"], 2),
            ["e", "f"],
            "the rest of its group"
        );
        assert_eq!(
            chosen(&host, &["a", "d"], &[], 2),
            ["a", "d"],
            "from both if it must be"
        );
        assert_eq!(chosen(&host, &["a"], &[], 2), ["a"]);
    }

    proptest! {
        #[test]
        fn the_answer_is_one_that_the_kubelet_takes(
            places in proptest::collection::vec((0_u32..3, 0_u32..6), 1..20),
            free in any::<u32>(), must in any::<u32>(), size in 0_usize..20,
        ) {
            let names: Vec<String> = (0..places.len()).map(|n| format!("d{n}")).collect();
            let devices: Vec<_> = names.iter().zip(&places)
                .map(|(name, (numa, group))| (name.as_str(), Some(*numa), *group)).collect();
            let pick = |bits: u32| names.iter().enumerate()
                .filter(|(n, _)| bits >> n & 1 == 1).map(|(_, name)| name.clone())
                .collect::<Vec<_>>();
            let available = pick(free);
            let must: Vec<String> = pick(free & must).into_iter().take(size).collect();
            let chosen = prefer(&listing(&devices), &available, &must, size);
            prop_assert_eq!(chosen.len(), size.min(available.len()));
            prop_assert!(must.iter().all(|id| chosen.contains(id)));
            prop_assert!(chosen.iter().all(|id| available.contains(id)));
            let different: BTreeSet<_> = chosen.iter().collect();
            prop_assert_eq!(different.len(), chosen.len());
        }
    }
}
