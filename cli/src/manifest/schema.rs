//! A document against the schema of its kind: unknown fields, wrong types,
//! values that an enum does not have, bounds of numbers, missing fields.
//!
//! The schema is the one the API server gets, as JSON. Unlike serde this finds
//! every problem at once, and knows each one's line. Bounds of texts and lists
//! are [`coracle_api::vm::validate`]'s.

use std::collections::BTreeMap;

use coracle_yaml::{Key, Node, Position, Scalar, Value, describe, did_you_mean, quoted};
use serde_json::{Map, Value as Json};

use crate::volume::quantity;

/// A document that was read against its schema.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What is wrong: where, the field, what.
    pub(super) problems: Vec<(Position, String, String)>,
    /// Where each field's value is, by its path.
    positions: BTreeMap<String, Position>,
}

impl Read {
    /// Reads a node; what is wrong in it is left out of the result.
    pub(super) fn node(&mut self, schema: &Json, node: &Node, path: &str) -> Json {
        self.positions.insert(path.into(), node.at);
        if schema["x-kubernetes-int-or-string"] == true {
            return self.quantity(node, path);
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, node, path),
            Some("array") => self.array(&schema["items"], node, path),
            Some(wanted) => self.scalar(schema, wanted, node, path),
            None => plain(&node.value),
        }
    }

    /// Where a field is; for one that is not written down, the nearest that
    /// would contain it.
    pub(super) fn position(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(at) = self.positions.get(path) {
                return Some(*at);
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
            if path.is_empty() {
                return self.positions.get("").copied();
            }
        }
    }

    fn problem(&mut self, at: Position, path: &str, message: impl Into<String>) {
        self.problems.push((at, path.into(), message.into()));
    }

    fn mismatch(&mut self, wanted: &str, node: &Node, path: &str) -> Json {
        let found = describe(&node.value);
        let hint = match (&node.value, wanted) {
            (Value::Scalar(_, Some(_)), "a text") => "; put it in quotes",
            (Value::Map(_), "a list") => "; begin each entry with \"- \"",
            _ => "",
        };
        self.problem(
            node.at,
            path,
            format!("must be {wanted}, not {found}{hint}"),
        );
        Json::Null
    }

    fn object(&mut self, schema: &Json, node: &Node, path: &str) -> Json {
        let Value::Map(entries) = &node.value else {
            return self.mismatch("a map of fields", node, path);
        };
        let known = schema["properties"].as_object();
        let others = &schema["additionalProperties"];
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let mut object = Map::new();
        for (key, value) in entries {
            let inner = field(path, &key.text);
            let schema = known.and_then(|known| known.get(&key.text));
            let Some(schema) = schema.or_else(|| others.is_object().then_some(others)) else {
                if free {
                    object.insert(key.text.clone(), plain(&value.value));
                } else {
                    self.unknown(key, known, path);
                }
                continue;
            };
            // null is the same as no field at all.
            if !matches!(value.value, Value::Scalar(Scalar::Null, _)) {
                object.insert(key.text.clone(), self.node(schema, value, &inner));
            }
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !object.contains_key(name) {
                self.problem(node.at, path, format!("field {name:?} is missing"));
            }
        }
        Json::Object(object)
    }

    fn unknown(&mut self, key: &Key, known: Option<&Map<String, Json>>, path: &str) {
        let text = &key.text;
        let names = || known.into_iter().flat_map(Map::keys).map(String::as_str);
        let meant = match did_you_mean(text, names()) {
            none if none.is_empty() => match names().collect::<Vec<_>>() {
                names if names.is_empty() => ": there are no fields here".into(),
                names if names.len() <= 12 => format!(": there are {}", quoted(names)),
                _ => none,
            },
            meant => meant,
        };
        self.problem(key.at, path, format!("unknown field {text:?}{meant}"));
    }

    fn array(&mut self, items: &Json, node: &Node, path: &str) -> Json {
        let Value::List(nodes) = &node.value else {
            return self.mismatch("a list", node, path);
        };
        let nodes = nodes.iter().enumerate();
        nodes
            .map(|(index, item)| self.node(items, item, &format!("{path}[{index}]")))
            .collect()
    }

    fn scalar(&mut self, schema: &Json, wanted: &str, node: &Node, path: &str) -> Json {
        match (wanted, &node.value) {
            ("string", Value::Scalar(Scalar::Text(text), _)) => self.text(schema, text, node, path),
            ("boolean", Value::Scalar(Scalar::Bool(value), _)) => Json::Bool(*value),
            ("integer", Value::Scalar(Scalar::Number(number), _)) if !number.is_f64() => {
                self.bounds(schema, number.as_f64().unwrap_or_default(), node, path);
                Json::Number(number.clone())
            }
            ("number", Value::Scalar(Scalar::Number(number), _)) => Json::Number(number.clone()),
            ("string", _) => self.mismatch("a text", node, path),
            ("boolean", _) => self.mismatch("true or false", node, path),
            ("integer", _) => self.mismatch("a whole number", node, path),
            _ => self.mismatch("a number", node, path),
        }
    }

    fn text(&mut self, schema: &Json, text: &str, node: &Node, path: &str) -> Json {
        if let Some(allowed) = schema["enum"].as_array() {
            let allowed = || allowed.iter().filter_map(Json::as_str);
            if !allowed().any(|value| value == text) {
                let list = quoted(allowed());
                self.problem(
                    node.at,
                    path,
                    format!("unknown value {text:?}: allowed are {list}"),
                );
            }
        }
        if schema["format"] == "byte" {
            // Line breaks do not count, as with Go's decoder.
            let text = text.replace(['\r', '\n'], "");
            if !is_base64(&text) {
                // Without the text: it may be a secret.
                let message = "not base64; encode it with `base64 -w0`, or write it as it is, in \
                               a Secret under stringData";
                self.problem(node.at, path, message);
            }
            return Json::String(text);
        }
        Json::String(text.into())
    }

    /// The words are those of [`coracle_api::vm::validate`], which sees a
    /// number only once it fits its type.
    fn bounds(&mut self, schema: &Json, number: f64, node: &Node, path: &str) {
        if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
            self.problem(
                node.at,
                path,
                format!("{number} is too small: at least {least}"),
            );
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
            self.problem(
                node.at,
                path,
                format!("{number} is too large: at most {most}"),
            );
        }
    }

    /// The only fields of our kinds that are numbers or texts are quantities.
    fn quantity(&mut self, node: &Node, path: &str) -> Json {
        let text = match &node.value {
            Value::Scalar(Scalar::Text(text), _) => text.clone(),
            Value::Scalar(Scalar::Number(number), _) => number.to_string(),
            _ => return self.mismatch("a quantity, say 10Gi", node, path),
        };
        if quantity::bytes(&text).is_none() {
            let message = format!(
                "{text:?} is not a quantity: a number, and perhaps a unit, Ki, Mi, Gi, Ti, Pi, \
                 Ei, k, M, G, T, P or E"
            );
            self.problem(node.at, path, message);
        }
        Json::String(text)
    }
}

fn is_base64(text: &str) -> bool {
    let data = text
        .strip_suffix("==")
        .or_else(|| text.strip_suffix('='))
        .unwrap_or(text);
    let symbol = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    text.len().is_multiple_of(4) && data.bytes().all(symbol)
}

/// The path of a field; a key that is no plain word is in brackets.
fn field(path: &str, key: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.chars().all(word) || key.is_empty() {
        format!("{path}[{key:?}]")
    } else if path.is_empty() {
        key.into()
    } else {
        format!("{path}.{key}")
    }
}

/// A value where the schema allows any.
pub(super) fn plain(value: &Value) -> Json {
    match value {
        Value::Scalar(Scalar::Null, _) => Json::Null,
        Value::Scalar(Scalar::Bool(value), _) => Json::Bool(*value),
        Value::Scalar(Scalar::Number(number), _) => Json::Number(number.clone()),
        Value::Scalar(Scalar::Text(text), _) => Json::String(text.clone()),
        Value::List(items) => items.iter().map(|item| plain(&item.value)).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.text.clone(), plain(&value.value)))
            .collect(),
    }
}
