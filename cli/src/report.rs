//! What a run was: for programs as JSON (`--report`), for people as the
//! summary at the end.

mod summary;

use std::path::PathBuf;

use coracle_api::report::TerminationMessage;
use coracle_proto::deviceplugin::ContainerAllocateResponse;
use serde::{Deserialize, Serialize};

use crate::progress::Stage;
use crate::record::VmId;

pub use summary::{printable, size, summary};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The VM.
    pub vm: VmId,
    /// Its pod.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The VM image.
    pub image: String,
    /// The container runtime, with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The pod sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
    /// The pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// The `vm` container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// What device plugins gave.
    pub devices: Vec<DeviceGrant>,
    /// The claims' disks.
    pub disks: Vec<DiskReport>,
    /// How long each stage took.
    pub stages: Vec<Stage>,
    /// Milliseconds from the start of the container to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_ms: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// Devices of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceGrant {
    /// The resource.
    pub resource: String,
    /// The devices.
    pub ids: Vec<String>,
    /// What the plugin answered to `Allocate`.
    pub answer: AllocateAnswer,
}

/// A plugin's answer to `Allocate`, field by field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocateAnswer {
    /// Environment variables.
    pub envs: std::collections::BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<NodePath>,
    /// Device nodes.
    pub devices: Vec<NodePath>,
    /// Annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// CDI devices.
    pub cdi_devices: Vec<String>,
}

/// A mount or a device node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePath {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// `rw`, `r`, `ro`, `mrw`.
    pub permissions: String,
}

impl From<&ContainerAllocateResponse> for AllocateAnswer {
    fn from(answer: &ContainerAllocateResponse) -> Self {
        Self {
            envs: answer.envs.clone().into_iter().collect(),
            mounts: answer
                .mounts
                .iter()
                .map(|mount| NodePath {
                    host_path: mount.host_path.clone(),
                    container_path: mount.container_path.clone(),
                    permissions: if mount.read_only { "ro" } else { "rw" }.to_owned(),
                })
                .collect(),
            devices: answer
                .devices
                .iter()
                .map(|device| NodePath {
                    host_path: device.host_path.clone(),
                    container_path: device.container_path.clone(),
                    permissions: device.permissions.clone(),
                })
                .collect(),
            annotations: answer.annotations.clone().into_iter().collect(),
            cdi_devices: answer
                .cdi_devices
                .iter()
                .map(|device| device.name.clone())
                .collect(),
        }
    }
}

/// A claim's disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskReport {
    /// Name of the disk.
    pub disk: String,
    /// The claim.
    pub claim: String,
    /// What plays the claim: a device, an image file, a directory.
    pub path: PathBuf,
    /// The device node on the host that the container got a copy of, or the
    /// directory it mounts.
    pub host: PathBuf,
    /// The loop device, when an image file plays the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_device: Option<PathBuf>,
    /// Path in the pod.
    pub container_path: String,
    /// Its size, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The serial number by which the guest finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// How the container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The container's exit code: the shim's.
    pub exit_code: i32,
    /// The runtime's word for it.
    pub runtime_reason: String,
    /// What the shim said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<TerminationMessage>,
    /// What is in the termination message when it is not the shim's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}
