//! `coracle run`: one VM from its manifest to its end.
//!
//! [`run`] reads as the stages do. Whatever is made is written down first
//! ([`crate::record`]), and whichever way a stage ends, [`crate::teardown`]
//! removes it; only a VM that is to go on by itself (`--detach`) stays.

mod attend;
mod ending;
mod launch;
mod plan;
mod slot;

use std::path::PathBuf;

use coracle_api::names::exit;
use coracle_kvm_probe::Level;

use crate::cni::PodCidr;
use crate::containerd::Settings;
use crate::cri::Exit;
use crate::failure::{Classify, Failure};
use crate::images;
use crate::interrupt::Interrupts;
use crate::paths::Paths;
use crate::progress::{Stages, say};
use crate::record::{self, Slot};
use crate::report::{Report, summary};
use crate::teardown::{self, Context};
use crate::volume::VolumeArg;
use launch::Launched;
use plan::Plan;

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// The manifests.
    pub files: Vec<PathBuf>,
    /// What plays each claim.
    pub volumes: Vec<VolumeArg>,
    /// Whether the command ends once the guest runs.
    pub detach: bool,
    /// The VM image, when it is not this version's.
    pub image: Option<String>,
    /// An archive of it.
    pub image_archive: Option<PathBuf>,
    /// An archive of the image that holds the pod sandbox.
    pub pause_archive: Option<PathBuf>,
    /// A containerd that is there.
    pub containerd: Option<PathBuf>,
    /// The subnet of the pods in a private containerd.
    pub pod_cidr: PodCidr,
    /// How far the KVM probe must get.
    pub level: Level,
    /// Our device plugin's program.
    pub device_plugin: Option<PathBuf>,
    /// Stop once the console has shown this.
    pub stop_after: Option<String>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
}

/// A private containerd's settings.
#[must_use]
pub fn settings(pod_cidr: PodCidr) -> Settings {
    Settings {
        pause_image: images::reference("pause"),
        pod_cidr,
    }
}

/// How a container ended, by the files in its VM's directory.
#[must_use]
pub fn ending(dir: &std::path::Path, exit: &Exit) -> crate::report::End {
    ending::read(&dir.join(launch::TERMINATION_LOG), exit)
}

/// Runs a VM. Returns the exit code.
pub async fn run(paths: &Paths, options: &Options, interrupts: &Interrupts) -> Result<u8, Failure> {
    let settings = settings(options.pod_cidr);
    let context = Context {
        paths,
        settings: &settings,
    };
    let mut stages = Stages::default();
    let plan = Plan::load(options, &mut stages).await?;
    let mut slot = Box::pin(slot::take(
        &context,
        options,
        &plan,
        interrupts,
        &mut stages,
    ))
    .await?;
    let mut launch = launch::Launch::new(&context, options, &plan, interrupts);
    let result = match Box::pin(launch.launch(&mut slot, &mut stages)).await {
        Ok(launched) => stay(&launch, launched, &mut slot, &stages, interrupts).await,
        Err(failure) => Err(failure),
    };
    launch.release();
    match result {
        Ok(Stay::Detached) => {
            write_report(options, &slot.record().report)?;
            say(&format!(
                "{} runs; `coracle console {0}` shows its console",
                plan.vm
            ));
            Ok(exit::OK)
        }
        Ok(Stay::Ended(exit)) => {
            let report = slot.record().report.clone();
            let removed = Box::pin(clean_up(&context, slot, &mut stages)).await;
            end(
                options,
                &Report {
                    stages: stages.done().to_vec(),
                    ..report
                },
                &exit,
                removed,
            )
        }
        Err(failure) => {
            if let Err(left) = Box::pin(clean_up(&context, slot, &mut stages)).await {
                say(&format!("coracle: {}", crate::devices::chain(&*left.error)));
            }
            Err(failure)
        }
    }
}

/// What became of a VM that was launched.
enum Stay {
    /// It goes on by itself.
    Detached,
    /// It ended.
    Ended(Exit),
}

async fn stay(
    launch: &launch::Launch<'_>,
    launched: Launched,
    slot: &mut Slot,
    stages: &Stages,
    interrupts: &Interrupts,
) -> Result<Stay, Failure> {
    let early = if launch.options.detach {
        attend::until_running(&launched, interrupts).await?
    } else {
        None
    };
    let report = |report: &mut Report| report.stages = stages.done().to_vec();
    if launch.options.detach && early.is_none() {
        slot.update(|record| {
            record.detached = true;
            report(&mut record.report);
        })
        .host()?;
        return Ok(Stay::Detached);
    }
    let start = crate::progress::now();
    let exit = match early {
        Some(exit) => exit,
        None => attend::attend(launch, &launched, slot.record(), interrupts).await?,
    };
    let end = ending(slot.dir(), &exit);
    slot.update(|record| {
        report(&mut record.report);
        record.report.ran_ms = u64::try_from(start.elapsed().as_millis()).ok();
        record.report.end = Some(end);
    })
    .host()?;
    Ok(Stay::Ended(exit))
}

/// Removes the VM, and the containerd when it was the last.
async fn clean_up(context: &Context<'_>, slot: Slot, stages: &mut Stages) -> Result<(), Failure> {
    let work = async {
        let lock = record::lock(context.paths).await.host()?;
        Box::pin(teardown::remove(context, slot, &lock))
            .await
            .host()?;
        teardown::stop_if_unused(context.paths, &lock).await.host()
    };
    stages
        .run("cleanup", "removing the pod", work, |()| {
            "nothing left".to_owned()
        })
        .await
}

/// The last words: the summary, the report, and how it ended as exit code.
fn end(
    options: &Options,
    report: &Report,
    exit: &Exit,
    removed: Result<(), Failure>,
) -> Result<u8, Failure> {
    say("");
    say(summary(report).trim_end());
    write_report(options, report)?;
    removed?;
    let code = u8::try_from(exit.code).unwrap_or(exit::GUEST);
    if code != exit::OK {
        say(&format!("coracle: {}", ending::error(report)));
    }
    Ok(code)
}

fn write_report(options: &Options, report: &Report) -> Result<(), Failure> {
    use anyhow::Context as _;
    let Some(path) = &options.report else {
        return Ok(());
    };
    let json = serde_json::to_string_pretty(report).host()?;
    std::fs::write(path, format!("{json}\n"))
        .with_context(|| format!("the report cannot be written to {}", path.display()))
        .host()
}
