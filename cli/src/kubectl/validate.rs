//! `kubectl coracle validate`: manifests against what the API server demands,
//! without one.

use std::path::PathBuf;

use super::error::PluginError;
use crate::console::show;
use crate::manifest::{self, server};

/// Checks files; all that is wrong is told, a line each.
pub(super) fn validate(files: &[PathBuf]) -> Result<(), PluginError> {
    let sources: Result<Vec<_>, _> = files.iter().map(|file| manifest::read(file)).collect();
    let sources = sources.map_err(|error| PluginError::said(crate::devices::chain(&error)))?;
    let checked = server::check(&sources);
    if !checked.problems.is_empty() {
        let lines: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
        let count = match lines.len() {
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        return Err(PluginError::said(format!("{count}:\n{}", lines.join("\n"))));
    }
    if checked.vms == 0 {
        return Err(PluginError::said(
            "there is no VirtualMachine in what was read",
        ));
    }
    let plural = if checked.vms == 1 { "is" } else { "are" };
    let others = match checked.others {
        0 => String::new(),
        1 => "; one object of another kind was not looked at".to_owned(),
        many => format!("; {many} objects of other kinds were not looked at"),
    };
    show(format!("{} VirtualMachine {plural} valid{others}\n", checked.vms).as_bytes());
    Ok(())
}
