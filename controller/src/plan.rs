//! Observed facts and a manifest become a [`VmPlan`]: complete and consistent,
//! so that building from it cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api::types::DiskType;
use coracle_api::vm::{self, Problem, VirtualMachine, VirtualMachineSpec};
use coracle_block::claim::{
    self, Attachment, ClaimNote, ClaimPlan, ClaimRefusal, Holder, StorageFacts, Wanted,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::import::{self, Import};
use crate::template;

/// Name under which the kernel's claim is asked for.
const KERNEL: &str = "kernel";

/// What was seen of the things a VM names.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The claims of the VM's namespace that the VM names, by name.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// What stands behind them, by claim, as far as it is known.
    pub storage: BTreeMap<String, StorageFacts>,
    /// The pods that use them already, by claim.
    pub holders: BTreeMap<String, Vec<Holder>>,
}

/// Why a VM can have no pod.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The manifest says something that cannot be.
    #[error("{}", one_line(problems))]
    Invalid {
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// A claim cannot be used.
    #[error(transparent)]
    Claim {
        /// Why.
        #[from]
        source: ClaimRefusal,
    },
    /// The kernel's claim has no file system.
    #[error(
        "firmware.kernel: claim {claim:?} has volumeMode Block: the kernel must be a file in a claim \
         with volumeMode Filesystem"
    )]
    KernelClaimIsBlock {
        /// The claim.
        claim: String,
    },
}

impl Refusal {
    /// The refusal of a claim that is only read to fill a disk.
    fn of_source(self) -> Self {
        match self {
            Self::Claim {
                source:
                    ClaimRefusal::InUse {
                        claim,
                        disk,
                        vm,
                        holder,
                    },
            } => Self::Claim {
                source: ClaimRefusal::SourceInUse {
                    claim,
                    disk,
                    vm,
                    holder,
                },
            },
            other => other,
        }
    }
}

fn one_line(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems
        .iter()
        .map(|p| format!("{}: {}", p.path, p.message))
        .collect();
    texts.join("; ")
}

/// A VM that can be built.
#[derive(Debug)]
pub struct VmPlan<'a> {
    /// The object.
    pub vm: &'a VirtualMachine,
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Which of the VM's pods this is, from 1.
    pub incarnation: u64,
    /// The guest's memory in bytes.
    pub memory_bytes: u64,
    /// The disks, each with what its source became.
    pub disks: Vec<PlannedDisk<'a>>,
    /// The claim with the kernel, when one is booted directly.
    pub kernel: Option<ClaimPlan>,
}

/// Whether the guest may only read a disk: a seed and what is in a drive as well.
#[must_use]
pub fn read_only(disk: &vm::Disk) -> bool {
    disk.read_only || disk.cloud_init.is_some() || disk.disk_type == DiskType::Cdrom
}

/// A disk and its source.
#[derive(Debug)]
pub struct PlannedDisk<'a> {
    /// What the manifest says.
    pub disk: &'a vm::Disk,
    /// Where its bytes come from.
    pub source: PlannedSource<'a>,
    /// What its claim is filled with first.
    pub import: Option<Import<'a>>,
}

/// Where a disk's bytes come from.
#[derive(Debug)]
pub enum PlannedSource<'a> {
    /// A claim.
    Claim(Box<ClaimPlan>),
    /// An emptyDir of this many bytes.
    Ephemeral(u64),
    /// A container image that stays where it is.
    Image(&'a vm::DiskImage),
    /// A seed the shim makes.
    CloudInit(&'a vm::CloudInitSource),
}

impl<'a> VmPlan<'a> {
    /// Checks the manifest and what was observed.
    ///
    /// # Errors
    /// Everything wrong with the manifest at once, or the first claim that
    /// cannot be used.
    pub fn new(
        vm: &'a VirtualMachine,
        incarnation: u64,
        observed: &Observed,
    ) -> Result<Self, Refusal> {
        let problems = vm::validate(vm);
        let (Some(name), true) = (vm.metadata.name.as_deref(), problems.is_empty()) else {
            return Err(Refusal::Invalid { problems });
        };
        check_claims_differ(name, &vm.spec)?;
        check_sources_differ(name, &vm.spec)?;
        let disks = vm
            .spec
            .disks
            .iter()
            .map(|disk| plan_disk(vm, name, disk, observed));
        Ok(Self {
            vm,
            name,
            namespace: vm.metadata.namespace.as_deref().unwrap_or("default"),
            incarnation,
            memory_bytes: vm.spec.memory.bytes().unwrap_or_default(),
            disks: disks.collect::<Result<_, Refusal>>()?,
            kernel: plan_kernel(name, &vm.spec, observed)?,
        })
    }

    /// What there is to say of the claims, although they can be used.
    pub fn notes(&self) -> impl Iterator<Item = &ClaimNote> {
        let of_disks = self.disks.iter().filter_map(|disk| match &disk.source {
            PlannedSource::Claim(claim) => Some(claim.as_ref()),
            PlannedSource::Ephemeral(_) | PlannedSource::Image(_) | PlannedSource::CloudInit(_) => {
                None
            }
        });
        let of_imports = self.disks.iter().filter_map(|disk| {
            let import = disk.import.as_ref()?;
            import.claim.as_ref()
        });
        of_disks
            .chain(of_imports)
            .chain(&self.kernel)
            .flat_map(|claim| claim.notes.iter())
    }

    /// The pod's name. It can be created only once, which is what keeps two
    /// controllers from starting one VM twice.
    #[must_use]
    pub fn pod_name(&self) -> String {
        format!("{}-{}", self.name, self.incarnation)
    }
}

/// The schema cannot tell what a template's claim is called.
fn check_claims_differ(vm: &str, spec: &VirtualMachineSpec) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    for disk in &spec.disks {
        let Some(name) = disk.claim_name(vm) else {
            continue;
        };
        if !names.insert(name.clone()) {
            let message = format!("two disks use claim {name:?}");
            let path = format!("spec.disks[{}]", disk.name);
            return Err(Refusal::Invalid {
                problems: vec![Problem { path, message }],
            });
        }
    }
    Ok(())
}

