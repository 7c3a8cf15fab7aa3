//! A sysfs and a devfs of the tests: what machines have that this one lacks.
//! Links, attributes and nodes are as the kernel makes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

/// Major number of VFIO's groups in the tests.
pub(crate) const GROUP_MAJOR: u64 = 240;
/// Major number of VFIO's own nodes of devices in the tests.
pub(crate) const CDEV_MAJOR: u64 = 241;

/// A node's `/sys` and `/dev`.
pub(crate) struct Tree {
    dir: TempDir,
}

/// A PCI function to plug in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pci<'a> {
    pub(crate) address: &'a str,
    /// Vendor and device.
    pub(crate) id: (u32, u32),
    pub(crate) class: u32,
    pub(crate) driver: Option<&'a str>,
    pub(crate) group: Option<u32>,
    pub(crate) numa: i32,
}

impl Default for Pci<'_> {
    fn default() -> Self {
        Self {
            address: "0000:01:00.0",
            id: (0x10de, 0x2236),
            class: 0x03_02_00,
            driver: Some("vfio-pci"),
            group: Some(7),
            numa: -1,
        }
    }
}

/// A USB device to plug in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usb<'a> {
    pub(crate) port: &'a str,
    /// Vendor and product.
    pub(crate) id: (u32, u32),
    pub(crate) serial: &'a str,
    pub(crate) number: u32,
}

