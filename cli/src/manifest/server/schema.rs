//! A document against a structural schema, in the words of kube-openapi's
//! validation.

use std::collections::{BTreeMap, BTreeSet};

use coracle_yaml::{Node, Position, Scalar, Value};
use regex_lite::Regex;
use serde_json::{Value as Json, json};

use super::printed;
use crate::manifest::schema::plain;

/// What was found on the way through a document.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Where, and what.
    pub(super) found: Vec<(Position, String)>,
    positions: BTreeMap<String, Position>,
}

impl Walk {
    /// Where a field is, or what would contain it.
    pub(super) fn position(&self, path: &str) -> Option<Position> {
        let mut path = path;
        while !path.is_empty() {
            if let Some(at) = self.positions.get(path) {
                return Some(*at);
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
        None
    }

    fn says(&mut self, at: Position, message: String) {
        self.found.push((at, message));
    }

    fn invalid(&mut self, node: &Node, path: &str, why: &str) {
        let value = printed(&plain(&node.value));
        let message = format!("{path}: Invalid value: {value}: {path} in body {why}");
        self.says(node.at, message);
    }

    /// Goes through a value.
    pub(super) fn node(&mut self, schema: &Json, node: &Node, path: &str) {
        self.positions.insert(path.to_owned(), node.at);
        let found = type_of(&node.value);
        if found == "null" && (schema["nullable"] == true || !schema["default"].is_null()) {
            return;
        }
        let either = schema["x-kubernetes-int-or-string"] == true;
        if either && ["integer", "string"].contains(&found) {
            return;
        }
        let wanted = schema["type"].as_str();
        if let Some(wanted) = wanted.filter(|wanted| !fits(wanted, found)) {
            let why = format!("must be of type {wanted}: {found:?}");
            let message = format!("{path}: Invalid value: {found:?}: {path} in body {why}");
            return self.says(node.at, message);
        }
        match &node.value {
            Value::Map(_) => self.object(schema, node, path),
            Value::List(items) => self.list(schema, node, items, path),
            Value::Scalar(Scalar::Text(text), _) => self.text(schema, node, text, path),
            Value::Scalar(Scalar::Number(number), _) => {
                self.number(schema, node, number.as_f64().unwrap_or_default(), path);
            }
            Value::Scalar(..) => {}
        }
        self.one_of(schema, node, path);
    }

    fn object(&mut self, schema: &Json, node: &Node, path: &str) {
        let Value::Map(entries) = &node.value else {
            return;
        };
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            let absent = !entries.iter().any(|(key, _)| key.text == name);
            if absent && schema["properties"][name]["default"].is_null() {
                self.says(node.at, format!("{}: Required value", below(name)));
            }
        }
        let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
        for (key, value) in entries {
            let known = &schema["properties"][key.text.as_str()];
            let others = &schema["additionalProperties"];
            if known.is_object() {
                self.node(known, value, &below(&key.text));
            } else if others.is_object() {
                self.node(others, value, &below(&key.text));
            } else if !open && others != true {
                self.says(key.at, format!("unknown field {:?}", below(&key.text)));
            }
        }
    }

    fn list(&mut self, schema: &Json, node: &Node, items: &[Node], path: &str) {
        let count = items.len();
        if let Some(most) = schema["maxItems"]
            .as_u64()
            .filter(|most| count as u64 > *most)
        {
            let message = format!("{path}: Too many: {count}: must have at most {most} items");
            return self.says(node.at, message);
        }
        if let Some(least) = schema["minItems"]
            .as_u64()
            .filter(|least| (count as u64) < *least)
        {
            let why = format!("should have at least {least} items");
            let message = format!("{path}: Invalid value: {count}: {path} in body {why}");
            self.says(node.at, message);
        }
        for (index, item) in items.iter().enumerate() {
            self.node(&schema["items"], item, &format!("{path}[{index}]"));
        }
        let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate().filter(|_| !keys.is_empty()) {
            let whole = plain(&item.value);
            let key: serde_json::Map<_, _> = keys
                .iter()
                .map(|key| ((*key).to_owned(), whole[*key].clone()))
                .collect();
            let key = printed(&key.into());
            if !seen.insert(key.clone()) {
                self.says(item.at, format!("{path}[{index}]: Duplicate value: {key}"));
            }
        }
    }

    fn text(&mut self, schema: &Json, node: &Node, text: &str, path: &str) {
        let length = text.chars().count() as u64;
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            let message = format!("{path}: Too long: may not be more than {most} bytes");
            self.says(node.at, message);
        }
        if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
            self.invalid(
                node,
                path,
                &format!("should be at least {least} chars long"),
            );
        }
        let pattern = schema["pattern"].as_str();
        let matches = |pattern: &&str| Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        if let Some(pattern) = pattern.filter(|pattern| !matches(pattern)) {
            self.invalid(node, path, &format!("should match '{pattern}'"));
        }
    }

    fn number(&mut self, schema: &Json, node: &Node, number: f64, path: &str) {
        let bound = |name: &str| schema[name].as_f64();
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.invalid(
                node,
                path,
                &format!("should be greater than or equal to {least}"),
            );
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.invalid(
                node,
                path,
                &format!("should be less than or equal to {most}"),
            );
        }
    }

    fn one_of(&mut self, schema: &Json, node: &Node, path: &str) {
        let Some(allowed) = schema["enum"].as_array() else {
            return;
        };
        let value = plain(&node.value);
        if allowed.contains(&value) {
            return;
        }
        let list: Vec<String> = allowed.iter().map(printed).collect();
        let message = format!(
            "{path}: Unsupported value: {}: supported values: {}",
            printed(&value),
            list.join(", ")
        );
        self.says(node.at, message);
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Map(_) => "object",
        Value::List(_) => "array",
        Value::Scalar(Scalar::Null, _) => "null",
        Value::Scalar(Scalar::Bool(_), _) => "boolean",
        Value::Scalar(Scalar::Text(_), _) => "string",
        Value::Scalar(Scalar::Number(number), _) if is_whole(number) => "integer",
        Value::Scalar(Scalar::Number(_), _) => "number",
    }
}

fn is_whole(number: &serde_json::Number) -> bool {
    !number.is_f64()
        || json!(number)
            .as_f64()
            .is_some_and(|number| number.fract() == 0.0)
}

fn fits(wanted: &str, found: &str) -> bool {
    wanted == found || wanted == "number" && found == "integer"
}
