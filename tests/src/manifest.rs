//! Manifests for `coracle run`: a VM and the claims it uses. JSON is YAML, so
//! they are built as values; what must be wrong in a test is set wrong.

use serde_json::{Value, json};

/// A VM and its claims, as the documents of one file.
#[derive(Clone, Debug)]
pub struct Manifest {
    vm: Value,
    others: Vec<Value>,
}

/// A VM without disks: emulation, one CPU, 64 MiB, run once.
#[must_use]
pub fn vm(name: &str) -> Manifest {
    let vm = json!({
        "apiVersion": "coracle.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {
            "runPolicy": "Once",
            "accelerator": "Emulation",
            "memory": "64Mi",
            "disks": [],
        },
    });
    Manifest {
        vm,
        others: Vec::new(),
    }
}

/// A disk: its name and what is said of it.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "it is called with json!(…)")]
pub fn disk(name: &str, fields: Value) -> Value {
    let mut disk = json!({ "name": name });
    merge(&mut disk, &fields);
    disk
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.clone());
    }
}

impl Manifest {
    /// Adds a disk.
    #[must_use]
    pub fn with_disk(mut self, disk: Value) -> Self {
        if let Some(disks) = self.vm["spec"]["disks"].as_array_mut() {
            disks.push(disk);
        }
        self
    }

    /// Adds a disk that boots from a raw block claim of its own name, and the
    /// claim.
    #[must_use]
    pub fn boots_from(self, claim: &str) -> Self {
        let fields = json!({"bootOrder": 1, "claim": {"name": claim}});
        self.with_disk(disk(claim, fields))
            .with_claim(claim, "Block", "1Mi")
    }

    /// Adds a claim.
    #[must_use]
    pub fn with_claim(self, name: &str, mode: &str, size: &str) -> Self {
        self.with_document(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "volumeMode": mode,
                "resources": {"requests": {"storage": size}},
            },
        }))
    }

    /// Adds any other document.
    #[must_use]
    pub fn with_document(mut self, document: Value) -> Self {
        self.others.push(document);
        self
    }

    /// Sets a field of the VM's spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.vm["spec"][field] = value.into();
        self
    }

    /// The VM's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.vm["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        let documents = std::iter::once(&self.vm).chain(&self.others);
        let texts: Vec<String> = documents
            .map(|document| format!("{document:#}\n"))
            .collect();
        texts.join("---\n")
    }
}
