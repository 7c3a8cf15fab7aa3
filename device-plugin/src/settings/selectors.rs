//! Selectors: which devices a resource has. What one leaves out may be
//! anything; what it says must all be so.

use std::fmt;

use coracle_yaml::{Node, Value};

use super::read::{Fields, Reader, hex};

/// Most slots of a character device; a list of all is one message.
const MAX_SLOTS: u32 = 50_000;
/// The driver that gives a PCI function to a guest.
pub(crate) const VFIO_PCI: &str = "vfio-pci";

/// Devices of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selectors {
    Pci(Vec<PciSelector>),
    Mdev(Vec<MdevSelector>),
    Usb(Vec<UsbSelector>),
    Chardev(Vec<Chardev>),
}

/// PCI functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PciSelector {
    pub(crate) line: usize,
    pub(crate) vendor: Option<u32>,
    pub(crate) device: Option<u32>,
    /// Vendor and device of the board.
    pub(crate) subsystem: Option<(u32, u32)>,
    /// The first two or more digits of the class code.
    pub(crate) class: Option<String>,
    pub(crate) address: Option<String>,
    /// What it must be bound to.
    pub(crate) driver: String,
}

/// Mediated devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MdevSelector {
    pub(crate) line: usize,
    /// The type, by its identifier or its name.
    pub(crate) kind: Option<String>,
    /// The device that it is a part of.
    pub(crate) parent: Option<String>,
}

/// USB devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsbSelector {
    pub(crate) line: usize,
    pub(crate) vendor: Option<u32>,
    pub(crate) product: Option<u32>,
    pub(crate) serial: Option<String>,
    pub(crate) port: Option<String>,
}

/// Character devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chardev {
    pub(crate) line: usize,
    /// Below `/dev`; `*` and `?` stand for what a name may have.
    pub(crate) glob: String,
    /// How many containers may have each.
    pub(crate) count: u32,
}

impl fmt::Display for Chardev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/{}", self.glob)
    }
}

impl Reader {
    pub(super) fn selectors(&mut self, kind: &str, node: &Node) -> Option<Selectors> {
        let items = self.list(node);
        if items.is_empty() {
            if matches!(node.value, Value::List(_)) {
                self.problem(node.at, "no selector: which devices?");
            }
            return None;
        }
        match kind {
            "pci" => self.each(items, Self::pci).map(Selectors::Pci),
            "mdev" => self.each(items, Self::mdev).map(Selectors::Mdev),
            "usb" => self.each(items, Self::usb).map(Selectors::Usb),
            _ => self.each(items, Self::chardev).map(Selectors::Chardev),
        }
    }

