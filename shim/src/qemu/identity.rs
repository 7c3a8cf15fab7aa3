//! Who the VM is: to an administrator who lists processes, and to the guest.

use super::switch::{Keys, Switch};

/// `-name`
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) guest: String,
    /// Threads are named after what they do (`CPU 0/KVM`).
    pub(crate) debug_threads: bool,
}

impl Switch for Name {
    fn name(&self) -> &'static str {
        "-name"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .with("guest", &self.guest)
                .flag("debug-threads", self.debug_threads)
                .into_value(),
        )
    }
}

/// `-uuid`: the SMBIOS system UUID, the same over restarts.
#[derive(Clone, Debug)]
pub(crate) struct Uuid(String);

impl Uuid {
    /// The VM's uid, when it is a UUID, which in a cluster it is.
    pub(crate) fn of(uid: Option<&str>) -> Option<Self> {
        let uid = uid.filter(|uid| is_uuid(uid))?;
        Some(Self(uid.to_owned()))
    }
}

impl Switch for Uuid {
    fn name(&self) -> &'static str {
        "-uuid"
    }

    fn value(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// `-smbios type=1`: what the guest reads as its maker and model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smbios {
    pub(crate) manufacturer: &'static str,
    pub(crate) product: &'static str,
}

impl Smbios {
    pub(crate) const SYSTEM: Self = Self {
        manufacturer: "Coracle",
        product: "Virtual Machine",
    };
}

impl Switch for Smbios {
    fn name(&self) -> &'static str {
        "-smbios"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .with("type", &1)
                .with("manufacturer", self.manufacturer)
                .with("product", self.product)
                .into_value(),
        )
    }
}

/// The form that qemu reads: 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts
            .iter()
            .all(|part| part.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_becomes_one() {
        assert!(Uuid::of(Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8")).is_some());
        for other in [
            "",
            "web",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c",
            "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
            "6ba7b8109dad-11d1-80b4-00c04fd430c8-",
        ] {
            assert!(Uuid::of(Some(other)).is_none(), "{other:?}");
        }
        assert!(Uuid::of(None).is_none());
    }
}
