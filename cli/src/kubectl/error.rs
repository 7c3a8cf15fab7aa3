//! What went wrong between us and the API server, in one sentence that says
//! how to mend it.

use kube::core::Status;

/// What was being done, for the message.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    verb: &'static str,
    resource: &'static str,
    namespace: Option<String>,
    name: Option<String>,
}

/// The resource of our own.
pub(super) const VMS: &str = "virtualmachines.coracle.dev";

impl Doing {
    /// A verb of the API on a resource.
    pub(super) fn new(verb: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            resource,
            namespace: None,
            name: None,
        }
    }

    /// In this namespace.
    pub(super) fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// On this object.
    pub(super) fn on(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The error as it is told.
    pub(super) fn failed(&self, error: kube::Error) -> PluginError {
        match error {
            kube::Error::Api(status) => self.answered(&status),
            kube::Error::UpgradeConnection(refused) => self.upgrade(&refused.to_string()),
            source => PluginError::Unreachable {
                source: Box::new(source),
            },
        }
    }

    fn answered(&self, status: &Status) -> PluginError {
        match status.code {
            404 if !self.knows_kind(status) => PluginError::NotInstalled,
            404 => self.not_found(),
            403 => PluginError::Forbidden {
                what: self.what(),
                said: status.message.clone(),
            },
            401 => PluginError::Unauthorized,
            _ => PluginError::Refused {
                what: self.what(),
                said: status.message.clone(),
            },
        }
    }

    /// The answer to an exec that was not let through comes without a body.
    fn upgrade(&self, said: &str) -> PluginError {
        let said = said.to_owned();
        if said.contains("403") {
            return PluginError::Forbidden {
                what: self.what(),
                said,
            };
        }
        if said.contains("404") {
            return self.not_found();
        }
        PluginError::Refused {
            what: self.what(),
            said,
        }
    }

    /// A server that does not know the kind at all answers 404 without saying
    /// which object is missing.
    fn knows_kind(&self, status: &Status) -> bool {
        self.resource != VMS
            || status
                .details
                .as_ref()
                .is_some_and(|details| !details.name.is_empty())
    }

    fn not_found(&self) -> PluginError {
        PluginError::NotFound {
            resource: singular(self.resource),
            name: self.name.clone().unwrap_or_default(),
            namespace: self.namespace.clone().unwrap_or_default(),
        }
    }

    fn what(&self) -> String {
        let name = self.name.as_deref().map(|name| format!(" {name:?}"));
        let namespace = match &self.namespace {
            Some(namespace) => format!("in namespace {namespace:?}"),
            None => "in all namespaces".to_owned(),
        };
        format!(
            "{} {}{} {namespace}",
            self.verb,
            self.resource,
            name.unwrap_or_default()
        )
    }
}

fn singular(resource: &str) -> &'static str {
    match resource {
        VMS => "VirtualMachine",
        "persistentvolumeclaims" => "PersistentVolumeClaim",
        _ => "pod",
    }
}

/// Why a command of the plugin failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PluginError {
    /// The custom resource is not there.
    #[error(
        "this cluster does not know virtualmachines.coracle.dev: install Coracle with kubectl \
         apply -k deploy"
    )]
    NotInstalled,
    /// No such object.
    #[error(
        "there is no {resource} {name:?} in namespace {namespace:?}: kubectl coracle list -A shows \
         all VMs"
    )]
    NotFound {
        /// Its kind.
        resource: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The user may not.
    #[error(
        "you may not {what}: have a Role with this verb bound to you (the API server says: {said})"
    )]
    Forbidden {
        /// The verb, the resource, the object.
        what: String,
        /// The server's words.
        said: String,
    },
    /// The server does not know the user.
    #[error(
        "the API server does not accept the credentials of the kubeconfig: renew them, or choose \
         another context with --context"
    )]
    Unauthorized,
    /// The server answered otherwise.
    #[error("the API server refused to {what}: {said}")]
    Refused {
        /// The verb, the resource, the object.
        what: String,
        /// The server's words.
        said: String,
    },
    /// No answer.
    #[error("the API server cannot be asked: see --kubeconfig and --context")]
    Unreachable {
        /// Why.
        source: Box<kube::Error>,
    },
    /// Said in full already.
    #[error("{said}")]
    Said {
        /// The sentence.
        said: String,
    },
}

impl PluginError {
    /// An error that is one sentence.
    pub(super) fn said(said: impl Into<String>) -> Self {
        Self::Said { said: said.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(doing: &Doing, status: &Status) -> String {
        doing.answered(status).to_string()
    }

    #[test]
    fn each_answer_says_how_to_mend_it() {
        let doing = Doing::new("get", VMS).within("shop").on("web");
        let missing = Status::failure(
            "the server could not find the requested resource",
            "NotFound",
        )
        .with_code(404);
        let text = told(&doing, &missing);
        assert!(text.contains("kubectl apply -k deploy"), "{text}");

        let named: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found",
            "details": {"name": "web", "kind": "virtualmachines"},
        }))
        .expect("a status");
        let text = told(&doing, &named);
        assert!(
            text.contains("no VirtualMachine \"web\" in namespace \"shop\""),
            "{text}"
        );

        let denied = Status::failure("no RBAC policy matched", "Forbidden").with_code(403);
        let text = told(&doing, &denied);
        assert!(
            text.starts_with(
                "you may not get virtualmachines.coracle.dev \"web\" in namespace \"shop\""
            ),
            "{text}"
        );
        let stranger = Status::failure("Unauthorized", "Unauthorized").with_code(401);
        assert!(told(&doing, &stranger).contains("credentials"));
    }
}
