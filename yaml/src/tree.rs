//! YAML documents as trees in which everything knows where it was written.
//!
//! Anchors, aliases and merge keys work, because kubectl takes them; how deep
//! and how large a tree may get is bounded, so that no input ends the program.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::scalar::{self, Scalar};

/// Nothing in Kubernetes nests nearly as deep.
const MAX_DEPTH: usize = 64;
/// Most nodes of all documents of a file, aliases counted as what they stand for.
const MAX_NODES: usize = 200_000;

/// A place in a text; both numbers count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A scalar, and how it was written when it was not quoted.
    Scalar(Scalar, Option<String>),
    /// A list.
    List(Vec<Node>),
    /// A map, in its order; no key is there twice.
    Map(Vec<(Key, Node)>),
}

/// A map's key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Where it begins.
    pub at: Position,
    /// What it says.
    pub text: String,
}

/// Why a file is no YAML that a manifest may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Where it was noticed.
    pub at: Position,
    /// What is wrong.
    pub message: String,
}

/// Reads all documents of a file; empty ones are left out.
pub fn documents(text: &str) -> Result<Vec<Node>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                reader.anchors.clear();
                let first = reader.next()?;
                let root = reader.node(first, 0)?;
                if root.value != Value::Scalar(Scalar::Null, Some(String::new())) {
                    documents.push(root);
                }
            }
            _ => {}
        }
    }
}

struct Reader<'input> {
    parser: Parser<'input, StrInput<'input>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

type Spanned<'input> = (Event<'input>, Span);

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

fn fail<T>(at: Position, message: impl Into<String>) -> Result<T, YamlError> {
    Err(YamlError {
        at,
        message: message.into(),
    })
}

fn scan_error(error: &ScanError) -> YamlError {
    YamlError {
        at: position(error.marker()),
        message: format!("not YAML: {}", error.info()),
    }
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<Spanned<'input>, YamlError> {
        match self.parser.next_event() {
            Some(event) => event.map_err(|error| scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, (event, span): Spanned<'input>, depth: usize) -> Result<Node, YamlError> {
        let at = position(&span.start);
        self.count(1, at)?;
        if depth > MAX_DEPTH {
            return fail(at, format!("nested too deeply: at most {MAX_DEPTH} levels"));
        }
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = is_text(tag.as_deref(), at)?;
                let value = if style == ScalarStyle::Plain && !text_tag {
                    Value::Scalar(scalar::resolve(&text), Some(text.into()))
                } else {
                    Value::Scalar(Scalar::Text(text.into()), None)
                };
                (anchor, value)
            }
            Event::SequenceStart(anchor, tag) => {
                is_text(tag.as_deref(), at)?;
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                is_text(tag.as_deref(), at)?;
                (anchor, self.map(depth)?)
            }
            other => return fail(at, format!("not YAML: unexpected {other:?}")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, more: usize, at: Position) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return fail(
                at,
                format!("too large: more than {MAX_NODES} values, aliases included"),
            );
        }
        Ok(())
    }

    /// What the anchor stands for, where the alias is.
    fn alias(&mut self, anchor: usize, at: Position) -> Result<Node, YamlError> {
        let Some(target) = self.anchors.get(&anchor) else {
            return fail(at, "an alias of a value that contains it");
        };
        let value = target.value.clone();
        self.count(size(&value), at)?;
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                item => items.push(self.node(item, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (at, text, style) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, ..), span) => (position(&span.start), text, style),
                (_, span) => return fail(position(&span.start), "a field's name must be a text"),
            };
            let value = self.next()?;
            let value = self.node(value, depth + 1)?;
            if text == "<<" && style == ScalarStyle::Plain {
                merged.extend(maps(value)?);
            } else if let Some((first, _)) = entries.iter().find(|(key, _)| key.text == text) {
                let line = first.at.line;
                return fail(
                    at,
                    format!("field {text:?} is there twice, first in line {line}"),
                );
            } else {
                entries.push((
                    Key {
                        at,
                        text: text.into(),
                    },
                    value,
                ));
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(own, _)| own.text == key.text) {
                entries.push((key, value));
            }
        }
        Ok(Value::Map(entries))
    }
}

/// What a merge key brings: the entries of one map or of several.
fn maps(node: Node) -> Result<Vec<(Key, Node)>, YamlError> {
    match node.value {
        Value::Map(entries) => Ok(entries),
        Value::List(items) => {
            let each: Result<Vec<_>, _> = items.into_iter().map(maps).collect();
            Ok(each?.into_iter().flatten().collect())
        }
        Value::Scalar(..) => fail(node.at, "`<<` needs a map or a list of maps"),
    }
}

/// Whether a tag says that a scalar is a text. Tags of YAML's core are fine,
/// others mean nothing to Kubernetes.
fn is_text(tag: Option<&Tag>, at: Position) -> Result<bool, YamlError> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        // The non-specific tag `!`.
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
        Some(tag) => fail(at, format!("unknown tag {}{}", tag.handle, tag.suffix)),
    }
}

/// A value as a message names it.
#[must_use]
pub fn describe(value: &Value) -> String {
    match value {
        Value::Map(_) => "a map".into(),
        Value::List(_) => "a list".into(),
        Value::Scalar(Scalar::Null, _) => "empty".into(),
        Value::Scalar(Scalar::Bool(value), written) => match written.as_deref() {
            Some(written) if written != value.to_string() => {
                format!("{value} (which an unquoted {written} means)")
            }
            _ => value.to_string(),
        },
        Value::Scalar(Scalar::Number(number), _) => format!("the number {number}"),
        Value::Scalar(Scalar::Text(text), _) => format!("the text {text:?}"),
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Scalar(..) => 1,
        Value::List(items) => 1 + items.iter().map(|item| size(&item.value)).sum::<usize>(),
        Value::Map(entries) => {
            1 + entries
                .iter()
                .map(|(_, value)| size(&value.value))
                .sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests;
