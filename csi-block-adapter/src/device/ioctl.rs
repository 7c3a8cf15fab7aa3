//! The block device ioctls (linux/fs.h, scsi/sg.h), behind safe functions.

use std::{fs::File, io, os::fd::AsRawFd};

/// The generated functions, which take raw pointers.
mod raw {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, usize);
    nix::ioctl_read!(blkgetdiskseq, 0x12, 128, u64);
    nix::ioctl_read_bad!(sg_get_version_num, 0x2282, nix::libc::c_int);
    nix::ioctl_read_bad!(
        blkroget,
        nix::request_code_none!(0x12, 94),
        nix::libc::c_int
    );
    nix::ioctl_read_bad!(
        blksszget,
        nix::request_code_none!(0x12, 104),
        nix::libc::c_int
    );
    nix::ioctl_read_bad!(
        blkpbszget,
        nix::request_code_none!(0x12, 123),
        nix::libc::c_uint
    );
}

/// Size in bytes (`BLKGETSIZE64`).
#[expect(unsafe_code, reason = "ioctl has no safe form in nix")]
pub(super) fn size_bytes(device: &File) -> io::Result<u64> {
    let mut size: usize = 0;
    // Declared with size_t in the header, the kernel writes 64 bits.
    const { assert!(size_of::<usize>() == 8) };
    // SAFETY: the descriptor is open, and the kernel writes one u64 to `size`.
    unsafe { raw::blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size as u64)
}

/// Whether the device refuses writes (`BLKROGET`).
#[expect(unsafe_code, reason = "ioctl has no safe form in nix")]
pub(super) fn read_only(device: &File) -> io::Result<bool> {
    let mut flag = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int to `flag`.
    unsafe { raw::blkroget(device.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// Logical sector size in bytes (`BLKSSZGET`).
#[expect(unsafe_code, reason = "ioctl has no safe form in nix")]
pub(super) fn logical_block_size(device: &File) -> io::Result<u32> {
    let mut size = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int to `size`.
    unsafe { raw::blksszget(device.as_raw_fd(), &raw mut size) }?;
    u32::try_from(size).map_err(io::Error::other)
}

/// Physical sector size in bytes (`BLKPBSZGET`).
#[expect(unsafe_code, reason = "ioctl has no safe form in nix")]
pub(super) fn physical_block_size(device: &File) -> io::Result<u32> {
    let mut size = 0;
    // SAFETY: the descriptor is open, and the kernel writes one unsigned int
    // to `size`.
    unsafe { raw::blkpbszget(device.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// The number of this use of the device (`BLKGETDISKSEQ`); `None` where the
/// kernel is older than 5.15.
#[expect(unsafe_code, reason = "ioctl has no safe form in nix")]
pub(super) fn disk_sequence(device: &File) -> Option<u64> {
    let mut sequence = 0;
    // SAFETY: the descriptor is open, and the kernel writes one u64 to
    // `sequence`.
    unsafe { raw::blkgetdiskseq(device.as_raw_fd(), &raw mut sequence) }.ok()?;
    Some(sequence)
}

/// Version of the generic SCSI interface (`SG_GET_VERSION_NUM`); `None` for a
/// device without it.
#[expect(unsafe_code, reason = "ioctl has no safe form in nix")]
pub(super) fn sg_version(device: &File) -> Option<u32> {
    let mut version = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int to
    // `version`.
    unsafe { raw::sg_get_version_num(device.as_raw_fd(), &raw mut version) }.ok()?;
    u32::try_from(version).ok()
}
