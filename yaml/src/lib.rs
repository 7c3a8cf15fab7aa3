//! What a person wrote in YAML: trees in which everything knows where it was
//! written, and words for what is wrong there.
//!
//! For manifests (`coracle run`) and for the device plugin's configuration
//! file. Texts only: no files, no schema, nothing of Kubernetes.

mod scalar;
mod suggest;
mod tree;

pub use scalar::Scalar;
pub use suggest::{did_you_mean, quoted};
pub use tree::{Key, Node, Position, Value, YamlError, describe, documents};
