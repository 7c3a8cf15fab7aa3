//! Applies a structural schema's bounds to a value: lengths, ranges, patterns
//! and list keys. Types and enums are left to serde, which has read the value.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use regex_lite::Regex;
use serde_json::Value;

use super::{Problem, elements};

/// Adds to `problems` what `schema` finds wrong with `value`, which is at `path`.
pub(super) fn check(
    schema: &JSONSchemaProps,
    value: &Value,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    let mut says = |message: String| problems.push(Problem::new(path, message));
    match value {
        Value::String(text) => check_text(schema, text, &mut says),
        Value::Number(number) => check_number(schema, number.as_f64(), &mut says),
        Value::Array(items) => check_list(schema, items, &mut says),
        _ => {}
    }
    for (name, property) in schema.properties.iter().flatten() {
        if let Some(inner) = value.get(name) {
            check(property, inner, &format!("{path}.{name}"), problems);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        for (index, inner) in elements(value).iter().enumerate() {
            check(item, inner, &format!("{path}[{index}]"), problems);
        }
    }
}

fn check_text(schema: &JSONSchemaProps, text: &str, says: &mut impl FnMut(String)) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        says(format!(
            "{text:?} is too short: at least {least} character(s)"
        ));
    }
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        says(format!("too long: {length} characters, at most {most}"));
    } else if let Some(pattern) = schema.pattern.as_deref().filter(|p| !matches(p, text)) {
        let means = schema.description.as_deref().unwrap_or_default();
        says(format!("{text:?} does not match {pattern} ({means})"));
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

fn check_number(schema: &JSONSchemaProps, number: Option<f64>, says: &mut impl FnMut(String)) {
    let Some(number) = number else { return };
    if let Some(least) = schema.minimum.filter(|least| number < *least) {
        says(format!("{number} is too small: at least {least}"));
    }
    if let Some(most) = schema.maximum.filter(|most| number > *most) {
        says(format!("{number} is too large: at most {most}"));
    }
}

fn check_list(schema: &JSONSchemaProps, items: &[Value], says: &mut impl FnMut(String)) {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(most) = schema.max_items.filter(|most| count > *most) {
        says(format!("too many: {count}, at most {most}"));
    }
    if let Some(least) = schema.min_items.filter(|least| count < *least) {
        says(format!("too few: {count}, at least {least}"));
    }
    for key in schema.x_kubernetes_list_map_keys.iter().flatten() {
        let mut seen = BTreeSet::new();
        for name in items.iter().filter_map(|item| item.get(key)?.as_str()) {
            if !seen.insert(name) {
                says(format!("two entries have the {key} {name:?}"));
            }
        }
    }
}
