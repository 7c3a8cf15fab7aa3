//! Which device of the node is which of the VM: from the environment, pure.
//!
//! A device plugin lists in one variable what it gave the container of one
//! resource; the VM's devices of that resource take them in that order. No two
//! take the same, whatever the variables say.

use std::collections::BTreeMap;
use std::fmt;

use coracle_api::machine::Device;

use super::DeviceError;

/// The beginnings of the variables that name devices, ours first: where two
/// are set they name the same devices.
const PREFIXES: [&str; 5] = [
    "CORACLE_DEVICE_",
    "PCI_RESOURCE_",
    "MDEV_PCI_RESOURCE_",
    "USB_RESOURCE_",
    "PCIDEVICE_",
];

/// The variables of the environment that name devices.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Keeps those of `all` that name devices.
    pub fn of(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let names_devices = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Self(
            all.into_iter()
                .filter(|(name, _)| names_devices(name))
                .collect(),
        )
    }
}

/// A device as its plugin names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Id {
    /// A PCI function: `0000:3b:00.0`.
    Pci(String),
    /// A mediated device: its UUID.
    Mdev(String),
    /// A USB device by its port: `1-4.2`.
    UsbPort(String),
    /// A USB device by bus and number: `1:7`.
    UsbNumber(u16, u16),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(id) | Self::Mdev(id) | Self::UsbPort(id) => f.write_str(id),
            Self::UsbNumber(bus, number) => write!(f, "{bus}:{number}"),
        }
    }
}

impl Id {
    /// Reads a device's name; `None` for one of no kind that a guest can get.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if is_pci(&text) {
            return Some(Self::Pci(text));
        }
        if is_uuid(&text) {
            return Some(Self::Mdev(text));
        }
        if is_usb_port(&text) {
            return Some(Self::UsbPort(text));
        }
        let (bus, number) = text.split_once(':')?;
        is_decimal(bus).then_some(())?;
        is_decimal(number).then_some(())?;
        Some(Self::UsbNumber(bus.parse().ok()?, number.parse().ok()?))
    }
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `dddd:bb:dd.f`, the domain of the four digits that qemu takes.
fn is_pci(text: &str) -> bool {
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = parts[..] else {
        return false;
    };
    hex(domain, 4)
        && hex(bus, 2)
        && hex(device, 2)
        && matches!(function.as_bytes(), [b'0'..=b'7'])
        && text == format!("{domain}:{bus}:{device}.{function}")
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `bus-port.port…`
fn is_usb_port(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(bus, ports)| is_decimal(bus) && ports.split('.').all(is_decimal))
}

/// A device of the VM with its name on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    /// The variable that has it; `None` where its node says it.
    pub(super) variable: Option<String>,
    pub(super) id: Id,
}

impl Assigned {
    pub(super) fn is_vfio(&self) -> bool {
        matches!(self.id, Id::Pci(_) | Id::Mdev(_))
    }
}

/// The variables that may name the devices of `resource`, best first.
pub(super) fn names(resource: &str) -> Vec<String> {
    let upper = resource.to_uppercase().replace(['.', '/'], "_");
    // A dash is none of a shell's characters: some plugins keep it.
    let plain = upper.replace('-', "_");
    let mut names: Vec<String> = Vec::new();
    for prefix in PREFIXES {
        for resource in [&plain, &upper] {
            let name = format!("{prefix}{resource}");
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Gives each device its own; nothing where no variable is of its resource.
///
/// # Errors
/// With the place of the device that has none.
pub(super) fn assign(
    devices: &[Device],
    variables: &Variables,
) -> Result<Vec<Option<Assigned>>, (usize, DeviceError)> {
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    let mut taken: BTreeMap<Id, usize> = BTreeMap::new();
    let mut assigned = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let named = names(&device.resource)
            .into_iter()
            .find_map(|name| variables.0.get_key_value(&name));
        let Some((variable, value)) = named else {
            assigned.push(None);
            continue;
        };
        let place = next.entry(&device.resource).or_default();
        let failed = |error| (index, error);
        let id = pick(variable, value, *place).map_err(failed)?;
        *place += 1;
        if let Some(other) = taken.insert(id.clone(), index) {
            let other = devices[other].name.clone();
            let id = id.to_string();
            return Err(failed(DeviceError::SameDevice { id, other }));
        }
        assigned.push(Some(Assigned {
            variable: Some(variable.clone()),
            id,
        }));
    }
    Ok(assigned)
}

/// What is at a place of a list.
fn pick(variable: &str, value: &str, place: usize) -> Result<Id, DeviceError> {
    let mut ids = value.split(',').filter(|id| !id.trim().is_empty());
    let Some(id) = ids.clone().nth(place) else {
        return Err(DeviceError::TooFew {
            variable: variable.to_owned(),
            count: ids.by_ref().count(),
        });
    };
    Id::parse(id).ok_or_else(|| DeviceError::Unsupported {
        variable: variable.to_owned(),
        id: id.to_owned(),
    })
}
