//! Prints the `VirtualMachine` custom resource definition as YAML, for
//! `deploy/crds/`.

use std::io::Write;

use coracle_api::vm::VirtualMachine;
use kube::CustomResourceExt;

const HEAD: &str =
    "# Generated from api/src/vm.rs by `make crds`; `make check` fails when it drifts.\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml_ng::to_string(&VirtualMachine::crd())?;
    std::io::stdout().write_all(format!("{HEAD}{yaml}").as_bytes())?;
    Ok(())
}
