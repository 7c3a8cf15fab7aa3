//! The message that makes the pod's container.

use std::collections::{BTreeMap, HashMap};

use k8s_cri::v1::{
    CdiDevice, ContainerConfig, ContainerMetadata, Device, ImageSpec, KeyValue,
    LinuxContainerConfig, Mount, MountPropagation,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, VolumeMount};

use super::{NodeError, Placement, only_container, pod_labels, resources, security};

/// The message that makes the pod's container in its sandbox.
pub fn container(pod: &Pod, placement: &Placement) -> Result<ContainerConfig, NodeError> {
    let (spec, container) = only_container(pod)?;
    let name = container.name.clone();
    let mut labels = pod_labels(pod, &placement.uid);
    labels.insert("io.kubernetes.container.name".to_owned(), name.clone());
    let image = container.image.clone().unwrap_or_default();
    let mut annotations = annotations(container);
    for answer in &placement.allocated {
        annotations.extend(answer.annotations.clone());
    }
    Ok(ContainerConfig {
        log_path: format!("{name}/0.log"),
        metadata: Some(ContainerMetadata { name, attempt: 0 }),
        image: Some(ImageSpec {
            user_specified_image: image.clone(),
            image,
            ..ImageSpec::default()
        }),
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment(container, placement)?,
        mounts: mounts(spec, container, placement)?,
        devices: devices(spec, container, placement)?,
        labels,
        annotations,
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::of_container(container, placement.host)?),
            security_context: Some(security::of_container(spec, container)?),
        }),
        cdi_devices: cdi_devices(placement),
        ..ContainerConfig::default()
    })
}

fn annotations(container: &Container) -> HashMap<String, String> {
    let path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    let policy = container
        .termination_message_policy
        .as_deref()
        .unwrap_or("File");
    HashMap::from([
        (
            "io.kubernetes.container.restartCount".to_owned(),
            "0".to_owned(),
        ),
        (
            "io.kubernetes.container.terminationMessagePath".to_owned(),
            path.to_owned(),
        ),
        (
            "io.kubernetes.container.terminationMessagePolicy".to_owned(),
            policy.to_owned(),
        ),
    ])
}

/// The manifest's variables first, then those of the device plugins, which
/// the kubelet lets win.
fn environment(container: &Container, placement: &Placement) -> Result<Vec<KeyValue>, NodeError> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        if variable.value_from.is_some() {
            let field = format!("env[{}].valueFrom", variable.name);
            return Err(NodeError::Unsupported { field });
        }
        variables.insert(
            variable.name.clone(),
            variable.value.clone().unwrap_or_default(),
        );
    }
    if container.env_from.is_some() {
        return Err(NodeError::Unsupported {
            field: "envFrom".to_owned(),
        });
    }
    let mut of_plugins: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in placement.allocated.iter().flat_map(|answer| &answer.envs) {
        let before = of_plugins.insert(key.clone(), value.clone());
        if before.is_some_and(|before| before != *value) {
            return Err(NodeError::Conflict {
                what: format!("the variable {key}"),
            });
        }
    }
    variables.extend(of_plugins);
    Ok(variables
        .into_iter()
        .map(|(key, value)| KeyValue { key, value })
        .collect())
}

fn mounts(
    spec: &PodSpec,
    container: &Container,
    placement: &Placement,
) -> Result<Vec<Mount>, NodeError> {
    let own = container.volume_mounts.iter().flatten();
    let volumes = own.map(|mount| volume_mount(spec, mount, placement));
    let mut mounts = volumes.collect::<Result<Vec<_>, _>>()?;
    for mount in placement.allocated.iter().flat_map(|answer| &answer.mounts) {
        mounts.push(Mount {
            container_path: mount.container_path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.read_only,
            ..Mount::default()
        });
    }
    let file = |container_path: &str, host_path: &std::path::Path| Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.display().to_string(),
        ..Mount::default()
    };
    mounts.push(file("/etc/hosts", &placement.etc_hosts));
    let termination = container.termination_message_path.as_deref();
    mounts.push(file(
        termination.unwrap_or("/dev/termination-log"),
        &placement.termination_log,
    ));
    Ok(mounts)
}

fn volume_mount(
    spec: &PodSpec,
    mount: &VolumeMount,
    placement: &Placement,
) -> Result<Mount, NodeError> {
    let unsupported = [
        ("subPath", mount.sub_path.as_ref()),
        ("subPathExpr", mount.sub_path_expr.as_ref()),
        (
            "mountPropagation",
            mount.mount_propagation.as_ref().filter(|p| *p != "None"),
        ),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| set.is_some()) {
        let field = format!("volumeMounts[{}].{field}", mount.name);
        return Err(NodeError::Unsupported { field });
    }
    let host = placement
        .mounts
        .get(&mount.name)
        .ok_or_else(|| NodeError::NoVolume {
            volume: mount.name.clone(),
        })?;
    Ok(Mount {
        container_path: mount.mount_path.clone(),
        host_path: host.display().to_string(),
        readonly: mount.read_only == Some(true) || is_read_only(spec, &mount.name),
        propagation: MountPropagation::PropagationPrivate.into(),
        ..Mount::default()
    })
}

/// Raw block volumes, then what the device plugins answered.
fn devices(
    spec: &PodSpec,
    container: &Container,
    placement: &Placement,
) -> Result<Vec<Device>, NodeError> {
    let mut devices: BTreeMap<String, Device> = BTreeMap::new();
    for device in container.volume_devices.iter().flatten() {
        let host = placement
            .devices
            .get(&device.name)
            .ok_or_else(|| NodeError::NoVolume {
                volume: device.name.clone(),
            })?;
        devices.insert(
            device.device_path.clone(),
            Device {
                container_path: device.device_path.clone(),
                host_path: host.display().to_string(),
                // Without `m`, which the kubelet gives too: the container has
                // no capability to make nodes with.
                permissions: if is_read_only(spec, &device.name) {
                    "r"
                } else {
                    "rw"
                }
                .to_owned(),
            },
        );
    }
    for device in placement
        .allocated
        .iter()
        .flat_map(|answer| &answer.devices)
    {
        let device = Device {
            container_path: device.container_path.clone(),
            host_path: device.host_path.clone(),
            permissions: device.permissions.clone(),
        };
        let path = device.container_path.clone();
        if let Some(before) = devices.insert(path.clone(), device.clone())
            && before != device
        {
            return Err(NodeError::Conflict {
                what: format!("the device {path}"),
            });
        }
    }
    Ok(devices.into_values().collect())
}

fn cdi_devices(placement: &Placement) -> Vec<CdiDevice> {
    let named = placement
        .allocated
        .iter()
        .flat_map(|answer| &answer.cdi_devices);
    named
        .map(|device| CdiDevice {
            name: device.name.clone(),
        })
        .collect()
}

/// Whether the volume is a claim that may only be read.
fn is_read_only(spec: &PodSpec, volume: &str) -> bool {
    let volumes = spec.volumes.iter().flatten();
    let claims = volumes
        .filter(|v| v.name == volume)
        .filter_map(|v| v.persistent_volume_claim.as_ref());
    claims
        .into_iter()
        .any(|claim| claim.read_only == Some(true))
}
