//! The calls of the loop driver (`linux/loop.h`), as safe functions.
#![expect(
    unsafe_code,
    reason = "no crate of ours wraps the loop driver's ioctls"
)]

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use crate::volume::host::FileId;

/// `linux/fs.h`: `_IO(0x12, 93)`.
const BLKROSET: u64 = 0x125D;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CLR_FD: u64 = 0x4C01;
const LOOP_GET_STATUS64: u64 = 0x4C05;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

static NOT_READ_ONLY: c_int = 0;

const NO_INFO: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(
    size_of::<Info>() == 232 && size_of::<Config>() == 304,
    "linux/loop.h"
);

/// What a loop device is attached to.
pub(super) struct Status {
    pub(super) file: FileId,
    pub(super) read_only: bool,
}

mod raw {
    use super::{Config, Info};

    nix::ioctl_none_bad!(get_free, super::LOOP_CTL_GET_FREE);
    nix::ioctl_none_bad!(clear, super::LOOP_CLR_FD);
    nix::ioctl_write_ptr_bad!(configure, super::LOOP_CONFIGURE, Config);
    nix::ioctl_write_ptr_bad!(set_read_only, super::BLKROSET, std::ffi::c_int);
    nix::ioctl_read_bad!(status, super::LOOP_GET_STATUS64, Info);
}

/// The number of a free loop device, which is made if there is none.
pub(super) fn get_free(control: &File) -> Result<c_int, Errno> {
    // SAFETY: the call takes no argument and touches no memory of ours.
    unsafe { raw::get_free(control.as_raw_fd()) }
}

/// Attaches a file; freed when the last opener closes the device.
pub(super) fn configure(
    device: &File,
    file: &File,
    image: &Path,
    writable: bool,
) -> Result<(), Errno> {
    let mut info = NO_INFO;
    // Direct I/O where the image's file system can; the kernel does without
    // where it cannot.
    info.flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if !writable {
        info.flags |= LO_FLAGS_READ_ONLY;
    }
    // Shown by losetup; cut where it is longer, as losetup does.
    let name = image.as_os_str().as_bytes();
    let shown = name.len().min(info.file_name.len() - 1);
    info.file_name[..shown].copy_from_slice(&name[..shown]);
    // 512 whatever is below: an image's partition table counts in these, and
    // on a disk with larger sectors the guest would not find its partitions.
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let config = Config {
        fd,
        block_size: 512,
        info,
        reserved: [0; 8],
    };
    // SAFETY: `config` is a whole `struct loop_config` (its size is asserted
    // above), and the kernel only reads it, during the call.
    unsafe { raw::configure(device.as_raw_fd(), &raw const config) }?;
    if writable {
        set_writable(device)
    } else {
        Ok(())
    }
}

/// A device that someone set read-only (`blockdev --setro`) stays so when it is
/// freed and attached again, and the guest would get errors on every write.
fn set_writable(device: &File) -> Result<(), Errno> {
    // SAFETY: the kernel only reads the integer, during the call.
    unsafe { raw::set_read_only(device.as_raw_fd(), &raw const NOT_READ_ONLY) }.map(drop)
}

/// The file behind a loop device; `ENXIO` when there is none.
pub(super) fn status(device: &File) -> Result<Status, Errno> {
    let mut info = NO_INFO;
    // SAFETY: `info` is a whole `struct loop_info64` (its size is asserted
    // above), all of whose bit patterns are valid, and the kernel writes no
    // further, during the call.
    unsafe { raw::status(device.as_raw_fd(), &raw mut info) }?;
    let file = FileId {
        device: info.device,
        inode: info.inode,
    };
    Ok(Status {
        file,
        read_only: info.flags & LO_FLAGS_READ_ONLY != 0,
    })
}

/// Frees a loop device; while others have it open, as soon as they close it.
pub(super) fn clear(device: &File) -> Result<(), Errno> {
    // SAFETY: the call takes no argument and touches no memory of ours.
    unsafe { raw::clear(device.as_raw_fd()) }.map(drop)
}
