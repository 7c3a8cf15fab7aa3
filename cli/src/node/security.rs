//! Security contexts: the container's word counts before the pod's, and both
//! before the kubelet's defaults.

use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    SecurityProfile,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};

use super::{NodeError, namespaces};

pub(super) fn of_sandbox(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let pod = spec.security_context.clone().unwrap_or_default();
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces()),
        run_as_user: pod.run_as_user.map(int64),
        run_as_group: pod.run_as_group.map(int64),
        supplemental_groups: supplemental_groups(spec),
        // The kubelet gives every sandbox the runtime's profile, whatever the
        // pod says.
        seccomp: Some(runtime_default()),
        ..LinuxSandboxSecurityContext::default()
    }
}

pub(super) fn of_container(
    spec: &PodSpec,
    container: &Container,
) -> Result<LinuxContainerSecurityContext, NodeError> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod.run_as_user);
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) && user == Some(0) {
        return Err(NodeError::Root);
    }
    if own.proc_mount.is_some() {
        return Err(NodeError::Unsupported {
            field: "securityContext.procMount".to_owned(),
        });
    }
    let privileged = own.privileged == Some(true);
    let seccomp = own
        .seccomp_profile
        .as_ref()
        .or(pod.seccomp_profile.as_ref());
    Ok(LinuxContainerSecurityContext {
        capabilities: own.capabilities.map(|capabilities| Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            ..Capability::default()
        }),
        privileged,
        namespace_options: Some(namespaces()),
        run_as_user: user.map(int64),
        run_as_group: own.run_as_group.or(pod.run_as_group).map(int64),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental_groups(spec),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        seccomp: Some(seccomp_profile(seccomp)?),
        ..LinuxContainerSecurityContext::default()
    })
}

fn int64(value: i64) -> Int64Value {
    Int64Value { value }
}

fn supplemental_groups(spec: &PodSpec) -> Vec<i64> {
    let Some(pod) = &spec.security_context else {
        return vec![];
    };
    let mut groups = pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(pod.fs_group);
    groups
}

fn runtime_default() -> SecurityProfile {
    SecurityProfile {
        profile_type: ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    }
}

fn seccomp_profile(profile: Option<&SeccompProfile>) -> Result<SecurityProfile, NodeError> {
    let profile_type = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => ProfileType::RuntimeDefault,
        None | Some("Unconfined") => ProfileType::Unconfined,
        Some(other) => {
            let field = format!("seccompProfile.type: {other}");
            return Err(NodeError::Unsupported { field });
        }
    };
    Ok(SecurityProfile {
        profile_type: profile_type.into(),
        localhost_ref: String::new(),
    })
}
