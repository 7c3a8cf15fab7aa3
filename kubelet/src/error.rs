//! What can go wrong on the kubelet's side, and what a plugin is told of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the kubelet's side failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeletError {
    /// The directory cannot be made, read or cleaned.
    #[error("failed to prepare the plugin directory {}", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The registration socket cannot be made.
    #[error("failed to listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No plugin ever registered the resource.
    #[error("no device plugin has registered {resource}")]
    UnknownResource {
        /// The resource.
        resource: String,
    },
    /// The plugin is not there any more.
    #[error("the device plugin of {resource} is gone")]
    Disconnected {
        /// The resource.
        resource: String,
    },
    /// Fewer devices are free than were asked for.
    #[error("{resource}: {wanted} wanted, {free} free ({unhealthy} unhealthy, {held} in use)")]
    NotEnough {
        /// The resource.
        resource: String,
        /// How many were asked for.
        wanted: usize,
        /// How many are healthy and not in use.
        free: usize,
        /// How many are unhealthy.
        unhealthy: usize,
        /// How many are in use.
        held: usize,
    },
    /// The plugin cannot be dialled.
    #[error("failed to dial the plugin of {resource} on {}", path.display())]
    Dial {
        /// The resource.
        resource: String,
        /// The plugin's socket.
        path: PathBuf,
        /// The cause.
        source: tonic::transport::Error,
    },
    /// The plugin answered a call with an error.
    #[error("{call} of {resource} failed: {}", source.message())]
    Call {
        /// The resource.
        resource: String,
        /// The method.
        call: &'static str,
        /// What the plugin said.
        source: Box<tonic::Status>,
    },
    /// The plugin did not answer in time.
    #[error("{call} of {resource} was not answered within {} s", limit.as_secs())]
    Unanswered {
        /// The resource.
        resource: String,
        /// The method.
        call: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The plugin answered an allocation without saying anything.
    #[error("the plugin of {resource} answered Allocate for no container")]
    EmptyAnswer {
        /// The resource.
        resource: String,
    },
    /// A state that was waited for did not come.
    #[error("{resource} did not get there within {} ms: {seen}", limit.as_millis())]
    Timeout {
        /// The resource.
        resource: String,
        /// How long was waited.
        limit: Duration,
        /// What there was instead.
        seen: String,
    },
    /// A plugin speaks another version.
    #[error("version {version:?} is not spoken here, only v1beta1")]
    Version {
        /// What it named.
        version: String,
    },
    /// A plugin's resource is not an extended resource's name.
    #[error(
        "{resource:?} is not the name of an extended resource (domain/name, not of kubernetes.io)"
    )]
    ResourceName {
        /// What it named.
        resource: String,
    },
    /// A plugin's socket is not a file name.
    #[error("endpoint {endpoint:?} is not a file name in the plugin directory")]
    EndpointName {
        /// What it named.
        endpoint: String,
    },
    /// The options of a plugin cannot be had because a fault says so.
    #[error("failed to get device plugin options of {resource}")]
    Options {
        /// The resource.
        resource: String,
    },
    /// A registration was refused because a fault says so.
    #[error("registration of {resource} refused")]
    Refused {
        /// The resource.
        resource: String,
    },
}

impl From<KubeletError> for tonic::Status {
    fn from(error: KubeletError) -> Self {
        let code = match &error {
            KubeletError::Version { .. }
            | KubeletError::ResourceName { .. }
            | KubeletError::EndpointName { .. } => tonic::Code::InvalidArgument,
            KubeletError::Refused { .. } => tonic::Code::Unavailable,
            _ => tonic::Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}
