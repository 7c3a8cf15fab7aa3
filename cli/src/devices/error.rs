//! Why a pod cannot have its devices.

use std::path::PathBuf;

use coracle_kubelet::KubeletError;

use super::PLUGIN;
use crate::process::ProcessError;
use crate::record::RecordError;

/// Why a pod cannot have its devices.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// Our plugin is not installed.
    #[error(
        "the pod requests {resource} and {PLUGIN} is neither beside coracle nor in PATH: name it \
         with --device-plugin"
    )]
    NoPlugin {
        /// What is requested.
        resource: String,
    },
    /// Our plugin cannot be started.
    #[error("the device plugin cannot be run")]
    Plugin {
        /// Why.
        #[from]
        source: ProcessError,
    },
    /// Our plugin ended.
    #[error("the device plugin ended ({status}): {said}")]
    PluginEnded {
        /// Its exit status.
        status: String,
        /// The last it said.
        said: String,
    },
    /// The kubelet's side failed.
    #[error("{resource} cannot be allocated")]
    Kubelet {
        /// The resource.
        resource: String,
        /// Why.
        source: KubeletError,
    },
    /// The kubelet's socket could not be made.
    #[error("the kubelet's socket cannot be served")]
    Serve {
        /// Why.
        source: KubeletError,
    },
    /// KVM does not work here.
    #[error(
        "this machine has no usable KVM ({reason}): run the VM on another node, or set \
         `accelerator: Emulation` in its manifest (slow)"
    )]
    NoKvm {
        /// What the probe says.
        reason: String,
    },
    /// Its plugin has not enough healthy devices.
    #[error("{resource}: {wanted} requested, {healthy} of {all} devices are healthy and free")]
    NotEnough {
        /// The resource.
        resource: String,
        /// How many are requested.
        wanted: usize,
        /// How many can be had.
        healthy: usize,
        /// How many there are.
        all: usize,
    },
    /// The plugin directory's lock or log cannot be used.
    #[error("the plugin directory cannot be used")]
    Directory {
        /// Why.
        #[from]
        source: RecordError,
    },
    /// A file cannot be made.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime is too old for the plugin's answer.
    #[error(
        "the plugin of {resource} answers with CDI devices, which {runtime} does not know: use \
         containerd 1.7 or newer, or the plugin without CDI"
    )]
    NoCdi {
        /// The resource.
        resource: String,
        /// The runtime.
        runtime: String,
    },
}
