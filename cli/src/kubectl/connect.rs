//! From kubectl's flags to a client of the API server.

use coracle_api::vm::VirtualMachine;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config, Resource};

use super::args::Global;
use super::error::{Doing, PluginError, VMS};

/// A cluster and the namespace that is meant.
#[derive(Clone)]
pub(super) struct Cluster {
    /// The client.
    pub(super) client: Client,
    /// The namespace.
    pub(super) namespace: String,
}

/// How long an answer may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// A request is answered soon.
    Brief,
    /// A guest may say nothing for hours.
    Endless,
}

impl Cluster {
    /// The cluster of the flags.
    ///
    /// # Errors
    /// When the kubeconfig does not lead to one. Nothing is asked of it yet.
    pub(super) async fn new(global: &Global, silence: Silence) -> Result<Self, PluginError> {
        let mut config = config(global).await?;
        if silence == Silence::Endless {
            config.read_timeout = None;
        }
        let namespace = global.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|source| PluginError::Unreachable {
            source: Box::new(source),
        })?;
        Ok(Self { client, namespace })
    }

    /// The VMs of the namespace.
    pub(super) fn vms(&self) -> Api<VirtualMachine> {
        self.api()
    }

    /// The pods of the namespace.
    pub(super) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// What is in the namespace, of one kind.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A VM as it is.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) async fn vm(&self, name: &str) -> Result<VirtualMachine, PluginError> {
        let doing = Doing::new("get", VMS).within(&self.namespace).on(name);
        let found = self.vms().get(name).await;
        found.map_err(|error| doing.failed(error))
    }
}

async fn config(global: &Global) -> Result<Config, PluginError> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(file) = &global.kubeconfig {
        let read = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
        let config = Config::from_custom_kubeconfig(read, &options).await;
        return config.map_err(|error| unusable(&error));
    }
    match (Config::from_kubeconfig(&options).await, &global.context) {
        (Ok(config), _) => Ok(config),
        // In a pod there may be no file, but a service account.
        (Err(error), None) => Config::incluster().map_err(|_| unusable(&error)),
        (Err(error), Some(_)) => Err(unusable(&error)),
    }
}

fn unusable(error: &KubeconfigError) -> PluginError {
    PluginError::said(match error {
        KubeconfigError::ReadConfig(cause, file)
            if cause.kind() == std::io::ErrorKind::NotFound =>
        {
            format!(
                "there is no kubeconfig {}: name one with --kubeconfig or in KUBECONFIG",
                file.display()
            )
        }
        KubeconfigError::ReadConfig(cause, file) => {
            format!("kubeconfig {} cannot be read: {cause}", file.display())
        }
        KubeconfigError::CurrentContextNotSet => {
            "the kubeconfig has no current context: choose one with --context, or kubectl config \
             use-context"
                .to_owned()
        }
        KubeconfigError::LoadContext(name) => {
            format!(
                "the kubeconfig has no context {name:?}: kubectl config get-contexts lists them"
            )
        }
        other => format!("the kubeconfig cannot be used: {other}"),
    })
}
