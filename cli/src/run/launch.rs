//! From the plan to a running container: what the controller, the scheduler
//! and the kubelet do in a cluster, in their order.

mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::Options;
use super::plan::Plan;
use crate::console::Place;
use crate::containerd::{self, Containerd};
use crate::devices::{self, Grant, Manager, Request};
use crate::failure::{Classify, Failure};
use crate::images::{self, Had};
use crate::interrupt::Interrupts;
use crate::manifest::Manifests;
use crate::node::{self, Placement};
use crate::pod_volumes::{self, PodVolumes, Sources};
use crate::progress::Stages;
use crate::record::{self, Held, Slot};
use crate::teardown::Context;
use crate::volume::{self, Attached};

/// Name of the termination message's file in the VM's directory.
pub(super) const TERMINATION_LOG: &str = "termination-log";
/// Name of the hosts file in the VM's directory.
const ETC_HOSTS: &str = "etc-hosts";
/// Name of the log directory in the VM's directory.
pub(super) const LOGS: &str = "logs";
/// The pod's volume with the shim's sockets.
const RUN_VOLUME: &str = "run";

/// A VM that is being launched, and what must stay open for it.
pub(super) struct Launch<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) options: &'a Options,
    plan: &'a Plan,
    interrupts: &'a Interrupts,
    attached: BTreeMap<String, Attached>,
    volumes: Option<PodVolumes>,
}

/// A VM whose container has started.
pub(super) struct Launched {
    pub(super) containerd: Containerd,
    pub(super) container: String,
    pub(super) place: Place,
}

