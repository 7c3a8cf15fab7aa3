//! How often the controller writes, by the API server's own record.

use std::fs;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, ensure};
use coracle_e2e::{BlockVolume, Cluster, Component, Machine, Namespace, Node, until, vm_object};
use serde_json::{Value, json};

/// The most writes from a VM's object to its running guest, the event that
/// tells of it left out.
const MOST: usize = 3;
const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// The record of what the controller asked for, from some point on.
struct Record {
    file: fs::File,
    from: u64,
}

impl Record {
    fn from_now(node: &Node) -> anyhow::Result<Self> {
        let path = node.dir().join("logs/audit.log");
        let mut file = fs::File::open(&path).with_context(|| path.display().to_string())?;
        let from = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, from })
    }

    /// The writes so far: verb, resource and namespace of each.
    fn writes(&mut self) -> anyhow::Result<Vec<(String, String, String)>> {
        self.file.seek(SeekFrom::Start(self.from))?;
        let mut text = String::new();
        self.file.read_to_string(&mut text)?;
        let mut writes = Vec::new();
        // The last line may not have been written to its end.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let event: Value = serde_json::from_str(line)?;
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (verb, object) = (word(&event["verb"]), &event["objectRef"]);
            if !WRITES.contains(&verb.as_str()) || event["stage"] != "ResponseComplete" {
                continue;
            }
            let resource = match object["subresource"].as_str() {
                Some(sub) => format!("{}/{sub}", word(&object["resource"])),
                None => word(&object["resource"]),
            };
            writes.push((verb, resource, word(&object["namespace"])));
        }
        Ok(writes)
    }
}

/// What the controller says that it wrote, leases and events left out.
fn counted(metrics: &str) -> usize {
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("coracle_api_writes_total"));
    let values = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    values.sum()
}

#[tokio::test]
async fn from_object_to_running_guest_the_controller_writes_thrice_at_most() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    // One that counts from nothing, and that is not told how slow this machine
    // is: steps on the way to a guest are written only when they take long.
    node.stop(Component::Controller).await?;
    let mut record = Record::from_now(&node)?;
    let _patient = node.controller_arguments("--patience 600")?;
    node.start(Component::Controller).await?;

    let namespace = Namespace::new(&cluster).await?;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?;
    let here = |writes: Vec<(String, String, String)>| -> Vec<(String, String)> {
        let here = writes
            .into_iter()
            .filter(|(_, _, of)| *of == namespace.name);
        here.map(|(verb, resource, _)| (verb, resource)).collect()
    };
    // The status that says so has been answered, but may not be recorded yet;
    // the one before it had the pod's name.
    let status = ("patch".to_owned(), "virtualmachines/status".to_owned());
    let to_running = until("the status is recorded", async || {
        let writes = here(record.writes()?);
        let written = writes.iter().filter(|write| **write == status).count();
        Ok((written >= 2).then_some(writes))
    });
    let to_running = to_running.await?;
    // Records for people: one for each pod that is made, and best effort.
    let (events, to_running): (Vec<_>, Vec<_>) = to_running
        .into_iter()
        .partition(|(_, resource)| resource == "events");
    eprintln!("from object to running guest: {to_running:?}");
    ensure!(to_running.len() <= MOST, "{to_running:?}");
    ensure!(events.len() <= 1, "{events:?}");
    ensure!(
        to_running.contains(&("create".into(), "pods".into())),
        "{to_running:?}"
    );

    // And its own count, of everything since its start, is the server's.
    vm.delete(&pod).await?;
    until(
        "the controller has counted what the server has",
        async || {
            let metrics = node.controller_metrics().await?;
            let served = record.writes()?;
            let served = served
                .iter()
                .filter(|(_, resource, _)| !matches!(resource.as_str(), "leases" | "events"));
            Ok((counted(&metrics) == served.count()).then_some(()))
        },
    )
    .await
}
