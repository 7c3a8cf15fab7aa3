//! Prints the `VirtualMachine` custom resource definition as YAML, for
//! `deploy/crds/`.

use std::io::Write;

use coracle_api::vm::VirtualMachine;
use kube::CustomResourceExt;

const HEAD: &str =
    "# Generated from api/src/vm.rs by `make crds`; `make check` fails when it drifts.\n";

/// What kubectl, which reads YAML 1.1, takes for a boolean, and the writer, which
/// writes YAML 1.2, leaves bare.
const BOOLEANS: [&str; 4] = ["On", "Off", "Yes", "No"];

/// The same, with those in quotes.
fn quoted(line: &str) -> String {
    let start = line.rfind(' ').map_or(0, |space| space + 1);
    let (before, word) = line.split_at(start);
    let value = before.trim_end().ends_with([':', '-']);
    if value && BOOLEANS.contains(&word) {
        format!("{before}'{word}'\n")
    } else {
        format!("{line}\n")
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml_ng::to_string(&VirtualMachine::crd())?;
    let yaml: String = yaml.lines().map(quoted).collect();
    std::io::stdout().write_all(format!("{HEAD}{yaml}").as_bytes())?;
    Ok(())
}
