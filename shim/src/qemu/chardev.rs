//! The sockets that connect qemu with the shim. They are inherited, so there
//! is no path that something else could connect to.

use std::os::fd::RawFd;

use super::switch::{Keys, Switch};

/// `-chardev socket`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chardev {
    pub(crate) id: &'static str,
    /// A connected stream socket.
    pub(crate) fd: RawFd,
}

impl Chardev {
    pub(crate) fn socket(id: &'static str, fd: RawFd) -> Self {
        Self { id, fd }
    }
}

impl Switch for Chardev {
    fn name(&self) -> &'static str {
        "-chardev"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::word("socket")
                .with("id", self.id)
                .with("fd", &self.fd)
                .into_value(),
        )
    }
}

/// `-mon`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mon {
    pub(crate) chardev: &'static str,
    /// `control`: QMP.
    pub(crate) mode: &'static str,
}

impl Mon {
    pub(crate) fn control(chardev: &'static str) -> Self {
        Self {
            chardev,
            mode: "control",
        }
    }
}

impl Switch for Mon {
    fn name(&self) -> &'static str {
        "-mon"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .with("chardev", self.chardev)
                .with("mode", self.mode)
                .into_value(),
        )
    }
}
