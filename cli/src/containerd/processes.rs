//! Finds what belongs to a containerd among the machine's processes, by what
//! only its command lines name. It looks, and signals nothing.

use std::path::Path;

use crate::process::{self, ProcessId};

/// The containerds with this configuration file.
pub(super) fn find(config: &Path) -> Vec<ProcessId> {
    let config = config.to_string_lossy();
    process::find(|args| is_program(args, "containerd") && args.iter().any(|arg| *arg == *config))
}

/// The `ctr` commands that talk to a containerd.
pub(super) fn clients(socket: &Path) -> Vec<ProcessId> {
    let socket = socket.to_string_lossy();
    process::find(|args| is_program(args, "ctr") && args.iter().any(|arg| *arg == *socket))
}

/// The shims of a containerd's containers.
#[must_use]
pub fn shims(socket: &Path) -> Vec<ProcessId> {
    let socket = socket.to_string_lossy();
    process::find(|args| {
        args.first()
            .is_some_and(|arg| arg.contains("containerd-shim"))
            && args.iter().any(|arg| *arg == *socket)
    })
}

fn is_program(args: &[String], name: &str) -> bool {
    args.first()
        .is_some_and(|program| Path::new(program).file_name().is_some_and(|f| f == name))
}

/// The kubelet whose runtime a containerd is, if one runs.
pub(super) fn kubelet_of(socket: &Path) -> Option<ProcessId> {
    let socket = socket.to_string_lossy().into_owned();
    // A kubelet that names no endpoint takes it from its configuration file,
    // where nearly always the default stands.
    let is_default = [
        "/run/containerd/containerd.sock",
        "/var/run/containerd/containerd.sock",
    ]
    .contains(&socket.as_str());
    process::find(|args| {
        is_program(args, "kubelet") && {
            let named: Vec<_> = args.iter().filter(|arg| arg.contains(".sock")).collect();
            named.iter().any(|arg| arg.ends_with(&socket)) || (named.is_empty() && is_default)
        }
    })
    .pop()
}
