//! Devices and files that are there, in place of those that a sample names.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_api::machine::{Disk, DiskSource, Firmware, Machine};
use coracle_block::device::{self, DeviceFacts, Kind};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::super::sample::{self, Sample};
use crate::prepare::Found;
use crate::prepare::processor::has_arch_capabilities;

/// Size of every disk.
const SIZE: u64 = 1 << 20;

/// A directory of files, and a loop device where the test may make one.
pub(super) struct World {
    dir: tempfile::TempDir,
    device: Option<LoopDevice>,
    made: Cell<u32>,
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let backing = dir.path().join("backing");
        sparse(&backing);
        let device = LoopDevice::attach(&backing);
        if device.is_none() {
            eprintln!("skipped: no loop device can be made, block devices are files here");
        }
        Self {
            dir,
            device,
            made: Cell::new(0),
        }
    }

    /// The sample's machine and disks, with paths that are there.
    pub(super) fn with(&self, sample: &Sample) -> (Machine, Found) {
        let mut machine = sample.machine.clone();
        if let Firmware::Kernel { kernel, initrd, .. } = &mut machine.firmware {
            for path in [Some(kernel), initrd.as_mut()].into_iter().flatten() {
                let there = self.path(path);
                fs::write(&there, linux()).expect("a kernel");
                *path = text(&there);
            }
        }
        let disks = sample.found.disks.iter().cloned().map(|mut found| {
            self.place(&mut found.facts);
            found
        });
        (
            machine,
            Found {
                // There are none that every machine under test has.
                devices: vec![],
                disks: disks.collect(),
                guards: vec![],
                arch_capabilities: has_arch_capabilities(Path::new("/proc/cpuinfo")),
                io_uring: sample.found.io_uring,
            },
        )
    }

    /// One disk that the firmware boots `code` from.
    pub(super) fn boot_sector(&self, machine: &Machine, code: &[u8]) -> Found {
        let mut found = sample::found(machine);
        let path = self.path("boot");
        let mut sector = code.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(usize::try_from(SIZE).expect("fits"), 0);
        fs::write(&path, sector).expect("a disk");
        found.disks[0].facts.path = text(&path);
        found.disks[0].facts.kind = Kind::File;
        found
    }

    fn place(&self, facts: &mut DeviceFacts) {
        if facts.image.is_some() {
            *facts = self.image();
            return;
        }
        let path = self.path(&facts.path);
        match (facts.kind, &self.device) {
            (Kind::Block { .. }, Some(device)) => device.node(&path),
            (Kind::Block { .. } | Kind::File, _) => {
                facts.kind = Kind::File;
                sparse(&path);
            }
        }
        facts.path = text(&path);
    }

    /// A raw image under an overlay, which the block adapter makes.
    fn image(&self) -> DeviceFacts {
        let root = self.path("image");
        fs::create_dir(&root).expect("a directory");
        sparse(&root.join("disk.img"));
        let source = DiskSource::Image {
            root: text(&root),
            path: Some("disk.img".into()),
            overlay: Some(text(&root)),
            size_bytes: None,
        };
        let open = device::open(&Disk::plain("image", source));
        open.expect("an image").facts.clone()
    }

    /// A path of its own, as odd as the one it stands for.
    fn path(&self, stands_for: &str) -> PathBuf {
        let number = self.made.get();
        self.made.set(number + 1);
        self.dir
            .path()
            .join(format!("{number}-{}", stands_for.replace('/', "_")))
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn sparse(path: &Path) {
    fs::File::create(path)
        .and_then(|file| file.set_len(SIZE))
        .expect("a file");
}

/// As much of a Linux kernel as qemu looks at (x86 boot protocol 2.12).
fn linux() -> Vec<u8> {
    let mut image = vec![0; 8192];
    image[0x1f1] = 4; // setup sectors
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020c_u16.to_le_bytes());
    image[0x211] = 1; // loaded high
    image[0x22c..0x230].copy_from_slice(&0x37ff_ffff_u32.to_le_bytes()); // initrd_addr_max
    image[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes()); // cmdline_size
    image
}

/// A loop device that is detached with the test.
struct LoopDevice(String);

impl LoopDevice {
    fn attach(backing: &Path) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(backing)
            .output()
            .ok()?;
        let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some(Self(name))
    }

    /// A node of its own at `path`: qemu's image locks belong to the node.
    fn node(&self, path: &Path) {
        let number: u64 = self
            .0
            .trim_start_matches("/dev/loop")
            .parse()
            .expect("the number of a loop device");
        let mode = Mode::from_bits_truncate(0o600);
        mknod(path, SFlag::S_IFBLK, mode, makedev(7, number)).expect("a node");
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        drop(
            Command::new("losetup")
                .arg("--detach")
                .arg(&self.0)
                .status(),
        );
    }
}
