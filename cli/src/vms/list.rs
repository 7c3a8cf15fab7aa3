//! `coracle ps`.

use std::fmt::Write as _;

use coracle_api::names::exit;
use serde::Serialize;

use super::Vms;
use crate::console;
use crate::failure::{Classify, Failure};
use crate::record::{self, Found, Owner, VmId};

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    vm: VmId,
    status: String,
    ip: Option<String>,
    sandbox_id: Option<String>,
    container_id: Option<String>,
    devices: Vec<String>,
    volumes: Vec<String>,
    detached: bool,
}

impl Vms<'_> {
    /// `coracle ps`.
    pub async fn ps(&self, json: bool) -> Result<u8, Failure> {
        let mut lines = Vec::new();
        for found in record::all(self.paths).host()? {
            lines.push(self.line(&found).await);
        }
        let text = if json {
            format!("{}\n", serde_json::to_string_pretty(&lines).host()?)
        } else {
            table(&lines)
        };
        console::show(text.as_bytes());
        Ok(exit::OK)
    }

    async fn line(&self, found: &Found) -> Line {
        let status = match found.owner {
            // Asking the runtime would start it for nothing.
            Owner::Lost => "lost".to_owned(),
            Owner::Command | Owner::Detached => match self.state_of(found).await {
                Ok(state) => format!("{:?}", state.status).to_lowercase(),
                Err(error) => {
                    tracing::debug!(vm = %found.record.vm, error = format!("{error:#}"), "no state");
                    "unknown".to_owned()
                }
            },
        };
        let record = &found.record;
        Line {
            vm: record.vm.clone(),
            status,
            ip: record.report.pod_ip.clone(),
            sandbox_id: record.report.sandbox_id.clone(),
            container_id: record.report.container_id.clone(),
            devices: record
                .devices
                .iter()
                .flat_map(|held| held.ids.clone())
                .collect(),
            volumes: record
                .claims
                .iter()
                .map(|use_| format!("{}={}", use_.claim, use_.path.display()))
                .collect(),
            detached: record.detached,
        }
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut row = |cells: [&str; 5]| {
        let [vm, status, ip, devices, volumes] = cells;
        let _ = writeln!(
            text,
            "{}",
            format!("{vm:<24} {status:<9} {ip:<15} {devices:<10} {volumes}").trim_end()
        );
    };
    row(["VM", "STATUS", "IP", "DEVICES", "VOLUMES"]);
    for line in lines {
        row([
            &line.vm.to_string(),
            &line.status,
            line.ip.as_deref().unwrap_or("-"),
            &dash(&line.devices),
            &dash(&line.volumes),
        ]);
    }
    text
}

fn dash(items: &[String]) -> String {
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join(",")
    }
}
