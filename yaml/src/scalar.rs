//! What an unquoted YAML scalar is: read as kubectl and the API server read it
//! (YAML 1.1 words and numbers, Go's number syntax), so that a manifest means
//! here what it means in a cluster. `mode: 0644` is octal; `name: on` is no
//! string.

use serde_json::Number;

/// A scalar's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `yes`, `on`…
    Bool(bool),
    /// A number.
    Number(Number),
    /// Anything else.
    Text(String),
}

/// Reads an unquoted scalar.
pub(crate) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        _ => number(text).map_or_else(|| Scalar::Text(text.into()), Scalar::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x" | "0X") => (&digits[2..], 16),
        Some("0o" | "0O") => (&digits[2..], 8),
        Some("0b" | "0B") => (&digits[2..], 2),
        Some(_) if digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    // from_str_radix would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Number::from_i128(if negative { -value } else { value })
}

fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let shaped = digits(whole)
        && digits(fraction)
        && whole.len() + fraction.len() > 0
        && digits(exponent)
        && !exponent.is_empty();
    shaped.then(|| Number::from_f64(text.parse().ok()?))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_as_in_a_cluster() {
        let int = |n: i64| Scalar::Number(n.into());
        let float = |n: f64| Scalar::Number(Number::from_f64(n).expect("finite"));
        for (text, expected) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("on", Scalar::Bool(true)),
            ("NO", Scalar::Bool(false)),
            ("2", int(2)),
            ("-7", int(-7)),
            ("+7", int(7)),
            ("0644", int(0o644)),
            ("0o17", int(15)),
            ("0x1F", int(31)),
            ("0b101", int(5)),
            ("1_000", int(1000)),
            ("0", int(0)),
            ("1.5", float(1.5)),
            ("1e3", float(1000.0)),
            (".5", float(0.5)),
            ("089", float(89.0)),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
        for text in [
            "2Gi",
            "1.2.3",
            "--1",
            "-",
            ".",
            "1e",
            "0x",
            "tRue",
            "2024-01-01",
            "-+1",
            "é",
            "0é",
        ] {
            assert_eq!(resolve(text), Scalar::Text(text.into()), "{text}");
        }
    }
}
