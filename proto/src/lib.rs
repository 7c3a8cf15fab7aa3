//! The kubelet's protocols for plugins, wire-exact with Kubernetes 1.37:
//! device plugin `v1beta1`, plugin registration `v1`, pod-resources `v1`; and
//! the messages of container runtimes' Node Resource Interface `v1alpha1`.
//!
//! Only generated code and the protocols' constants live here, client and
//! server side of each. The `.proto` files are this crate's own: their field
//! numbers, package and method names are the kubelet's, the field names and
//! comments are not. No logic, and nothing else of Coracle, belongs here.

/// Device plugin protocol `v1beta1`.
pub mod deviceplugin {
    // Generated code is not held to the workspace's lints.
    #![allow(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::or_fun_call,
        reason = "generated from proto/deviceplugin_v1beta1.proto"
    )]

    tonic::include_proto!("v1beta1");

    /// The version a plugin names when it registers.
    pub const VERSION: &str = "v1beta1";
    /// A device that can be given out.
    pub const HEALTHY: &str = "Healthy";
    /// A device that is there and cannot be given out.
    pub const UNHEALTHY: &str = "Unhealthy";
    /// The kubelet's directory for sockets, whatever its `--root-dir` is.
    pub const DIRECTORY: &str = "/var/lib/kubelet/device-plugins";
    /// File name of the kubelet's socket in [`DIRECTORY`].
    pub const KUBELET_SOCKET: &str = "kubelet.sock";
    /// The longest device ID, in characters.
    pub const DEVICE_ID_MAX: usize = 63;
}

/// Plugin registration protocol `v1` (the kubelet's plugin watcher).
pub mod pluginregistration {
    #![allow(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::or_fun_call,
        reason = "generated from proto/pluginregistration_v1.proto"
    )]

    tonic::include_proto!("pluginregistration");

    /// [`PluginInfo::type`](PluginInfo) of a device plugin.
    pub const DEVICE_PLUGIN: &str = "DevicePlugin";
}

/// Pod-resources protocol `v1`.
pub mod podresources {
    #![allow(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::or_fun_call,
        reason = "generated from proto/podresources_v1.proto"
    )]

    tonic::include_proto!("v1");

    /// The kubelet's socket for this protocol.
    pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
}

/// Node Resource Interface `v1alpha1`: its messages, as far as a plugin needs
/// them that adjusts containers at their creation.
pub mod nri {
    #![allow(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::or_fun_call,
        reason = "generated from proto/nri_v1alpha1.proto"
    )]

    tonic::include_proto!("nri.pkg.api.v1alpha1");

    /// The service in the runtime.
    pub const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
    /// The service in the plugin.
    pub const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";
    /// The runtime's socket, by default.
    pub const SOCKET: &str = "/var/run/nri/nri.sock";
}

/// The messages of ttrpc, in which the Node Resource Interface's are carried.
pub mod ttrpc {
    #![allow(
        missing_docs,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::or_fun_call,
        reason = "generated from proto/ttrpc.proto"
    )]

    tonic::include_proto!("ttrpc");
}
