//! What the documentation shows: its YAML, as a reader would copy it.

use std::fs;

use anyhow::Context;
use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::repository;

/// A fenced block of YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The file and the line that the block begins at.
    pub at: String,
    /// What is between the fences.
    pub text: String,
}

impl Block {
    /// The documents in it. One that is no object with a kind, a fragment, is
    /// left out.
    ///
    /// # Errors
    /// When it is not YAML.
    pub fn objects(&self) -> anyhow::Result<Vec<Value>> {
        let mut objects = Vec::new();
        for document in serde_yaml_ng::Deserializer::from_str(&self.text) {
            let value = Value::deserialize(document).with_context(|| self.at.clone())?;
            if value["kind"].is_string() && value["apiVersion"].is_string() {
                objects.push(value);
            }
        }
        Ok(objects)
    }
}

/// The blocks of YAML in a file of the checkout.
///
/// # Errors
/// When it cannot be read.
pub fn yaml_blocks(file: &str) -> anyhow::Result<Vec<Block>> {
    let text = fs::read_to_string(repository().join(file)).with_context(|| file.to_owned())?;
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line, open.take()) {
            ("```yaml", None) => {
                let at = format!("{file}:{}", number + 1);
                open = Some(Block {
                    at,
                    text: String::new(),
                });
            }
            ("```", Some(block)) => blocks.push(block),
            (line, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (_, None) => {}
        }
    }
    Ok(blocks)
}

/// Every file of the documentation.
///
/// # Errors
/// When the folder cannot be read.
pub fn files() -> anyhow::Result<Vec<String>> {
    let mut files = vec!["README.md".to_owned()];
    for entry in fs::read_dir(repository().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push(format!("docs/{name}"));
        }
    }
    files.sort();
    Ok(files)
}

/// The kustomizations that a file shows.
///
/// # Errors
/// When it cannot be read.
pub fn kustomizations(file: &str) -> anyhow::Result<Vec<Block>> {
    let mut blocks = yaml_blocks(file)?;
    blocks.retain(|block| block.text.contains("kind: Kustomization"));
    Ok(blocks)
}
