//! PCI functions, from `/sys/bus/pci/devices`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{attribute, cdev, group, hex, link, names, numa};

/// A PCI function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) vendor: u32,
    pub(crate) device: u32,
    /// Vendor and device of the board.
    pub(crate) subsystem: (u32, u32),
    /// Class, subclass, interface.
    pub(crate) class: u32,
    pub(crate) driver: Option<String>,
    pub(crate) group: Option<u32>,
    pub(crate) numa: Option<u32>,
    /// Its configuration space reads all ones: nobody answers.
    pub(crate) silent: bool,
    /// The name of its own VFIO node.
    pub(crate) cdev: Option<String>,
}

impl Function {
    /// Whether it leads to other functions. A bridge may stay with the host
    /// when its group goes to a guest.
    pub(crate) fn is_bridge(&self) -> bool {
        self.class >> 16 == 0x06
    }
}

pub(super) fn scan(sys: &Path) -> BTreeMap<String, Function> {
    let dir = sys.join("bus/pci/devices");
    let functions = names(&dir).into_iter().filter_map(|address| {
        let function = read(&dir.join(&address))?;
        Some((address, function))
    });
    functions.collect()
}

/// Nothing when it went away meanwhile.
fn read(device: &Path) -> Option<Function> {
    Some(Function {
        vendor: hex(device, "vendor")?,
        device: hex(device, "device")?,
        subsystem: (
            hex(device, "subsystem_vendor").unwrap_or_default(),
            hex(device, "subsystem_device").unwrap_or_default(),
        ),
        class: hex(device, "class")?,
        driver: link(device, "driver"),
        group: group(device),
        numa: numa(device),
        silent: is_silent(device),
        cdev: cdev(device),
    })
}

/// Reading the configuration space would wake a function that is switched off.
fn is_silent(device: &Path) -> bool {
    if attribute(device, "power_state").is_some_and(|state| state == "D3cold") {
        return false;
    }
    let mut id = [0; 4];
    let read = File::open(device.join("config")).and_then(|mut file| file.read_exact(&mut id));
    read.is_ok() && id == [0xff; 4]
}
