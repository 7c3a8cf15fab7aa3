//! The host's processor, as far as a virtual CPU depends on it.

use std::fs;
use std::path::Path;

/// Those whose processors have no `IA32_ARCH_CAPABILITIES`.
const WITHOUT: [&str; 2] = ["AuthenticAMD", "HygonGenuine"];

/// Whether the host's processors have the register `IA32_ARCH_CAPABILITIES`
/// (MSR 0x10a). KVM offers it everywhere, as if it were the host's. A host
/// whose processor cannot be told is taken to have it, as qemu does.
pub(crate) fn has_arch_capabilities(cpuinfo: &Path) -> bool {
    let text = fs::read_to_string(cpuinfo).unwrap_or_default();
    vendor(&text).is_none_or(|vendor| !WITHOUT.contains(&vendor))
}

/// `vendor_id` of a `/proc/cpuinfo`.
fn vendor(cpuinfo: &str) -> Option<&str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let (_, vendor) = fields.find(|(name, _)| name.trim() == "vendor_id")?;
    Some(vendor.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_vendors_are_without_the_register() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("cpuinfo");
        assert!(has_arch_capabilities(&file), "there is no such file");
        let table = [
            (
                "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\n",
                false,
            ),
            ("processor\t: 0\nvendor_id\t: HygonGenuine\n", false),
            ("processor\t: 0\nvendor_id\t: GenuineIntel\n", true),
            ("processor\t: 0\n", true),
        ];
        for (text, has) in table {
            fs::write(&file, text).expect("written");
            assert_eq!(has_arch_capabilities(&file), has, "{text}");
        }
    }
}