impl<'a> Launch<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        options: &'a Options,
        plan: &'a Plan,
        interrupts: &'a Interrupts,
    ) -> Self {
        Self {
            context,
            options,
            plan,
            interrupts,
            attached: BTreeMap::new(),
            volumes: None,
        }
    }

    /// Gives up what this process holds open; the record knows of it.
    pub(super) fn release(&mut self) {
        if let Some(volumes) = self.volumes.take() {
            volumes.release();
        }
        for attached in std::mem::take(&mut self.attached).into_values() {
            // The record has it already.
            let _ = attached.release();
        }
    }

    /// All stages, up to the started container.
    pub(super) async fn launch(
        &mut self,
        slot: &mut Slot,
        stages: &mut Stages,
    ) -> Result<Launched, Failure> {
        self.attach(slot, stages).await?;
        let pod = self.pod(slot, stages).await?;
        let mut manager = self.device_manager(&pod, slot).await?;
        let grants = self.allocate(manager.as_mut(), slot, stages).await?;
        let containerd = self.containerd(stages).await?;
        self.check_runtime(&containerd, &grants, slot).await?;
        self.images(&containerd, stages).await?;
        let placement = self.placement(slot, grants)?;
        let sandbox = self
            .sandbox(&containerd, &pod, &placement, slot, stages)
            .await?;
        let container = self
            .container(&containerd, &pod, &placement, &sandbox, slot, stages)
            .await?;
        if let Some((manager, _)) = manager {
            manager.finish().await;
            slot.update(|record| record.plugin = None).host()?;
        }
        let run_dir = placement
            .mounts
            .get(RUN_VOLUME)
            .cloned()
            .unwrap_or_default();
        let fifo_dir = slot.dir().join("fifo");
        let place = Place {
            containerd: containerd.socket.clone(),
            container: container.clone(),
            run_dir,
            fifo_dir,
        };
        Ok(Launched {
            containerd,
            container,
            place,
        })
    }

    async fn attach(&mut self, slot: &mut Slot, stages: &mut Stages) -> Result<(), Failure> {
        self.interrupts.check()?;
        let Manifests { vm, claims, .. } = &self.plan.manifests;
        let dir = slot.dir().join("nodes");
        let work = async { volume::attach_all(&self.options.volumes, vm, claims, &dir) };
        let note = |attached: &BTreeMap<String, Attached>| match attached.len() {
            0 => "no claims".to_owned(),
            _ => attached.keys().cloned().collect::<Vec<_>>().join(", "),
        };
        self.attached = match stages.run("volumes", "attaching", work, note).await {
            Err(error) if error.is_usage() => Err(error).config()?,
            attached => attached.host()?,
        };
        let records = self.attached.values().map(Attached::record).collect();
        slot.update(|record| record.volumes = records).host()
    }

    async fn pod(&mut self, slot: &mut Slot, stages: &mut Stages) -> Result<Pod, Failure> {
        let bound: BTreeMap<String, PersistentVolumeClaim> = self
            .attached
            .iter()
            .map(|(name, attached)| (name.clone(), attached.claim().clone()))
            .collect();
        let pod = self.plan.pod(&bound, |_| Vec::new()).config()?;
        let Manifests {
            secrets,
            config_maps,
            ..
        } = &self.plan.manifests;
        let places = slot.record().places();
        let sources = Sources::new(secrets, config_maps, &self.attached);
        let work = async { pod_volumes::realize(&pod, &places, &sources) };
        let name = pod.metadata.name.clone().unwrap_or_default();
        self.volumes = Some(
            stages
                .run("pod", "making its volumes", work, |_| name)
                .await
                .host()?,
        );
        let disks = self.disk_reports();
        slot.update(|record| {
            record.pod = Some(pod.clone());
            record.report.disks = disks;
        })
        .host()?;
        Ok(pod)
    }

    async fn device_manager(
        &self,
        pod: &Pod,
        slot: &mut Slot,
    ) -> Result<Option<(Manager, Request)>, Failure> {
        let wanted = node::requests(pod).config()?;
        if wanted.is_empty() {
            return Ok(None);
        }
        let others = record::all(self.context.paths).host()?;
        let held = others
            .into_iter()
            .filter(|found| found.record.vm != self.plan.vm);
        let request = Request {
            wanted,
            held: held.flat_map(|found| found.record.devices).collect(),
            program: self.options.device_plugin.clone(),
            level: self.options.level,
            log: slot.dir().join("device-plugin.log"),
        };
        let starting = Manager::start(self.context.paths, &request);
        let manager = self.interrupts.leave(starting).await?.host()?;
        slot.update(|record| record.plugin = manager.plugin())
            .host()?;
        Ok(Some((manager, request)))
    }

    async fn allocate(
        &self,
        manager: Option<&mut (Manager, Request)>,
        slot: &mut Slot,
        stages: &mut Stages,
    ) -> Result<Vec<Grant>, Failure> {
        let Some((manager, request)) = manager else {
            return Ok(Vec::new());
        };
        let work = async {
            self.interrupts
                .leave(manager.allocate(request))
                .await?
                .host()
        };
        let note = |grants: &Vec<Grant>| {
            let grants = grants
                .iter()
                .map(|g| format!("{} → {}", g.resource, g.ids.join(", ")));
            grants.collect::<Vec<_>>().join("; ")
        };
        let grants = stages
            .run("devices", "waiting for the device plugin", work, note)
            .await?;
        slot.update(|record| {
            let held = |grant: &Grant| Held {
                resource: grant.resource.clone(),
                ids: grant.ids.clone(),
            };
            record.devices = grants.iter().map(held).collect();
            record.report.devices = grants.iter().map(report::grant_report).collect();
        })
        .host()?;
        Ok(grants)
    }

    async fn containerd(&self, stages: &mut Stages) -> Result<Containerd, Failure> {
        let work = async {
            if let Some(socket) = &self.options.containerd {
                return self
                    .interrupts
                    .leave(containerd::existing(socket))
                    .await?
                    .host();
            }
            let lock = self
                .interrupts
                .leave(record::lock(self.context.paths))
                .await?
                .host()?;
            let ensure = containerd::ensure(self.context.paths, self.context.settings);
            let containerd = self.interrupts.leave(ensure).await?.host();
            drop(lock);
            containerd
        };
        let note = |containerd: &Containerd| {
            let how = if containerd.started {
                "started"
            } else {
                "there already"
            };
            format!("{how}, {}", containerd.socket.display())
        };
        stages.run("containerd", "starting", work, note).await
    }

    async fn check_runtime(
        &self,
        containerd: &Containerd,
        grants: &[Grant],
        slot: &mut Slot,
    ) -> Result<(), Failure> {
        let version = containerd.cri.version().await.host()?;
        devices::check_cdi(grants, &version).host()?;
        let runtime = format!("{} {}", version.name, version.version);
        slot.update(|record| record.report.runtime = Some(runtime))
            .host()
    }

    async fn images(&self, containerd: &Containerd, stages: &mut Stages) -> Result<(), Failure> {
        let work = async {
            let paths = self.context.paths;
            let mut had = Vec::new();
            // Whose containerd it is decides what its sandboxes are made from.
            let pause = Plan::pause_image(self.options, paths);
            let pause = self.options.containerd.is_none().then_some(pause);
            let vm = self.plan.vm_image(self.options, paths);
            for image in pause.into_iter().chain([vm]) {
                let there = images::ensure(containerd, &image);
                had.push(self.interrupts.leave(there).await?.host()?);
            }
            Ok::<_, Failure>(had)
        };
        let note = |had: &Vec<Had>| {
            let imported = had.contains(&Had::Imported);
            let how = if imported {
                "imported"
            } else {
                "there already"
            };
            format!("{}, {how}", self.plan.image)
        };
        stages
            .run("image", "importing", work, note)
            .await
            .map(|_| ())
    }

    fn placement(&self, slot: &Slot, grants: Vec<Grant>) -> Result<Placement, Failure> {
        use std::os::unix::fs::PermissionsExt;
        let file = |name: &str, text: &str, mode: u32| -> std::io::Result<PathBuf> {
            let path = slot.dir().join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            Ok(path)
        };
        let volumes = self.volumes.as_ref();
        Ok(Placement {
            uid: self.plan.uid.clone(),
            log_dir: slot.dir().join(LOGS),
            // The kubelet makes it for every user, too.
            termination_log: file(TERMINATION_LOG, "", 0o666).host()?,
            etc_hosts: file(ETC_HOSTS, "", 0o644).host()?,
            mounts: volumes
                .map(|volumes| volumes.mounts().clone())
                .unwrap_or_default(),
            devices: volumes
                .map(|volumes| volumes.devices().clone())
                .unwrap_or_default(),
            allocated: grants.into_iter().map(|grant| grant.answer).collect(),
            host: self.plan.host,
        })
    }

    async fn sandbox(
        &self,
        containerd: &Containerd,
        pod: &Pod,
        placement: &Placement,
        slot: &mut Slot,
        stages: &mut Stages,
    ) -> Result<(String, k8s_cri::v1::PodSandboxConfig), Failure> {
        self.interrupts.check()?;
        let config = node::sandbox(pod, placement).config()?;
        std::fs::create_dir_all(&placement.log_dir).host()?;
        slot.update(|record| record.sandboxed = true).host()?;
        // Not to be left half-way: the runtime would go on by itself.
        let work = async {
            let id = containerd.cri.run_sandbox(&config).await.host()?;
            let status = containerd.cri.sandbox(&id).await.host()?;
            Ok::<_, Failure>((
                id,
                status.network.map(|network| network.ip).unwrap_or_default(),
            ))
        };
        let note = |(_, ip): &(String, String)| format!("IP {ip}");
        let (id, ip) = stages
            .run("sandbox", "making the pod sandbox", work, note)
            .await?;
        std::fs::write(&placement.etc_hosts, node::etc_hosts(&ip, &config.hostname)).host()?;
        slot.update(|record| {
            record.report.sandbox_id = Some(id.clone());
            record.report.pod_ip = Some(ip).filter(|ip| !ip.is_empty());
        })
        .host()?;
        Ok((id, config))
    }

    async fn container(
        &self,
        containerd: &Containerd,
        pod: &Pod,
        placement: &Placement,
        (sandbox, sandbox_config): &(String, k8s_cri::v1::PodSandboxConfig),
        slot: &mut Slot,
        stages: &mut Stages,
    ) -> Result<String, Failure> {
        self.interrupts.check()?;
        let config = node::container(pod, placement).config()?;
        let log_dir = placement.log_dir.join(coracle_api::names::CONTAINER);
        std::fs::create_dir_all(log_dir).host()?;
        let cri = &containerd.cri;
        let work = async {
            let id = cri.create(sandbox, &config, sandbox_config).await.host()?;
            cri.start(&id).await.host()?;
            Ok::<_, Failure>(id)
        };
        let note = |id: &String| id.chars().take(12).collect();
        let id = stages.run("container", "starting", work, note).await?;
        slot.update(|record| {
            record.container = Some(id.clone());
            record.report.container_id = Some(id.clone());
        })
        .host()?;
        Ok(id)
    }
}
