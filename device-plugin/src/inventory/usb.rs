//! USB devices, by the port they are plugged into: what is plugged in again
//! has the same name, and a node of new numbers.

use super::{Selected, What};
use crate::host::{Host, UsbDevice};
use crate::listing::{Entry, Health, Key};
use crate::node::Node;
use crate::settings::UsbSelector;

pub(super) fn select<'a>(selectors: &[UsbSelector], host: &'a Host) -> Vec<Selected<'a>> {
    let mut all = vec![];
    for (port, device) in &host.usb {
        if let Some(selector) = selectors
            .iter()
            .find(|selector| matches(selector, port, device))
        {
            all.push(Selected {
                entry: entry(port, device),
                what: What::Usb(port),
                line: selector.line,
            });
        }
    }
    all
}

fn matches(selector: &UsbSelector, port: &str, device: &UsbDevice) -> bool {
    let is = |wanted: Option<u32>, found: u32| wanted.is_none_or(|wanted| wanted == found);
    is(selector.vendor, device.vendor)
        && is(selector.product, device.product)
        && selector.port.as_ref().is_none_or(|wanted| wanted == port)
        && selector
            .serial
            .as_ref()
            .is_none_or(|serial| Some(serial) == device.serial.as_ref())
}

fn entry(port: &str, device: &UsbDevice) -> Entry {
    let path = device.path();
    let health = match device.node {
        Some(rdev) if rdev == device.rdev => Health::Healthy,
        Some(_) => Health::unhealthy(format!("/dev/{path} is another device")),
        None => Health::unhealthy(format!("/dev/{path} is not there")),
    };
    Entry {
        health,
        key: Some(Key::Usb(port.into())),
        nodes: [Node::named(&format!("usb/{port}"), &path, device.rdev)].into(),
        usb: Some(device.address),
        ..Entry::new(port)
    }
}
