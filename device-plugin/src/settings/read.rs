//! Nodes as the values that a place wants. What does not fit becomes a problem
//! with its place, and reading goes on: all problems are told at once.

use std::collections::BTreeMap;

use coracle_yaml::{Key, Node, Position, Scalar, Value, describe, did_you_mean, quoted};

use super::Problem;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

/// The fields of a map that were not looked at yet.
pub(super) struct Fields<'a> {
    at: Position,
    rest: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, name: &str) -> Option<&'a Node> {
        self.rest.remove(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Reader {
    pub(super) fn problem(&mut self, at: Position, message: impl Into<String>) {
        self.problems.push(Problem {
            line: at.line,
            column: at.column,
            message: message.into(),
        });
    }

    fn mismatch(&mut self, wanted: &str, node: &Node) {
        let hint = match (&node.value, wanted) {
            (Value::Map(_), "a list") => "; begin each entry with \"- \"",
            _ => "",
        };
        let found = describe(&node.value);
        self.problem(node.at, format!("must be {wanted}, not {found}{hint}"));
    }

    /// A map that has no other fields than these.
    pub(super) fn fields<'a>(&mut self, node: &'a Node, known: &[&str]) -> Option<Fields<'a>> {
        let Value::Map(entries) = &node.value else {
            self.mismatch("a map of fields", node);
            return None;
        };
        let mut rest = BTreeMap::new();
        for (key, value) in entries {
            if known.contains(&key.text.as_str()) {
                rest.insert(key.text.as_str(), value);
            } else {
                self.unknown(key, known);
            }
        }
        Some(Fields { at: node.at, rest })
    }

    fn unknown(&mut self, key: &Key, known: &[&str]) {
        let text = &key.text;
        let mut meant = did_you_mean(text, known.iter().copied());
        if meant.is_empty() {
            meant = format!(": there are {}", quoted(known.iter().copied()));
        }
        self.problem(key.at, format!("unknown field {text:?}{meant}"));
    }

    pub(super) fn required<'a>(&mut self, fields: &mut Fields<'a>, name: &str) -> Option<&'a Node> {
        let node = fields.take(name);
        if node.is_none() {
            self.problem(fields.at, format!("field {name:?} is missing"));
        }
        node
    }

    pub(super) fn list<'a>(&mut self, node: &'a Node) -> &'a [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.mismatch("a list", node);
        &[]
    }

    /// A text as it was written: an unquoted 8086 or 10e2 is meant as one.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Scalar(Scalar::Text(text), _) => Some(text.clone()),
            Value::Scalar(Scalar::Number(_) | Scalar::Bool(_), Some(written)) => {
                Some(written.clone())
            }
            _ => {
                self.mismatch("a text", node);
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Clone>(&mut self, node: &Node, known: &BTreeMap<&str, T>) -> Option<T> {
        let text = self.text(node)?;
        if let Some(value) = known.get(text.as_str()) {
            return Some(value.clone());
        }
        let words = quoted(known.keys().copied());
        self.problem(
            node.at,
            format!("unknown value {text:?}: allowed are {words}"),
        );
        None
    }

    /// A whole number in a range.
    pub(super) fn count(&mut self, node: &Node, most: u32) -> Option<u32> {
        let number = match &node.value {
            Value::Scalar(Scalar::Number(number), _) => number.as_i64(),
            _ => None,
        };
        let count = number.and_then(|number| u32::try_from(number).ok());
        let count = count.filter(|count| (1..=most).contains(count));
        if count.is_none() {
            self.mismatch(&format!("a whole number from 1 to {most}"), node);
        }
        count
    }

    /// A hexadecimal number of so many digits, with or without 0x.
    pub(super) fn hex(&mut self, node: &Node, digits: usize) -> Option<u32> {
        let text = self.text(node)?;
        let number = hex(&text, digits);
        if number.is_none() {
            let message = format!("{text:?} is not a number of {digits} hexadecimal digits");
            self.problem(node.at, message);
        }
        number
    }
}

/// A hexadecimal number of exactly so many digits.
pub(super) fn hex(text: &str, digits: usize) -> Option<u32> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok())?
}