/// What is read while a disk is filled must not be a disk of the same VM.
fn check_sources_differ(vm: &str, spec: &VirtualMachineSpec) -> Result<(), Refusal> {
    for disk in &spec.disks {
        let Some(source) = disk.from().and_then(|from| from.claim.as_ref()) else {
            continue;
        };
        let same = |other: &&vm::Disk| other.claim_name(vm).as_ref() == Some(&source.name);
        if let Some(other) = spec.disks.iter().find(same) {
            let message = format!(
                "from.claim {:?} is the VM's disk {:?}: a disk is filled from a claim that the VM \
                 does not have",
                source.name, other.name
            );
            let path = format!("spec.disks[{}]", disk.name);
            return Err(Refusal::Invalid {
                problems: vec![Problem { path, message }],
            });
        }
    }
    Ok(())
}

fn plan_disk<'a>(
    vm: &VirtualMachine,
    name: &str,
    disk: &'a vm::Disk,
    observed: &Observed,
) -> Result<PlannedDisk<'a>, Refusal> {
    let claim = disk.claim_name(name);
    let found = claim.as_ref().and_then(|claim| observed.claims.get(claim));
    let from = import::pending(disk, found);
    let source = match (&claim, &disk.ephemeral, &disk.image, &disk.cloud_init) {
        (Some(claim), ..) => {
            if disk.claim_template.is_some() {
                template::check(vm, disk, claim, found)?;
            }
            let wanted = Wanted {
                disk: &disk.name,
                claim,
                vm: name,
                // Somebody must write what the guest is to read.
                read_only: disk.read_only && from.is_none(),
                shareable: disk.shareable,
            };
            PlannedSource::Claim(Box::new(plan_claim(&wanted, observed)?))
        }
        (None, Some(ephemeral), ..) => {
            PlannedSource::Ephemeral(ephemeral.size.bytes().unwrap_or_default())
        }
        (None, None, Some(image), _) => PlannedSource::Image(image),
        (None, None, None, Some(data)) => PlannedSource::CloudInit(data),
        (None, None, None, None) => {
            let message = "say exactly one of claim, claimTemplate, image, cloudInit and ephemeral"
                .to_owned();
            let path = format!("spec.disks[{}]", disk.name);
            return Err(Refusal::Invalid {
                problems: vec![Problem { path, message }],
            });
        }
    };
    let import = from.map(|from| plan_import(vm, disk, from, observed));
    Ok(PlannedDisk {
        disk,
        source,
        import: import.transpose()?,
    })
}

fn plan_import<'a>(
    vm: &VirtualMachine,
    disk: &vm::Disk,
    from: &'a vm::ImportSource,
    observed: &Observed,
) -> Result<Import<'a>, Refusal> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let Some(source) = &from.claim else {
        return Ok(Import { from, claim: None });
    };
    let wanted = Wanted {
        disk: &disk.name,
        claim: &source.name,
        vm: name,
        read_only: true,
        shareable: false,
    };
    let plan = plan_claim(&wanted, observed).map_err(Refusal::of_source)?;
    let volume = source_volume(&vm.spec, &source.name, &disk.name);
    Ok(Import {
        from,
        claim: Some(import::as_source(plan, &disk.name, &volume)),
    })
}

/// The volume that a claim which is read is in: the kubelet wants a claim in
/// one volume of a pod, and two disks can be filled from one.
fn source_volume(spec: &VirtualMachineSpec, claim: &str, disk: &str) -> String {
    let firmware = spec.firmware.as_ref();
    let kernel = firmware.and_then(|firmware| firmware.kernel.as_ref());
    if kernel.is_some_and(|kernel| kernel.claim.name == claim) {
        return KERNEL.to_owned();
    }
    let reads = |disk: &&vm::Disk| {
        let source = disk.from().and_then(|from| from.claim.as_ref());
        source.is_some_and(|source| source.name == claim)
    };
    let first = spec.disks.iter().find(reads);
    import::source_volume(first.map_or(disk, |first| &first.name))
}

fn plan_kernel(
    vm: &str,
    spec: &VirtualMachineSpec,
    observed: &Observed,
) -> Result<Option<ClaimPlan>, Refusal> {
    let Some(kernel) = spec
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.kernel.as_ref())
    else {
        return Ok(None);
    };
    let claim = kernel.claim.name.as_str();
    let wanted = Wanted {
        disk: KERNEL,
        claim,
        vm,
        read_only: true,
        shareable: true,
    };
    let plan = plan_claim(&wanted, observed)?;
    match plan.attachment {
        Attachment::Filesystem { .. } => Ok(Some(plan)),
        Attachment::Block(_) => Err(Refusal::KernelClaimIsBlock {
            claim: claim.to_owned(),
        }),
    }
}

fn plan_claim(wanted: &Wanted<'_>, observed: &Observed) -> Result<ClaimPlan, Refusal> {
    let holders = observed
        .holders
        .get(wanted.claim)
        .map_or(&[][..], Vec::as_slice);
    let unknown = StorageFacts::default();
    Ok(claim::plan(
        wanted,
        observed.claims.get(wanted.claim),
        observed.storage.get(wanted.claim).unwrap_or(&unknown),
        holders,
    )?)
}
