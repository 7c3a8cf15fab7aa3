//! The kinds of object a manifest may hold, and the schema of each.

use coracle_api::names::{GROUP, VERSION};
use coracle_api::vm::VirtualMachine;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    VirtualMachine,
    PersistentVolumeClaim,
    Secret,
    ConfigMap,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [
        Self::VirtualMachine,
        Self::PersistentVolumeClaim,
        Self::Secret,
        Self::ConfigMap,
    ];

    /// As `kind:` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::VirtualMachine => "VirtualMachine",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The only version that is read.
    pub(super) fn api_version(self) -> String {
        match self {
            Self::VirtualMachine => format!("{GROUP}/{VERSION}"),
            Self::PersistentVolumeClaim | Self::Secret | Self::ConfigMap => "v1".into(),
        }
    }

    /// What a document of the kind may say.
    pub(super) fn schema(self) -> Json {
        let mut schema = match self {
            Self::VirtualMachine => vm_schema(),
            Self::PersistentVolumeClaim => claim_schema(),
            Self::Secret => schema_of::<Secret>(),
            Self::ConfigMap => schema_of::<ConfigMap>(),
        };
        open_managed_fields(&mut schema["properties"]["metadata"]);
        schema
    }
}

fn schema_of<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Who manages a field is written as a tree of field names, of any shape.
fn open_managed_fields(metadata: &mut Json) {
    let entry = &mut metadata["properties"]["managedFields"]["items"];
    entry["properties"]["fieldsV1"]["x-kubernetes-preserve-unknown-fields"] = json!(true);
}

/// The definition's own schema. It leaves the metadata to the API server.
fn vm_schema() -> Json {
    let crd = VirtualMachine::crd();
    let version = crd.spec.versions.into_iter().next();
    let schema = version.and_then(|version| version.schema?.open_api_v3_schema);
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    schema["required"] = json!(["metadata", "spec"]);
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = schema_of::<ObjectMeta>();
    schema
}

/// Kubernetes checks these two enums in code and not by the schema.
fn claim_schema() -> Json {
    let mut schema = schema_of::<PersistentVolumeClaim>();
    let spec = &mut schema["properties"]["spec"]["properties"];
    spec["volumeMode"]["enum"] = json!(["Block", "Filesystem"]);
    spec["accessModes"]["items"]["enum"] = json!([
        "ReadWriteOnce",
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOncePod"
    ]);
    schema
}
