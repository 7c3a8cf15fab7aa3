//! Kubernetes quantities as bytes: `10Gi`, `1.5G`, `1e9`, `128974848`.
//!
//! Rounds up, as the API server does: who asks for half a byte gets one.

/// The bytes a quantity of storage or memory stands for; `None` when the text
/// is no quantity, is negative, or does not fit.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !plain(whole) || !plain(fraction) {
        return None;
    }
    let (multiply, divide) = scale(suffix)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let places = u32::try_from(fraction.len()).ok()?;
    let divide = divide.checked_mul(10_u128.checked_pow(places)?)?;
    u64::try_from(digits.checked_mul(multiply)?.div_ceil(divide)).ok()
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1_u128 << (10 * power), 1));
    let decimal = |power: i32| {
        let scale = 10_u128.checked_pow(power.unsigned_abs())?;
        Some(if power < 0 { (1, scale) } else { (scale, 1) })
    };
    match suffix {
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, expected) in [
            ("10Gi", Some(10 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("1.5k", Some(1500)),
            (".5Ki", Some(512)),
            ("1.", Some(1)),
            ("+1M", Some(1_000_000)),
            ("1e3", Some(1000)),
            ("12E-1", Some(2)),
            ("100m", Some(1)),
            ("0", Some(0)),
            ("16Ei", None),
            ("15Ei", Some(15 << 60)),
            ("-1", None),
            ("", None),
            ("Gi", None),
            ("1GB", None),
            ("1 Gi", None),
            ("1..2", None),
            ("1e99", None),
            ("é", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
