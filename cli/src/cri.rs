//! What we ask of a container runtime: a thin, typed layer over CRI v1
//! (`runtime.v1`, `RuntimeService` and `ImageService`).
//!
//! Decides nothing. The connection is made when it is needed and made again
//! after the runtime was restarted.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    self, ContainerConfig, ContainerFilter, ContainerState, ContainerStatus, ImageSpec,
    PodSandboxConfig, PodSandboxFilter, PodSandboxStatus,
};
use tonic::transport::{Channel, Endpoint};

/// Label that the kubelet puts on every sandbox and container.
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";

/// A call that the runtime refused or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the container runtime could not {action}: {message}")]
pub struct CriError {
    /// What was asked.
    pub action: &'static str,
    /// What it said.
    pub message: String,
    /// The kind of refusal.
    pub code: tonic::Code,
}

impl CriError {
    fn of(action: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |status| {
            let mut message = status.message().to_owned();
            // A transport error hides what happened in its sources.
            let mut source = std::error::Error::source(&status);
            while let Some(error) = source {
                let text = error.to_string();
                if !message.contains(&text) {
                    message = format!("{message}: {text}");
                }
                source = error.source();
            }
            Self {
                action,
                message,
                code: status.code(),
            }
        }
    }

    /// Whether the runtime was not reached, as opposed to having refused.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self.code, tonic::Code::Unavailable | tonic::Code::Unknown)
            && (self.message.contains("transport") || self.message.contains("tcp connect"))
            || self.code == tonic::Code::Unavailable
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == tonic::Code::NotFound
    }
}

/// Makes a call. It comes boxed because tonic's futures are tens of kilobytes.
async fn call<T>(
    action: &'static str,
    future: Pin<Box<impl Future<Output = Result<tonic::Response<T>, tonic::Status>>>>,
) -> Result<T, CriError> {
    let answer = future.await.map_err(CriError::of(action))?;
    Ok(answer.into_inner())
}

/// The runtime's name and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `containerd`.
    pub name: String,
    /// Such as `1.6.20~ds1`.
    pub version: String,
}

/// A container that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// The runtime's word for it: `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
}

/// A container runtime.
#[derive(Clone, Debug)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// The runtime behind a socket. Nothing is sent yet.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .expect("an absolute path makes a URI")
            .connect_timeout(Duration::from_secs(5))
            .connect_lazy();
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
        }
    }

    /// Who answers.
    pub async fn version(&self) -> Result<Version, CriError> {
        let request = v1::VersionRequest {
            version: "v1".to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = call("say its version", Box::pin(client.version(request))).await?;
        Ok(Version {
            name: answer.runtime_name,
            version: answer.runtime_version,
        })
    }

    /// The id (the digest of the configuration) of an image that is there.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>, CriError> {
        let image = Some(ImageSpec {
            image: reference.to_owned(),
            ..ImageSpec::default()
        });
        let request = v1::ImageStatusRequest {
            image,
            verbose: false,
        };
        let mut client = self.images.clone();
        let answer = call("look up an image", Box::pin(client.image_status(request))).await?;
        Ok(answer.image.map(|image| image.id))
    }

    /// Makes a pod sandbox.
    ///
    /// # Cancellation
    /// The runtime takes back what it began; do not rely on when.
    pub async fn run_sandbox(&self, config: &PodSandboxConfig) -> Result<String, CriError> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let mut client = self.runtime.clone();
        let answer = call(
            "make the pod sandbox",
            Box::pin(client.run_pod_sandbox(request)),
        )
        .await?;
        Ok(answer.pod_sandbox_id)
    }

    /// The state of a pod sandbox.
    pub async fn sandbox(&self, id: &str) -> Result<PodSandboxStatus, CriError> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime.clone();
        let answer = call(
            "look at the pod sandbox",
            Box::pin(client.pod_sandbox_status(request)),
        )
        .await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// The pod sandboxes, all or those of one pod: id and the pod's uid.
    pub async fn sandboxes(&self, uid: Option<&str>) -> Result<Vec<(String, String)>, CriError> {
        let filter = uid.map(|uid| PodSandboxFilter {
            label_selector: HashMap::from([(LABEL_POD_UID.to_owned(), uid.to_owned())]),
            ..PodSandboxFilter::default()
        });
        let mut client = self.runtime.clone();
        let answer = call(
            "list the pod sandboxes",
            Box::pin(client.list_pod_sandbox(v1::ListPodSandboxRequest { filter })),
        )
        .await?;
        let uid = |labels: &HashMap<String, String>| {
            labels.get(LABEL_POD_UID).cloned().unwrap_or_default()
        };
        Ok(answer
            .items
            .into_iter()
            .map(|s| (s.id, uid(&s.labels)))
            .collect())
    }

    /// Ends a pod sandbox with all that is in it and removes it. One that is
    /// gone already is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        let id = id.to_owned();
        let stop = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        let mut client = self.runtime.clone();
        let stopped = call(
            "stop the pod sandbox",
            Box::pin(client.stop_pod_sandbox(stop)),
        )
        .await;
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: id };
        let mut client = self.runtime.clone();
        let removed = call(
            "remove the pod sandbox",
            Box::pin(client.remove_pod_sandbox(remove)),
        )
        .await;
        match (stopped, removed) {
            (_, Ok(_)) => Ok(()),
            (_, Err(error)) if error.is_not_found() => Ok(()),
            (Err(error), Err(_)) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// Makes a container in a pod sandbox.
    pub async fn create(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String, CriError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let mut client = self.runtime.clone();
        let answer = call(
            "create the container",
            Box::pin(client.create_container(request)),
        )
        .await?;
        Ok(answer.container_id)
    }

    /// Starts a container.
    pub async fn start(&self, container: &str) -> Result<(), CriError> {
        let request = v1::StartContainerRequest {
            container_id: container.to_owned(),
        };
        let mut client = self.runtime.clone();
        call(
            "start the container",
            Box::pin(client.start_container(request)),
        )
        .await?;
        Ok(())
    }

    /// Asks a container to end, and ends it after a while. Returns when it
    /// has ended.
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), CriError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = v1::StopContainerRequest {
            container_id: container.to_owned(),
            timeout,
        };
        let mut client = self.runtime.clone();
        call(
            "stop the container",
            Box::pin(client.stop_container(request)),
        )
        .await?;
        Ok(())
    }

    /// The state of a container.
    pub async fn container(&self, id: &str) -> Result<ContainerStatus, CriError> {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime.clone();
        let answer = call(
            "look at the container",
            Box::pin(client.container_status(request)),
        )
        .await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// How a container ended, when it has.
    pub async fn exit(&self, id: &str) -> Result<Option<Exit>, CriError> {
        let status = self.container(id).await?;
        Ok(
            (status.state() == ContainerState::ContainerExited).then(|| Exit {
                code: status.exit_code,
                reason: status.reason.clone(),
            }),
        )
    }

    /// The ids of the containers in a pod sandbox.
    pub async fn containers(&self, sandbox: &str) -> Result<Vec<String>, CriError> {
        let filter = ContainerFilter {
            pod_sandbox_id: sandbox.to_owned(),
            ..ContainerFilter::default()
        };
        let request = v1::ListContainersRequest {
            filter: Some(filter),
        };
        let mut client = self.runtime.clone();
        let answer = call(
            "list the containers",
            Box::pin(client.list_containers(request)),
        )
        .await?;
        Ok(answer
            .containers
            .into_iter()
            .map(|container| container.id)
            .collect())
    }
}
