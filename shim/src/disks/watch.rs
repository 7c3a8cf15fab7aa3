//! What wakes when a disk may have another size.
//!
//! - A block device: every driver that changes a capacity has the kernel send
//!   a uevent with `RESIZE=1`. The kernel sends them to every network namespace
//!   that the initial user namespace owns, which those of ordinary pods are, and
//!   lets any user listen (netlink(7), `NETLINK_KOBJECT_UEVENT`). In a pod with
//!   a user namespace of its own none arrive, and the size is asked for twice a
//!   second instead: one ioctl.
//! - An image file: whoever gave it another size closes it (inotify
//!   `IN_CLOSE_WRITE`); qemu, which has it open throughout, does not.
//!
//! Beside them the sizes are looked at once a minute, for what those miss. So a
//! VM that idles wakes the shim once a minute, not twice a second.

use std::{
    fs, io,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use inotify::{Inotify, WatchMask};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use tokio::net::{UnixDatagram, unix::pipe};
use tracing::{debug, warn};

/// How often the sizes are looked at where the kernel tells.
const SLOW: Duration = Duration::from_secs(60);
/// How often, where it does not.
const FAST: Duration = Duration::from_millis(500);
/// The multicast group of the kernel's own uevents.
const KERNEL_GROUP: u32 = 1;
/// Larger than any uevent (linux/kobject.h, `UEVENT_BUFFER_SIZE` and a path).
const UEVENT_MAX: usize = 8 << 10;

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch {
    uevents: Option<UnixDatagram>,
    files: Option<pipe::Receiver>,
    /// Whether there are block devices, which only uevents tell of.
    devices: bool,
    /// When the sizes are looked at by themselves; `None` when there is no
    /// disk to look at.
    next: Option<Instant>,
}

impl Watch {
    /// Watches these files, and block devices if there are any. What cannot
    /// be watched is looked at from time to time.
    pub(super) fn new(files: &[&str], devices: bool) -> Self {
        let uevents = if devices { uevents() } else { Ok(None) };
        let uevents = uevents.unwrap_or_else(|error| {
            warn!(%error, every = ?FAST, "uevents cannot be heard, disk sizes are polled");
            None
        });
        let watched = (!files.is_empty()).then(|| inotify(files)).transpose();
        let watched = watched.unwrap_or_else(|error| {
            warn!(%error, every = ?SLOW, "image files cannot be watched, their sizes are polled");
            None
        });
        let mut watch = Self {
            uevents,
            files: watched,
            devices,
            next: None,
        };
        watch.next = (devices || !files.is_empty()).then(|| Instant::now() + watch.pace());
        watch
    }

    fn pace(&self) -> Duration {
        if self.devices && self.uevents.is_none() {
            FAST
        } else {
            SLOW
        }
    }

    /// Waits until a size may have changed.
    ///
    /// # Cancellation
    /// At most an event is lost that the next look makes up for; none that
    /// came before this was called.
    pub(super) async fn touched(&mut self) {
        tokio::select! {
            () = heard(&mut self.uevents) => {}
            () = closed(&mut self.files) => {}
            () = super::until(self.next) => {}
        }
        self.next = self.next.map(|_| Instant::now() + self.pace());
    }
}

/// A socket that hears the kernel's uevents; `None` where it would hear none.
fn uevents() -> io::Result<Option<UnixDatagram>> {
    if !is_initial_user_namespace(&fs::read_to_string("/proc/self/uid_map")?) {
        debug!(every = ?FAST, "no uevents reach a user namespace, disk sizes are polled");
        return Ok(None);
    }
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
    // Named after unix sockets, and does for every kind of datagram.
    UnixDatagram::from_std(socket.into()).map(Some)
}

/// Whether a `uid_map` maps every id to itself.
fn is_initial_user_namespace(uid_map: &str) -> bool {
    let fields: Vec<&str> = uid_map.split_whitespace().collect();
    fields == ["0", "0", "4294967295"]
}

/// Waits for a uevent about a block device. When some were lost, any may have
/// been one.
async fn heard(uevents: &mut Option<UnixDatagram>) {
    loop {
        let Some(socket) = uevents else {
            return std::future::pending().await;
        };
        let mut bytes = [0; UEVENT_MAX];
        match socket.recv(&mut bytes).await {
            Ok(length) if is_of_block_device(&bytes[..length]) => return,
            // Another subsystem's.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => return,
            Err(error) => {
                warn!(%error, "uevents cannot be heard any more");
                *uevents = None;
                return;
            }
        }
    }
}

/// Whether a uevent (`action@path`, then `KEY=value` texts, each ended by a
/// zero) is about a block device.
fn is_of_block_device(uevent: &[u8]) -> bool {
    uevent
        .split(|byte| *byte == 0)
        .any(|text| text == b"SUBSYSTEM=block")
}

fn inotify(files: &[&str]) -> io::Result<pipe::Receiver> {
    let inotify = Inotify::init()?;
    for file in files {
        inotify.watches().add(file, WatchMask::CLOSE_WRITE)?;
    }
    // Named after pipes, and does for all that can be waited for and read.
    pipe::Receiver::from_owned_fd_unchecked(inotify.into())
}

/// Waits until somebody who could write to a file has closed it.
async fn closed(files: &mut Option<pipe::Receiver>) {
    let Some(watch) = files else {
        return std::future::pending().await;
    };
    let mut events = [0; 1024];
    let read = async {
        watch.readable().await?;
        watch.try_read(&mut events)
    };
    match read.await {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            warn!(%error, "image files cannot be watched any more");
            *files = None;
        }
        Ok(_) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uevent_is_of_a_block_device_by_its_subsystem() {
        let event =
            b"change@/devices/virtual/block/loop0\0ACTION=change\0SUBSYSTEM=block\0RESIZE=1\0";
        assert!(is_of_block_device(event));
        assert!(!is_of_block_device(
            b"add@/x\0SUBSYSTEM=blockade\0NAME=SUBSYSTEM=block\0"
        ));
        assert!(!is_of_block_device(b""));
    }

    #[test]
    fn only_the_initial_user_namespace_maps_all_ids_to_themselves() {
        assert!(is_initial_user_namespace(
            "         0          0 4294967295\n"
        ));
        assert!(!is_initial_user_namespace(
            "         0     100000      65536\n"
        ));
        assert!(!is_initial_user_namespace(""));
    }

    #[tokio::test]
    async fn a_file_that_is_truncated_wakes() {
        let file = tempfile::NamedTempFile::new().expect("makes a file");
        let path = file.path().to_str().expect("is UTF-8").to_owned();
        let mut watch = Watch::new(&[&path], false);
        watch.next = None;
        // Written to and kept open, as by qemu: nothing happens.
        file.as_file().set_len(512).expect("truncates");
        let other = fs::File::options().write(true).open(&path).expect("opens");
        other.set_len(1024).expect("truncates");
        drop(other);
        watch.touched().await;
        assert_eq!(fs::metadata(&path).expect("is there").len(), 1024);
    }
}
