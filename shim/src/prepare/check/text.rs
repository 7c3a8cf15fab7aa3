//! The shapes of texts in a machine description.

/// The longest name of a disk or an interface: a pod's volume is named
/// `disk-<name>`.
const LABEL_MAX: usize = 50;
/// The longest name of a Kubernetes object (RFC 1123 subdomain).
const SUBDOMAIN_MAX: usize = 253;
/// What the guest can read of a serial number: the virtio-blk and ATA limit.
const SERIAL_MAX: usize = 20;

/// A DNS label of at most 50 characters.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && is_dns_label(text)
}

/// What Kubernetes calls a DNS subdomain: labels joined by dots.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let ends = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(ends)
        && bytes.last().is_some_and(ends)
        && bytes.iter().all(|byte| ends(byte) || *byte == b'-')
}

/// A serial number that every bus can show: 1 to 20 of `[A-Za-z0-9_.+-]`.
pub(super) fn is_serial(text: &str) -> bool {
    (1..=SERIAL_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte))
}

/// A CPU model of qemu, then features to add or take away: `max`,
/// `qemu64,-cx16`, `Skylake-Server-v4,pcid=off`. The comma is qemu's own
/// separator here, so each part is looked at by itself.
pub(super) fn is_cpu_model(text: &str) -> bool {
    let mut parts = text.split(',');
    let word = |part: &str| {
        part.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    parts.next().is_some_and(word)
        && parts.all(|part| match part.split_once('=') {
            Some((feature, value)) => word(feature) && word(value),
            None => word(part.strip_prefix(['+', '-']).unwrap_or(part)),
        })
}

/// The address of one card: six bytes, not a group's address, not zero.
pub(super) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next()?;
        // `from_str_radix` alone would take a sign.
        if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    let group = bytes[0] & 1 == 1;
    (parts.next().is_none() && !group && bytes != [0; 6]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "0", "root", "data-1", &"a".repeat(50)] {
            assert!(is_label(good), "{good:?}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a,b",
            "a b",
            "ä",
            &"a".repeat(51),
        ] {
            assert!(!is_label(bad), "{bad:?}");
        }
    }

    #[test]
    fn subdomains() {
        for good in ["web", "web.shop", "1.a-b", &"a".repeat(63)] {
            assert!(is_subdomain(good), "{good:?}");
        }
        for bad in ["", ".", "web.", ".web", "we,b", "Web", &"a".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad:?}");
        }
    }

    #[test]
    fn serials() {
        for good in ["a", "WD-1_2.3+4", &"9".repeat(20)] {
            assert!(is_serial(good), "{good:?}");
        }
        for bad in ["", "a,b", "a b", "a=b", "é", &"9".repeat(21)] {
            assert!(!is_serial(bad), "{bad:?}");
        }
    }

    #[test]
    fn cpu_models() {
        for good in [
            "max",
            "host",
            "qemu64,-cx16",
            "Skylake-Server-v4,pcid=off,+vmx",
            "EPYC,phys-bits=40",
        ] {
            assert!(is_cpu_model(good), "{good:?}");
        }
        for bad in [
            "",
            ",",
            "-max",
            "max,",
            "max,,x",
            "max,+",
            "max, x",
            "max,a=",
            "max,a=b=c",
        ] {
            assert!(!is_cpu_model(bad), "{bad:?}");
        }
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(
            mac("52:54:00:aB:Cd:01"),
            Some([0x52, 0x54, 0, 0xab, 0xcd, 1])
        );
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "52-54-00-ab-cd-01",
            "+2:54:00:ab:cd:01",
            "5:54:00:ab:cd:01",
            "53:54:00:ab:cd:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52:54:00:ab:cd:01,id=x",
        ] {
            assert_eq!(mac(bad), None, "{bad:?}");
        }
    }
}