    /// All of them; nothing when one is wrong.
    fn each<T>(
        &mut self,
        items: &[Node],
        read: impl Fn(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let before = self.problems.len();
        let all: Vec<T> = items.iter().filter_map(|item| read(self, item)).collect();
        (self.problems.len() == before).then_some(all)
    }

    /// A selector's fields: one that says nothing would select everything.
    fn selector<'a>(&mut self, node: &'a Node, known: &[&str]) -> Option<Fields<'a>> {
        let before = self.problems.len();
        let fields = self.fields(node, known)?;
        if fields.is_empty() && self.problems.len() == before {
            let words = coracle_yaml::quoted(known.iter().copied());
            self.problem(node.at, format!("selects everything: say one of {words}"));
            return None;
        }
        Some(fields)
    }

    fn pci(&mut self, node: &Node) -> Option<PciSelector> {
        let known = [
            "vendor",
            "device",
            "subsystem",
            "class",
            "address",
            "driver",
        ];
        let before = self.problems.len();
        let mut fields = self.selector(node, &known)?;
        let mut optional =
            |reader: &mut Self, name: &str| fields.take(name).and_then(|node| reader.hex(node, 4));
        let vendor = optional(self, "vendor");
        let device = optional(self, "device");
        let subsystem = fields
            .take("subsystem")
            .and_then(|node| self.subsystem(node));
        let class = fields.take("class").and_then(|node| self.class(node));
        let address = fields.take("address").and_then(|node| self.address(node));
        let driver = fields.take("driver").and_then(|node| self.text(node));
        let selects = vendor.is_some() || address.is_some() || class.is_some();
        let readable = self.problems.len() == before;
        if readable && !selects && device.is_none() && subsystem.is_none() {
            let message = "selects every function: say also \"vendor\", \"class\" or \"address\"";
            self.problem(node.at, message);
        }
        Some(PciSelector {
            line: node.at.line,
            vendor,
            device,
            subsystem,
            class,
            address,
            driver: driver.unwrap_or_else(|| VFIO_PCI.to_owned()),
        })
    }

    fn subsystem(&mut self, node: &Node) -> Option<(u32, u32)> {
        let text = self.text(node)?;
        let numbers = text.split_once(':');
        let numbers = numbers.and_then(|(vendor, device)| Some((hex(vendor, 4)?, hex(device, 4)?)));
        if numbers.is_none() {
            let message = format!("{text:?} is no subsystem: write it as 10de:1851");
            self.problem(node.at, message);
        }
        numbers
    }

    fn class(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text).to_lowercase();
        if [2, 4, 6]
            .iter()
            .any(|length| hex(&digits, *length).is_some())
        {
            return Some(digits);
        }
        let message = format!("{text:?} is no class: two, four or six hexadecimal digits, as 0300");
        self.problem(node.at, message);
        None
    }

    fn address(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        let address = pci_address(&text);
        if address.is_none() {
            let message = format!("{text:?} is no PCI address: write it as 0000:3b:00.0");
            self.problem(node.at, message);
        }
        address
    }

    fn mdev(&mut self, node: &Node) -> Option<MdevSelector> {
        let mut fields = self.selector(node, &["type", "parent"])?;
        Some(MdevSelector {
            line: node.at.line,
            kind: fields.take("type").and_then(|node| self.text(node)),
            parent: fields.take("parent").and_then(|node| self.address(node)),
        })
    }

    fn usb(&mut self, node: &Node) -> Option<UsbSelector> {
        let mut fields = self.selector(node, &["vendor", "product", "serial", "port"])?;
        let mut optional =
            |reader: &mut Self, name: &str| fields.take(name).and_then(|node| reader.hex(node, 4));
        Some(UsbSelector {
            line: node.at.line,
            vendor: optional(self, "vendor"),
            product: optional(self, "product"),
            serial: fields.take("serial").and_then(|node| self.text(node)),
            port: fields.take("port").and_then(|node| self.port(node)),
        })
    }

    fn port(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        if is_usb_port(&text) {
            return Some(text);
        }
        let message = format!(
            "{text:?} is no USB port: write it as the device's name in /sys/bus/usb/devices, 1-4.2"
        );
        self.problem(node.at, message);
        None
    }

    fn chardev(&mut self, node: &Node) -> Option<Chardev> {
        let mut fields = self.fields(node, &["glob", "count"])?;
        let glob = self.required(&mut fields, "glob");
        let glob = glob.and_then(|node| self.glob(node));
        let count = fields.take("count");
        let count = count.map_or(Some(1), |node| self.count(node, MAX_SLOTS));
        Some(Chardev {
            line: node.at.line,
            glob: glob?,
            count: count?,
        })
    }

    fn glob(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node)?;
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        match text.strip_prefix("/dev/") {
            Some(glob) if glob.split('/').all(plain) && !glob.contains('\0') => {
                Some(glob.to_owned())
            }
            _ => {
                let message = format!("{text:?} is no path of a device: write it as /dev/fuse");
                self.problem(node.at, message);
                None
            }
        }
    }
}

/// A PCI address in the kernel's spelling; the domain 0000 may be left out.
fn pci_address(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    let full = if text.len() == 7 {
        format!("0000:{text}")
    } else {
        text
    };
    let (domain, rest) = full.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    let good = (hex(domain, 4).or_else(|| hex(domain, 5)).is_some())
        && hex(bus, 2).is_some()
        && hex(slot, 2).is_some_and(|slot| slot < 32)
        && hex(function, 1).is_some_and(|function| function < 8);
    good.then_some(full)
}

/// A bus, a dash, ports with dots between.
fn is_usb_port(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.split_once('-')
        .is_some_and(|(bus, ports)| number(bus) && ports.split('.').all(number))
}