#[allow(dead_code, reason = "unit tests and component tests use parts of it")]
impl Tree {
    /// An empty one; nothing, with the reason said, for who cannot make nodes.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root makes device nodes");
            return None;
        }
        let tree = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        fs::create_dir_all(tree.dev()).expect("creates");
        tree.node("vfio/vfio", 10, 196);
        Some(tree)
    }

    pub(crate) fn sys(&self) -> PathBuf {
        self.dir.path().join("sys")
    }

    pub(crate) fn dev(&self) -> PathBuf {
        self.dir.path().join("dev")
    }

    /// Makes a character device, in the place of one that may be there.
    pub(crate) fn node(&self, path: &str, major: u64, minor: u64) {
        let path = self.dev().join(path);
        fs::create_dir_all(path.parent().expect("in a directory")).expect("creates");
        let new = path.with_extension("new");
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(&new, SFlag::S_IFCHR, mode, makedev(major, minor)).expect("makes a node");
        fs::rename(new, path).expect("renames");
    }

    pub(crate) fn remove_node(&self, path: &str) {
        let _ = fs::remove_file(self.dev().join(path));
    }

    fn device(&self, bus: &str, name: &str) -> PathBuf {
        self.sys().join(format!("bus/{bus}/devices/{name}"))
    }

    /// Plugs a function in.
    pub(crate) fn pci(&self, pci: &Pci<'_>) {
        let real = self
            .sys()
            .join(format!("devices/pci0000:00/{}", pci.address));
        let (vendor, device) = pci.id;
        write(&real, "vendor", &format!("0x{vendor:04x}\n"));
        write(&real, "device", &format!("0x{device:04x}\n"));
        write(&real, "subsystem_vendor", "0x10de\n");
        write(&real, "subsystem_device", "0x1482\n");
        write(&real, "class", &format!("0x{:06x}\n", pci.class));
        write(&real, "numa_node", &format!("{}\n", pci.numa));
        write(&real, "power_state", "D0\n");
        fs::write(real.join("config"), [0xde, 0x10, 0x36, 0x22]).expect("writes");
        if let Some(group) = pci.group {
            let minor = u64::from(group);
            relink(
                &format!("../../../kernel/iommu_groups/{group}"),
                &real.join("iommu_group"),
            );
            self.node(&format!("vfio/{group}"), GROUP_MAJOR, minor);
        }
        let link = self.device("pci", pci.address);
        fs::create_dir_all(link.parent().expect("in a directory")).expect("creates");
        relink(
            &format!("../../../devices/pci0000:00/{}", pci.address),
            &link,
        );
        self.bind(pci.address, pci.driver);
    }

    /// Binds a function to a driver, or to none.
    pub(crate) fn bind(&self, address: &str, driver: Option<&str>) {
        let link = self.device("pci", address).join("driver");
        match driver {
            Some(driver) => relink(&format!("../../../bus/pci/drivers/{driver}"), &link),
            None => drop(fs::remove_file(link)),
        }
    }

    /// Gives a function a VFIO node of its own.
    pub(crate) fn cdev(&self, address: &str, number: u64) {
        let dir = self
            .device("pci", address)
            .join(format!("vfio-dev/vfio{number}"));
        fs::create_dir_all(dir).expect("creates");
        self.node(&format!("vfio/devices/vfio{number}"), CDEV_MAJOR, number);
        self.node("iommu", 10, 126);
    }

    /// Lets a function's configuration space read all ones, or not.
    pub(crate) fn silence(&self, address: &str, silent: bool) {
        let id = if silent {
            [0xff; 4]
        } else {
            [0xde, 0x10, 0x36, 0x22]
        };
        fs::write(self.device("pci", address).join("config"), id).expect("writes");
    }

    pub(crate) fn unplug_pci(&self, address: &str) {
        let link = self.device("pci", address);
        let _ = fs::remove_dir_all(fs::canonicalize(&link).expect("is plugged in"));
        fs::remove_file(link).expect("removes");
    }

    /// Makes a mediated device on a PCI function that is plugged in.
    pub(crate) fn mdev(&self, uuid: &str, parent: &str, kind: &str, group: u32) {
        let parent = fs::canonicalize(self.device("pci", parent)).expect("is plugged in");
        let types = parent.join(format!("mdev_supported_types/{kind}"));
        write(&types, "name", "GRID A10-4Q\n");
        let real = parent.join(uuid);
        fs::create_dir_all(&real).expect("creates");
        relink(
            &format!("../mdev_supported_types/{kind}"),
            &real.join("mdev_type"),
        );
        relink(
            &format!("../../../../kernel/iommu_groups/{group}"),
            &real.join("iommu_group"),
        );
        self.node(&format!("vfio/{group}"), GROUP_MAJOR, u64::from(group));
        let link = self.device("mdev", uuid);
        fs::create_dir_all(link.parent().expect("in a directory")).expect("creates");
        relink(real.to_str().expect("text"), &link);
    }

    pub(crate) fn remove_mdev(&self, uuid: &str) {
        let link = self.device("mdev", uuid);
        let _ = fs::remove_dir_all(fs::canonicalize(&link).expect("is there"));
        fs::remove_file(link).expect("removes");
    }

    /// Plugs a USB device in.
    pub(crate) fn usb(&self, usb: &Usb<'_>) {
        let (vendor, product) = usb.id;
        let device = self.device("usb", usb.port);
        let bus: u32 = usb
            .port
            .split('-')
            .next()
            .and_then(|bus| bus.parse().ok())
            .expect("a bus");
        let minor = u64::from((bus - 1) * 128 + usb.number - 1);
        write(&device, "idVendor", &format!("{vendor:04x}\n"));
        write(&device, "idProduct", &format!("{product:04x}\n"));
        write(&device, "bDeviceClass", "00\n");
        write(&device, "serial", &format!("{}\n", usb.serial));
        write(&device, "busnum", &format!("{bus}\n"));
        write(&device, "devnum", &format!("{}\n", usb.number));
        write(&device, "dev", &format!("189:{minor}\n"));
        self.node(&format!("bus/usb/{bus:03}/{:03}", usb.number), 189, minor);
    }

    pub(crate) fn unplug_usb(&self, port: &str) {
        let device = self.device("usb", port);
        let read = |name: &str| -> u32 {
            let text = fs::read_to_string(device.join(name)).expect("is plugged in");
            text.trim().parse().expect("a number")
        };
        self.remove_node(&format!(
            "bus/usb/{:03}/{:03}",
            read("busnum"),
            read("devnum")
        ));
        fs::remove_dir_all(device).expect("removes");
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir).expect("creates");
    fs::write(dir.join(name), text).expect("writes");
}

fn relink(target: &str, link: &Path) {
    let _ = fs::remove_file(link);
    symlink(target, link).expect("links");
}
