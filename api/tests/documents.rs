//! The documentation says everything: each field of a `VirtualMachine` has its
//! example, each word that can be chosen is named, each reason has its advice.
#![cfg(feature = "kube")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use coracle_api::advice;
use coracle_api::vm::{ConditionType, VirtualMachine};
use kube::CustomResourceExt as _;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields whose inside is Kubernetes' own.
const NOT_OURS: [&str; 5] = [
    "spec.affinity",
    "spec.tolerations[]",
    "spec.topologySpreadConstraints[]",
    "spec.disks[].claimTemplate.dataSource",
    "spec.disks[].claimTemplate.dataSourceRef",
];

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The schema of a part of the custom resource.
fn schema(part: &str) -> Value {
    let definition = serde_json::to_value(VirtualMachine::crd()).expect("it serializes");
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties/";
    let schema = definition.pointer(&format!("{root}{part}"));
    schema.expect("the definition has a schema").clone()
}

/// Each field below a schema, and each word that it can be.
fn walk(path: &str, schema: &Value, fields: &mut BTreeSet<String>, words: &mut BTreeSet<String>) {
    if NOT_OURS.contains(&path) {
        return;
    }
    for word in schema["enum"].as_array().into_iter().flatten() {
        words.extend(word.as_str().map(str::to_owned));
    }
    for (name, inside) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields.insert(path.clone());
        walk(&path, inside, fields, words);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], fields, words);
    }
}

/// Each field that an object has.
fn fields_of(path: &str, value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, inside) in object {
                let path = format!("{path}.{name}");
                fields.insert(path.clone());
                fields_of(&path, inside, fields);
            }
        }
        Value::Array(items) => {
            for item in items {
                fields_of(&format!("{path}[]"), item, fields);
            }
        }
        _ => {}
    }
}

/// The VMs that a document shows.
fn examples(text: &str) -> Vec<Value> {
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("\n```").next());
    let documents = blocks.flat_map(serde_yaml_ng::Deserializer::from_str);
    let objects = documents.map(|document| Value::deserialize(document).expect("YAML"));
    objects
        .filter(|object| object["kind"] == "VirtualMachine")
        .collect()
}

#[test]
fn every_field_of_the_spec_has_an_example_and_every_choice_is_named() {
    let text = document("vm.md");
    let (mut fields, mut words) = (BTreeSet::new(), BTreeSet::new());
    walk("spec", &schema("spec"), &mut fields, &mut words);
    assert!(fields.len() > 40, "{} fields", fields.len());
    let mut shown = BTreeSet::new();
    for example in examples(&text) {
        fields_of("spec", &example["spec"], &mut shown);
    }
    let unshown: Vec<_> = fields.difference(&shown).collect();
    assert!(
        unshown.is_empty(),
        "no VirtualMachine in docs/vm.md has these fields: {unshown:#?}\nAdd them to an example \
         there, or add one (the end-to-end tests put each before an API server), and say what \
         they mean in the table above it"
    );
    let unnamed = |words: &BTreeSet<String>| -> Vec<String> {
        let unnamed = words
            .iter()
            .filter(|word| !text.contains(&format!("`{word}`")));
        unnamed.cloned().collect()
    };
    let names = fields.iter().filter_map(|field| {
        let name = field.rsplit('.').next()?;
        Some(name.to_owned())
    });
    for (what, words) in [("field", names.collect()), ("choice", words)] {
        // One that is part of a longer term, as `firmware.kernel`, is named too.
        let unnamed = unnamed(&words).into_iter();
        let unnamed: Vec<_> = unnamed
            .filter(|word| {
                !text.contains(&format!(".{word}`"))
                    && !text.contains(&format!("`{word}."))
                    && !text.contains(&format!("`{word}:"))
            })
            .collect();
        assert!(
            unnamed.is_empty(),
            "docs/vm.md names no {what} {unnamed:#?}: say there, in backticks, what it means"
        );
    }
}

#[test]
fn every_field_of_the_status_is_named() {
    let text = document("vm.md");
    let (mut fields, mut words) = (BTreeSet::new(), BTreeSet::new());
    let mut status = schema("status");
    // Their fields are Kubernetes' own.
    status["properties"]["conditions"] = Value::Null;
    walk("status", &status, &mut fields, &mut words);
    let fields = fields.iter().filter_map(|field| field.rsplit('.').next());
    for word in fields.chain(words.iter().map(String::as_str)) {
        assert!(
            text.contains(&format!("`{word}`")),
            "docs/vm.md does not say what {word} in the status means: add it to the table there"
        );
    }
}

/// Every variant of an enum of plain words: what serde says when it is given
/// another.
fn words<T: DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_str::<T>("\"?\"").err();
    let text = error.expect("no reason is called ?").to_string();
    let (_, list) = text
        .split_once("expected one of ")
        .expect("serde lists them");
    let quoted = list.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_condition_and_reason_is_explained_with_its_advice() {
    let text = document("operations.md");
    let mut reasons = words::<coracle_api::vm::ConditionReason>();
    reasons.extend(words::<coracle_api::report::TerminationReason>());
    assert!(reasons.len() > 30, "{reasons:?}");
    for reason in reasons {
        assert!(
            text.contains(&format!("| `{reason}` |")),
            "docs/operations.md has no row for the reason {reason}: add one"
        );
        let Some(advice) = advice::advice(&reason) else {
            continue;
        };
        assert!(
            text.contains(advice),
            "docs/operations.md does not repeat what to do about {reason}; its row there \
             should end with:\n| {advice} |"
        );
    }
    for condition in words::<ConditionType>() {
        assert!(
            text.contains(&format!("| `{condition}` |")),
            "docs/operations.md does not explain the condition {condition}"
        );
    }
}

/// A manifest says them without quotes, and kubectl reads YAML 1.1.
#[test]
fn no_word_is_a_boolean_to_kubectl() {
    let (mut fields, mut words) = (BTreeSet::new(), BTreeSet::new());
    walk("spec", &schema("spec"), &mut fields, &mut words);
    assert!(words.contains("Unmap"), "the words are found: {words:?}");
    for boolean in ["y", "n", "yes", "no", "on", "off", "true", "false"] {
        let taken = words.iter().find(|word| word.eq_ignore_ascii_case(boolean));
        assert_eq!(taken, None, "it would reach the API server as a boolean");
    }
}
