//! Guests that write, while the programs around them are killed at random.
//!
//! `CORACLE_SOAK_SECONDS` says for how long (60 unless it is set; `make soak`
//! takes 600). The seed is printed; `CORACLE_SOAK_SEED` gives it again. Time is
//! told by the guests: what is down stays down until they have written so many
//! records more.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use anyhow::Context;
use coracle_api::vm::Phase;
use coracle_e2e::{
    BlockVolume, Cluster, Component, KVM_COUNT, Machine, Namespace, Node, VmPod, goes_on, until,
    vm_object,
};
use coracle_tests::{Logbook, say};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

const SECONDS: &str = "CORACLE_SOAK_SECONDS";
const SEED: &str = "CORACLE_SOAK_SEED";
/// At most this many records, of which a guest writes 18 a second, are written
/// while something is down.
const LONGEST: u64 = 60;
/// The kubelet's directory for device plugins, which its node may lose.
const PLUGINS: &str = "/var/lib/kubelet/device-plugins";

/// In the order in which they find each other.
const COMPONENTS: [Component; 6] = [
    Component::Etcd,
    Component::ApiServer,
    Component::Containerd,
    Component::Kubelet,
    Component::DevicePlugin,
    Component::Controller,
];

/// Numbers that follow from a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn flip(&mut self) -> bool {
        self.roll(2) == 0
    }
}

/// What goes wrong, all at once.
#[derive(Debug)]
struct Fault {
    /// Which programs end.
    down: Vec<Component>,
    /// Whether they are killed, or asked.
    killed: bool,
    /// Whether the kubelet finds its plugin directory empty.
    wiped: bool,
    /// How many records are written before they are back.
    lasts: u32,
    /// And after.
    pause: u32,
}

impl Fault {
    fn random(dice: &mut Dice) -> Self {
        // One is down most of the time, sometimes two.
        let many = if dice.roll(4) == 0 { 2 } else { 1 };
        let mut down: Vec<Component> = vec![];
        while down.len() < many {
            let index = usize::try_from(dice.roll(COMPONENTS.len() as u64)).unwrap_or(0);
            if !down.contains(&COMPONENTS[index]) {
                down.push(COMPONENTS[index]);
            }
        }
        let records = |dice: &mut Dice| u32::try_from(dice.roll(LONGEST)).unwrap_or(0);
        Self {
            killed: dice.flip(),
            wiped: dice.flip() && down.contains(&Component::Kubelet),
            lasts: records(dice),
            pause: records(dice),
            down,
        }
    }

    async fn happen(&self, guests: &[Guest], node: &Node) -> anyhow::Result<()> {
        for component in &self.down {
            // One that is asked answers its last requests first, for a minute.
            if self.killed || *component == Component::ApiServer {
                node.kill(*component).await?;
            } else {
                node.stop(*component).await?;
            }
        }
        if self.wiped {
            for entry in std::fs::read_dir(PLUGINS)? {
                std::fs::remove_file(entry?.path())?;
            }
        }
        all_advance(guests, self.lasts).await?;
        everything_runs(node).await?;
        all_advance(guests, self.pause).await
    }
}

/// Starts what does not run: the killed, and who ended because of it.
async fn everything_runs(node: &Node) -> anyhow::Result<()> {
    for component in COMPONENTS {
        node.start(component).await?;
    }
    Ok(())
}

/// A guest that keeps a logbook.
struct Guest {
    disk: BlockVolume,
    vm: Machine,
    pod: VmPod,
    before: Pod,
}

impl Guest {
    async fn new(
        cluster: &Cluster,
        node: &Node,
        namespace: &Namespace,
        name: &str,
        accelerator: &str,
    ) -> anyhow::Result<Self> {
        let disk = BlockVolume::new(node, namespace, name, "logbook").await?;
        let fields = json!({
            "accelerator": accelerator,
            "disks": [{"name": "root", "bootOrder": 1, "claim": {"name": name}}],
        });
        let vm = Machine::apply(cluster, namespace, &vm_object(name, fields)).await?;
        let pod = vm.runs(1).await?;
        pod.says("guest ready").await?;
        let before = pod.get().await?;
        Ok(Self {
            disk,
            vm,
            pod,
            before,
        })
    }

    /// It is the guest that it was, in the eyes of the cluster; it ends when it
    /// is asked, and all that it ever wrote is on its disk.
    async fn end(&self) -> anyhow::Result<u32> {
        self.vm.runs(1).await?;
        goes_on(&self.before, &self.pod.get().await?)?;
        self.vm.run_policy("Halted").await?;
        self.pod.gone().await?;
        let halted = self.vm.phase_is(Phase::Stopped).await?;
        let last = halted.last_termination.map(|last| last.reason);
        assert_eq!(last.as_deref(), Some("Stopped"));
        let logbook = Logbook::read(&self.disk.disk.read()?)?;
        assert_eq!(logbook.boots, 1, "it booted again");
        Ok(logbook.newest)
    }
}

async fn all_advance(guests: &[Guest], records: u32) -> anyhow::Result<()> {
    for guest in guests {
        let logbook = guest.disk.advances(records).await?;
        assert_eq!(logbook.boots, 1, "it booted again");
    }
    Ok(())
}

fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    let Ok(text) = std::env::var(variable) else {
        return Ok(None);
    };
    let number = text.parse();
    Ok(Some(number.with_context(|| format!("{variable}={text}"))?))
}

#[tokio::test]
async fn random_faults_around_them_do_not_touch_the_guests() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let seed = number(SEED)?.unwrap_or_else(|| RandomState::new().hash_one(0));
    let lasts = Duration::from_secs(number(SECONDS)?.unwrap_or(60));
    let _alone = cluster.alone().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let kvm = cluster.node_with_plugin().await?.is_some();
    let namespace = Namespace::new(&cluster).await?;
    let mut guests = vec![];
    for (name, accelerator) in [("one", "Emulation"), ("two", "Emulation"), ("fast", "Kvm")] {
        if accelerator != "Kvm" || kvm {
            guests.push(Guest::new(&cluster, &node, &namespace, name, accelerator).await?);
        }
    }

    say(&format!("{SEED}={seed}"));
    let mut dice = Dice(seed);
    let start = Instant::now();
    while start.elapsed() < lasts {
        let fault = Fault::random(&mut dice);
        say(&format!("{:3} s: {fault:?}", start.elapsed().as_secs()));
        let happened = fault.happen(&guests, &node).await;
        // Other tests come after a failed one, too.
        everything_runs(&node).await?;
        happened.with_context(|| format!("{SEED}={seed}: {fault:?}"))?;
    }

    until("the API answers", async || {
        everything_runs(&node).await?;
        Ok(node.api().get_opt(node.name()).await.ok())
    })
    .await?;
    node.ready_is("True").await?;
    if kvm {
        node.allocatable_is(KVM_COUNT).await?;
    }
    for guest in &guests {
        let written = guest.end().await;
        let written = written.with_context(|| format!("{SEED}={seed}: {}", guest.vm.name))?;
        say(&format!("{}: {written} records", guest.vm.name));
    }
    Ok(())
}
