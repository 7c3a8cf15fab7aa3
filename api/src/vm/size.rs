//! Sizes in a manifest: a whole number of Mi, Gi or Ti.
//!
//! Not every Kubernetes quantity is one: `2G` or `1500m` bytes of guest memory
//! would have to be rounded, and nobody means them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A whole number with the unit Mi, Gi or Ti.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemorySize(pub String);

/// What the schema demands of a size.
pub(super) const PATTERN: &str = "^[1-9][0-9]{0,6}(Mi|Gi|Ti)$";

impl MemorySize {
    /// The size in bytes; `None` when the text is not a size.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let unit_at = self.0.len().checked_sub(2)?;
        let (number, unit) = (self.0.get(..unit_at)?, self.0.get(unit_at..)?);
        let shift = match unit {
            "Mi" => 20,
            "Gi" => 30,
            "Ti" => 40,
            _ => return None,
        };
        let plain = (1..=7).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
            && !number.starts_with('0');
        plain.then(|| number.parse::<u64>().ok()?.checked_mul(1 << shift))?
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for MemorySize {
    fn schema_name() -> Cow<'static, str> {
        "MemorySize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 9 })
    }
}

#[cfg(test)]
mod tests {
    use super::MemorySize;

    #[test]
    fn sizes_are_whole_binary_units() {
        for (text, bytes) in [
            ("1Mi", Some(1 << 20)),
            ("2Gi", Some(2 << 30)),
            ("9999999Ti", Some(9_999_999 << 40)),
            ("2G", None),
            ("0Mi", None),
            ("01Mi", None),
            ("+1Mi", None),
            ("1.5Gi", None),
            ("Gi", None),
            ("", None),
            ("1 Gi", None),
            ("é", None),
        ] {
            assert_eq!(MemorySize(text.into()).bytes(), bytes, "{text}");
        }
    }
}
