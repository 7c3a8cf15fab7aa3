//! What the kernel says when a device comes, goes, or changes its driver
//! (netlink, `NETLINK_KOBJECT_UEVENT`). A message is a hint to look, never a
//! fact: nothing of it is believed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The kernel's own messages; group 2 has udev's.
const KERNEL_GROUP: u32 = 1;
/// The kernel's messages are shorter.
const BUFFER: usize = 8192;
/// The pause after an error that is none of the known ones.
const RETRY: Duration = Duration::from_secs(2);

/// A message, as far as it says what it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uevent<'a> {
    pub(crate) action: &'a str,
    pub(crate) subsystem: &'a str,
    /// The device's node below `/dev`, if it has one.
    pub(crate) node: &'a str,
}

impl<'a> Uevent<'a> {
    /// Reads `add@/devices/…`, then `KEY=value`, each with a zero after it.
    /// What is no text is left out.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut parts = message.split(|byte| *byte == 0);
        let head = std::str::from_utf8(parts.next()?).ok()?;
        let (action, path) = head.split_once('@')?;
        if action.is_empty() || !path.starts_with('/') {
            return None;
        }
        let mut event = Self {
            action,
            ..Self::default()
        };
        for part in parts {
            let pair = std::str::from_utf8(part)
                .ok()
                .and_then(|part| part.split_once('='));
            match pair {
                Some(("SUBSYSTEM", value)) => event.subsystem = value,
                Some(("DEVNAME", value)) => event.node = value,
                _ => {}
            }
        }
        Some(event)
    }

    /// Whether a device that can be handed out may have come or gone. "change"
    /// does not say so, and KVM says it of every VM.
    pub(crate) fn matters(&self) -> bool {
        let comes_or_goes = matches!(
            self.action,
            "add" | "remove" | "bind" | "unbind" | "move" | "online" | "offline"
        );
        let bus = matches!(self.subsystem, "pci" | "usb" | "mdev" | "vfio" | "vfio-dev");
        comes_or_goes && (bus || (!self.node.is_empty() && self.subsystem != "block"))
    }
}

/// Wakes whoever looks at devices, until it is stopped.
pub(crate) async fn follow(wake: Arc<Notify>, stop: CancellationToken) {
    match listen() {
        Ok(socket) => {
            let _ = stop.run_until_cancelled(forever(&socket, &wake)).await;
        }
        Err(error) => {
            warn!(%error, "the kernel's device events cannot be heard; looking from time to time \
                  instead");
            stop.cancelled().await;
        }
    }
}

#[expect(
    unsafe_code,
    reason = "tokio cannot know that the descriptor stays open"
)]
fn listen() -> io::Result<AsyncFd<OwnedFd>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
    // SAFETY: the descriptor is owned by what is registered, so it stays open
    // and the same until that is dropped.
    Ok(unsafe { AsyncFd::register(socket)? })
}

async fn forever(socket: &AsyncFd<OwnedFd>, wake: &Notify) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = async {
            let mut ready = socket.readable().await?;
            let received = recvfrom::<NetlinkAddr>(socket.get_ref().as_raw_fd(), &mut buffer);
            if received == Err(Errno::EAGAIN) {
                ready.clear_ready();
            }
            io::Result::Ok(received)
        };
        match received.await {
            Ok(Ok((length, sender))) => {
                // Any process may send to the socket; the kernel's port is 0.
                let kernel = sender.is_some_and(|sender| sender.pid() == 0);
                let event = Uevent::parse(&buffer[..length.min(BUFFER)]);
                if let Some(event) = event.filter(|event| kernel && event.matters()) {
                    debug!(?event, "a device event");
                    wake.notify_one();
                }
            }
            // More than the socket had room for: anything may have happened.
            Ok(Err(Errno::ENOBUFS)) => wake.notify_one(),
            Ok(Err(Errno::EAGAIN | Errno::EINTR)) => {}
            Ok(Err(error)) => {
                warn!(%error, "reading device events failed");
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                warn!(%error, "waiting for device events failed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
