//! PCI functions for guests, by VFIO. The unit is the IOMMU group: the kernel
//! gives it to one user, and only when every function in it is free.

use super::{Selected, What, vfio_nodes};
use crate::host::{Function, Host};
use crate::listing::{Entry, Health, Key};
use crate::node::Node;
use crate::settings::PciSelector;

pub(super) fn select<'a>(selectors: &[PciSelector], host: &'a Host) -> Vec<Selected<'a>> {
    let mut all = vec![];
    for (address, function) in &host.pci {
        let selector = selectors
            .iter()
            .find(|selector| matches(selector, address, function));
        if let Some(selector) = selector {
            all.push(Selected {
                entry: entry(address, function, &selector.driver, host),
                what: What::Pci(address),
                line: selector.line,
            });
        }
    }
    all
}

fn matches(selector: &PciSelector, address: &str, function: &Function) -> bool {
    let class = format!("{:06x}", function.class);
    let is = |wanted: Option<u32>, found: u32| wanted.is_none_or(|wanted| wanted == found);
    let bridge = function.class >> 8 == 0x06_04;
    !bridge
        && is(selector.vendor, function.vendor)
        && is(selector.device, function.device)
        && selector
            .subsystem
            .is_none_or(|subsystem| subsystem == function.subsystem)
        && selector
            .class
            .as_ref()
            .is_none_or(|prefix| class.starts_with(prefix))
        && selector
            .address
            .as_ref()
            .is_none_or(|wanted| wanted == address)
}

fn entry(address: &str, function: &Function, driver: &str, host: &Host) -> Entry {
    let mut entry = Entry {
        numa: function.numa,
        key: function.group.map(Key::Group),
        ..Entry::new(address)
    };
    match nodes(address, function, driver, host) {
        Ok(nodes) => entry.nodes = nodes,
        Err(reason) => entry.health = Health::Unhealthy { reason },
    }
    entry
}

fn nodes(
    address: &str,
    function: &Function,
    driver: &str,
    host: &Host,
) -> Result<Box<[Node]>, String> {
    match function.driver.as_deref() {
        Some(bound) if bound == driver => {}
        Some(bound) => {
            return Err(format!(
                "it is bound to {bound}, not to {driver}: driverctl set-override {address} {driver}"
            ));
        }
        None => {
            return Err(format!(
                "it is bound to no driver: driverctl set-override {address} {driver}"
            ));
        }
    }
    let Some(group) = function.group else {
        return Err(
            "it is in no IOMMU group: switch VT-d or AMD-Vi on in the firmware, and add \
             intel_iommu=on or amd_iommu=on to the kernel's command line"
                .into(),
        );
    };
    viable(group, driver, host)?;
    if function.silent {
        return Err(
            "its configuration space reads all ones: it does not answer (fallen off the bus, or \
             it needs a power cycle)"
                .into(),
        );
    }
    vfio_nodes(
        &host.vfio,
        &format!("pci/{address}"),
        group,
        function.cdev.as_deref(),
    )
}

/// A group is viable when nobody but VFIO drives an endpoint in it.
fn viable(group: u32, driver: &str, host: &Host) -> Result<(), String> {
    let free = |name: &str| name == driver || name == "pci-stub" || name.contains("vfio");
    for (address, other) in &host.pci {
        if let Some(bound) = other.driver.as_deref()
            && other.group == Some(group)
            && !other.is_bridge()
            && !free(bound)
        {
            return Err(format!(
                "IOMMU group {group} is not viable: {address} in it is bound to {bound}; bind that \
                 to {driver} too, or to nothing"
            ));
        }
    }
    Ok(())
}
