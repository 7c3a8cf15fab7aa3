//! What is read, where it is, and what is refused.

use proptest::prelude::*;
use serde_json::Number;

use super::*;

fn one(text: &str) -> Node {
    let mut documents = documents(text).expect("YAML");
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

fn entries(node: &Node) -> &[(Key, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        other => panic!("{other:?}"),
    }
}

fn refusal(text: &str) -> (usize, usize, String) {
    let error = documents(text).expect_err(text);
    (error.at.line, error.at.column, error.message)
}

#[test]
fn everything_knows_where_it_is() {
    let root = one("# comment\na:\n  - b: 1\n    é: x\n  - {c: true}\n");
    assert_eq!(root.at, Position { line: 2, column: 1 });
    let (key, list) = &entries(&root)[0];
    assert_eq!((key.text.as_str(), key.at.line, key.at.column), ("a", 2, 1));
    let Value::List(items) = &list.value else {
        panic!("{list:?}")
    };
    assert_eq!(items[0].at, Position { line: 3, column: 5 });
    let (key, value) = &entries(&items[0])[1];
    assert_eq!((key.text.as_str(), key.at.line, key.at.column), ("é", 4, 5));
    assert_eq!(value.at, Position { line: 4, column: 8 });
    let (_, value) = &entries(&items[1])[0];
    assert_eq!(value.at, Position { line: 5, column: 9 });
}

#[test]
fn documents_are_separate_and_empty_ones_are_left_out() {
    let documents = documents("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").expect("YAML");
    assert_eq!(
        documents
            .iter()
            .map(|node| node.at.line)
            .collect::<Vec<_>>(),
        [3, 7]
    );
    assert_eq!(super::documents(""), Ok(vec![]));
    assert_eq!(super::documents("\u{feff}a: 1").map(|all| all.len()), Ok(1));
    assert_eq!(
        super::documents("{\"a\": [1, null]}").map(|all| all.len()),
        Ok(1)
    );
}

#[test]
fn quotes_and_tags_make_texts() {
    let root = one("a: '1'\nb: \"yes\"\nc: !!str 3\nd: |\n  4\ne: 5\n");
    let values: Vec<_> = entries(&root)
        .iter()
        .map(|(_, node)| match &node.value {
            Value::Scalar(scalar, _) => scalar.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let text = |text: &str| Scalar::Text(text.into());
    let five = Scalar::Number(Number::from(5));
    assert_eq!(
        values,
        [text("1"), text("yes"), text("3"), text("4\n"), five]
    );
}

#[test]
fn aliases_and_merge_keys_work() {
    let root = one(
        "base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\nsame: *base\nboth: {<<: [*base, {c: 4}]}\n",
    );
    let keys = |index: usize| {
        let node = &entries(&root)[index].1;
        entries(node)
            .iter()
            .map(|(key, _)| key.text.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(1), ["b", "a"]);
    assert_eq!(keys(2), ["a", "b"]);
    assert_eq!(keys(3), ["a", "b", "c"]);
    assert_eq!(entries(&root)[2].1.at, Position { line: 5, column: 7 });
}

#[test]
fn what_is_not_yaml_is_refused_where_it_is() {
    assert_eq!(
        refusal("a: 1\na: 2\n"),
        (2, 1, "field \"a\" is there twice, first in line 1".into())
    );
    assert_eq!(refusal("a: !secret x\n").2, "unknown tag !secret");
    assert_eq!(refusal("? [a]\n: 1\n").2, "a field's name must be a text");
    assert_eq!(refusal("<<: 1\n").2, "`<<` needs a map or a list of maps");
    for text in [
        "a: [1\n",
        "a: 'x\n",
        "a: b: c\n",
        "a: *nowhere\n",
        "%YAML 3\n",
        "a: &x [*x]",
    ] {
        let (line, column, message) = refusal(text);
        assert!(
            line >= 1 && column >= 1 && !message.is_empty(),
            "{text:?}: {line}:{column}: {message}"
        );
    }
}

#[test]
fn no_input_is_too_large_or_too_deep() {
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(
        refusal(&deep).2.starts_with("nested too deeply"),
        "{:?}",
        refusal(&deep)
    );
    refusal(&"[".repeat(100_000));
    refusal(&"- ".repeat(100_000));
    let mut laughs = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*l{}", level - 1);
        let ten = [alias.as_str(); 10].join(", ");
        laughs = [laughs, format!("l{level}: &l{level} [{ten}]\n")].concat();
    }
    assert!(
        refusal(&laughs).2.starts_with("too large"),
        "{:?}",
        refusal(&laughs)
    );
}

proptest! {
    #[test]
    fn every_input_is_read_or_refused_with_a_place(bytes in any::<Vec<u8>>()) {
        if let Err(error) = documents(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(error.at.line >= 1 && !error.message.is_empty());
        }
    }
}
