//! Kubernetes quantities (`10Gi`, `1500M`, `1e9`, `2.5Ti`) as bytes.

/// Bytes of a quantity, rounded up as Kubernetes does; `None` when it is not
/// one, is negative, or does not fit.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // Digits without the point, over a power of ten.
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (multiply, divide) = factor(suffix)?;
    let value = digits
        .checked_mul(multiply)?
        .div_ceil(scale.checked_mul(divide)?);
    u64::try_from(value).ok()
}

/// A suffix as a fraction.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let binary = |exponent: u32| Some((1u128 << (10 * exponent), 1));
    let decimal = |exponent: u32| Some((1000u128.pow(exponent), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10u128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_bytes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("10Gi", Some(10 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("1500M", Some(1_500_000_000)),
            ("1e9", Some(1_000_000_000)),
            ("1E3", Some(1000)),
            ("15e-1", Some(2)),
            ("1E", Some(1_000_000_000_000_000_000)),
            (".5Ki", Some(512)),
            ("5.", Some(5)),
            ("128974848000m", Some(128_974_848)),
            ("1m", Some(1)),
            ("", None),
            (".", None),
            ("Gi", None),
            ("-1Gi", None),
            ("1.2.3", None),
            ("10GB", None),
            ("1e", None),
            ("1e99", None),
            ("99999999Ei", None),
            ("10 Gi", None),
            ("1é", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
