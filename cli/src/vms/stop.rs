//! `coracle stop` and `coracle clean`.

use std::time::Duration;

use coracle_api::names::exit;

use super::Vms;
use crate::console;
use crate::devices::chain;
use crate::failure::{Classify, Failure};
use crate::process;
use crate::progress::{Stages, say};
use crate::record::{self, Found, Owner};
use crate::report::summary;
use crate::teardown::{self, Context};

/// How often is looked whether the owner of a VM has removed it.
const POLL: Duration = Duration::from_millis(50);
/// How long the owner of a VM may take to remove it after its end.
const OWNER_GRACE: Duration = Duration::from_secs(30);

impl Vms<'_> {
    fn context(&self) -> Context<'_> {
        Context {
            paths: self.paths,
            settings: self.settings,
        }
    }

    /// `coracle stop`.
    pub async fn stop(&self, name: &str, force: bool) -> Result<u8, Failure> {
        let found = record::find(self.paths, name).config()?;
        let vm = found.record.vm.to_string();
        let mut stages = Stages::default();
        let work = Box::pin(self.end(&found, force));
        stages
            .run("stop", "waiting for the guest to power off", work, |()| {
                vm.clone()
            })
            .await?;
        let mut report = found.record.report.clone();
        if found.owner == Owner::Command {
            let work = gone(&found);
            stages
                .run("cleanup", "waiting for its command", work, |()| vm)
                .await?;
            return Ok(exit::OK);
        }
        if let Some(container) = &found.record.container
            && let Ok(cri) = self.cri(&found).await
            && let Ok(Some(ended)) = cri.exit(container).await
        {
            report.end = Some(crate::run::ending(&found.dir, &ended));
        }
        stages
            .run(
                "cleanup",
                "removing the pod",
                Box::pin(self.remove(found)),
                |()| vm,
            )
            .await?;
        say("");
        report.stages = stages.done().to_vec();
        say(summary(&report).trim_end());
        Ok(exit::OK)
    }

    /// Ends a VM's container; nothing is removed yet.
    async fn end(&self, found: &Found, force: bool) -> Result<(), Failure> {
        let Some(container) = found.record.container.clone() else {
            return Ok(());
        };
        let cri = self.cri(found).await.host()?;
        if cri.exit(&container).await.host()?.is_some() {
            return Ok(());
        }
        let grace = Duration::from_secs(found.record.grace_seconds);
        if !force {
            return cri.stop(&container, grace).await.host();
        }
        // The shim ends qemu and says so in its last words; only when it does
        // not listen it is killed itself.
        let place = self.place_of(found, container.clone());
        let _ = process::output(&mut console::shim(&place, &["kill", "KILL"], false)).await;
        cri.stop(&container, Duration::from_secs(1)).await.host()
    }

    async fn remove(&self, found: Found) -> Result<(), Failure> {
        let lock = record::lock(self.paths).await.host()?;
        if let Some(slot) = found.take().host()? {
            Box::pin(teardown::remove(&self.context(), slot, &lock))
                .await
                .host()?;
        }
        teardown::stop_if_unused(self.paths, &lock).await.host()
    }

    /// `coracle clean`.
    pub async fn clean(&self) -> Result<u8, Failure> {
        let lock = record::lock(self.paths).await.host()?;
        let mut failed = None;
        for (vm, removed) in Box::pin(teardown::remove_lost(&self.context(), &lock))
            .await
            .host()?
        {
            match removed {
                Ok(()) => say(&format!("removed what a killed command left of {vm}")),
                Err(error) => {
                    say(&format!("{vm}: {}", chain(&error)));
                    failed = Some(error);
                }
            }
        }
        for found in record::all(self.paths).host()? {
            if found.owner == Owner::Detached && self.has_ended(&found).await {
                let vm = found.record.vm.to_string();
                if let Some(slot) = found.take().host()? {
                    Box::pin(teardown::remove(&self.context(), slot, &lock))
                        .await
                        .host()?;
                    say(&format!("removed {vm}, which had ended"));
                }
            }
        }
        teardown::stop_if_unused(self.paths, &lock).await.host()?;
        Ok(if failed.is_some() {
            exit::HOST
        } else {
            exit::OK
        })
    }

    async fn has_ended(&self, found: &Found) -> bool {
        let place = self.place_of(found, String::new());
        let cri = crate::cri::Cri::connect(&place.containerd);
        match &found.record.container {
            Some(container) => matches!(cri.exit(container).await, Ok(Some(_))),
            None => true,
        }
    }
}

/// Returns when the command that owns a VM has removed it.
async fn gone(found: &Found) -> Result<(), Failure> {
    let removed = async {
        while found.dir.exists() {
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(OWNER_GRACE, removed).await;
    waited
        .map_err(|_| anyhow::anyhow!("{} is still there", found.dir.display()))
        .host()
}
