//! `kubectl coracle create`: a manifest from flags, checked as `validate`
//! checks it, printed or applied.

use std::path::Path;

use clap::Args;
use coracle_api::names::{GROUP, VERSION};
use coracle_api::types::Accelerator;
use coracle_api::vm::{RunPolicy, VirtualMachine};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::args::Global;
use super::connect::Cluster;
use super::error::{Doing, PluginError, VMS};
use crate::console::show;
use crate::manifest::{Source, server};
use crate::progress::say;

mod disk;

use disk::DiskArg;

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the VM.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Virtual CPUs.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub cpus: u32,
    /// The guest's memory, as 2Gi.
    #[arg(long, value_name = "SIZE")]
    pub memory: String,
    /// A disk, as root=claim:web-root, root=image:registry.example/vm:1,
    /// scratch=ephemeral:10Gi, seed=cloud-init:user-data.yaml (a file) or
    /// seed=secret:web-seed; fields
    /// of the disk may follow: root=claim:web-root,bus=Scsi,readOnly=true.
    /// Repeatable, in the order that the guest sees.
    #[arg(long = "disk", value_name = "NAME=SOURCE")]
    pub disks: Vec<DiskArg>,
    /// A Linux kernel to boot directly, as CLAIM:PATH.
    #[arg(long, value_name = "CLAIM:PATH")]
    pub kernel: Option<String>,
    /// The kernel's initial ram disk, a path in the same claim.
    #[arg(long, value_name = "PATH", requires = "kernel")]
    pub initrd: Option<String>,
    /// The kernel's command line.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    pub cmdline: Option<String>,
    /// Kvm or Emulation [default: Kvm].
    #[arg(long, value_name = "KIND")]
    pub accelerator: Option<String>,
    /// When it runs: `Always`, `OnFailure`, `Once` or `Halted` [default: `Always`].
    #[arg(long, value_name = "POLICY")]
    pub run_policy: Option<String>,
    /// A network card with binding Slirp, by its name. Repeatable.
    #[arg(long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Send it to the API server instead of printing it.
    #[arg(long)]
    pub apply: bool,
}

/// Prints the manifest.
pub(super) fn print(args: &CreateArgs, global: &Global) -> Result<(), PluginError> {
    let manifest = manifest(args, global.namespace.as_deref())?;
    show(yaml(&manifest).as_bytes());
    Ok(())
}

/// Applies it: server-side, with a field manager of its own.
pub(super) async fn apply(cluster: &Cluster, args: &CreateArgs) -> Result<(), PluginError> {
    let manifest = manifest(args, Some(&cluster.namespace))?;
    let doing = Doing::new("patch", VMS)
        .within(&cluster.namespace)
        .on(&args.name);
    let api: Api<VirtualMachine> = cluster.vms();
    let before = api
        .get_opt(&args.name)
        .await
        .map_err(|error| doing.failed(error))?;
    let parameters = PatchParams::apply(super::MANAGER);
    let applied = api
        .patch(&args.name, &parameters, &Patch::Apply(&manifest))
        .await;
    let after = applied.map_err(|error| doing.failed(error))?;
    let what = match before {
        None => "created",
        Some(before) if before.metadata.generation == after.metadata.generation => "unchanged",
        Some(_) => "configured",
    };
    say(&format!("{}: {what}", args.name));
    Ok(())
}

fn yaml(manifest: &Value) -> String {
    serde_yaml_ng::to_string(manifest).unwrap_or_default()
}

/// The manifest, which the API server would take.
fn manifest(args: &CreateArgs, namespace: Option<&str>) -> Result<Value, PluginError> {
    let mut metadata = json!({"name": args.name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let manifest = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": spec(args)?,
    });
    let source = Source {
        name: "create".to_owned(),
        text: yaml(&manifest),
    };
    let checked = server::check(&[source]);
    if checked.problems.is_empty() {
        return Ok(manifest);
    }
    let problems = checked.problems.iter();
    let lines: Vec<String> = problems.map(|problem| problem.message.clone()).collect();
    Err(PluginError::said(lines.join("\n")))
}

fn spec(args: &CreateArgs) -> Result<Value, PluginError> {
    let mut spec = Map::new();
    if let Some(policy) = &args.run_policy {
        let all = [
            RunPolicy::Always,
            RunPolicy::OnFailure,
            RunPolicy::Once,
            RunPolicy::Halted,
        ];
        spec.insert("runPolicy".to_owned(), spelled(policy, &all));
    }
    if let Some(kind) = &args.accelerator {
        let all = [Accelerator::Kvm, Accelerator::Emulation];
        spec.insert("accelerator".to_owned(), spelled(kind, &all));
    }
    spec.insert("cpus".to_owned(), json!(args.cpus));
    spec.insert("memory".to_owned(), json!(args.memory));
    if let Some(kernel) = &args.kernel {
        spec.insert(
            "firmware".to_owned(),
            json!({"kernel": kernel_of(args, kernel)?}),
        );
    }
    let disks: Result<Vec<Value>, PluginError> = args.disks.iter().map(DiskArg::field).collect();
    let disks = disks?;
    if !disks.is_empty() {
        spec.insert("disks".to_owned(), disks.into());
    }
    let cards = args.interfaces.iter();
    let cards: Vec<Value> = cards
        .map(|name| json!({"name": name, "binding": "Slirp"}))
        .collect();
    if !cards.is_empty() {
        spec.insert("interfaces".to_owned(), cards.into());
    }
    Ok(spec.into())
}

/// An enum's value, in whatever case it was written; what is none is left for
/// the check to refuse.
fn spelled(written: &str, all: &[impl std::fmt::Debug]) -> Value {
    let mut names = all.iter().map(|value| format!("{value:?}"));
    let found = names.find(|name| name.eq_ignore_ascii_case(written));
    json!(found.unwrap_or_else(|| written.to_owned()))
}

fn kernel_of(args: &CreateArgs, kernel: &str) -> Result<Value, PluginError> {
    let (claim, path) = kernel.split_once(':').ok_or_else(|| {
        PluginError::said(format!(
            "--kernel {kernel}: write CLAIM:PATH, as boot:vmlinuz"
        ))
    })?;
    let mut field = json!({"claim": {"name": claim}, "path": path});
    if let Some(initrd) = &args.initrd {
        field["initrd"] = json!(initrd);
    }
    if let Some(cmdline) = &args.cmdline {
        field["cmdline"] = json!(cmdline);
    }
    Ok(field)
}

/// A file that a flag names.
fn read(path: &Path) -> Result<String, PluginError> {
    std::fs::read_to_string(path)
        .map_err(|error| PluginError::said(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
