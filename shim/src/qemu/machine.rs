//! The chipset, the accelerator, the CPUs and the memory's size.

use coracle_api::machine as api;
use coracle_api::types::Accelerator;

use super::object::MEMORY;
use super::switch::{Keys, Switch};

/// `-machine`
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are qemu's own properties"
)]
pub(crate) struct Machine {
    pub(crate) r#type: &'static str,
    pub(crate) memory_backend: &'static str,
    /// A core dump of qemu must not hold the guest's secrets.
    pub(crate) dump_guest_core: bool,
    /// Pages shared between VMs (KSM) can be told by their timing.
    pub(crate) mem_merge: bool,
    /// The old USB controllers; disks on USB bring a controller of their own.
    pub(crate) usb: bool,
    /// `VMware`'s back door.
    pub(crate) vmport: bool,
    /// Left on under emulation, where it is a guest's best clock; under KVM the
    /// paravirtual clock is, and the HPET costs interrupts.
    pub(crate) hpet: bool,
}

impl Machine {
    pub(crate) fn q35(accelerator: Accelerator) -> Self {
        Self {
            r#type: "q35",
            memory_backend: MEMORY,
            dump_guest_core: false,
            mem_merge: false,
            usb: false,
            vmport: false,
            hpet: accelerator == Accelerator::Emulation,
        }
    }
}

impl Switch for Machine {
    fn name(&self) -> &'static str {
        "-machine"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::word(self.r#type)
                .with("memory-backend", self.memory_backend)
                .flag("dump-guest-core", self.dump_guest_core)
                .flag("mem-merge", self.mem_merge)
                .flag("usb", self.usb)
                .flag("vmport", self.vmport)
                .flag("hpet", self.hpet)
                .into_value(),
        )
    }
}

/// `-accel`. Given once, so that qemu never falls back to another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accel {
    /// `kvm`
    Kvm,
    /// `tcg`
    Tcg {
        /// `multi`: a host thread per virtual CPU.
        thread: &'static str,
        /// Most memory for translated code, in MiB. qemu's own bound is a GiB,
        /// which no pod's memory limit has room for; a booting Linux fills
        /// less than 32.
        tb_size: u32,
    },
}

impl Accel {
    pub(crate) fn of(accelerator: Accelerator) -> Self {
        match accelerator {
            Accelerator::Kvm => Self::Kvm,
            Accelerator::Emulation => Self::Tcg {
                thread: "multi",
                tb_size: 128,
            },
        }
    }
}

impl Switch for Accel {
    fn name(&self) -> &'static str {
        "-accel"
    }

    fn value(&self) -> Option<String> {
        Some(
            match self {
                Self::Kvm => Keys::word("kvm"),
                Self::Tcg { thread, tb_size } => Keys::word("tcg")
                    .with("thread", thread)
                    .with("tb-size", tb_size),
            }
            .into_value(),
        )
    }
}

/// The feature of a CPU that says it has `IA32_ARCH_CAPABILITIES`.
const ARCH_CAPABILITIES: &str = "arch-capabilities";

/// `-cpu`: a model and its features, as one text.
#[derive(Clone, Debug)]
pub(crate) struct Cpu(String);

impl Cpu {
    /// Without a wish, everything there is. (Linux 6.12 sometimes panics under
    /// emulation by qemu 7.2 on `cmpxchg16b`; `qemu64,-cx16` avoids it. It is
    /// not taken away from everyone: x86-64-v2 systems will not start without
    /// it.)
    ///
    /// Under KVM everything would be too much on processors that have no
    /// `IA32_ARCH_CAPABILITIES`: KVM makes it up there, guests then look for
    /// the flaws of another vendor's processors, and where KVM itself is
    /// nested qemu aborts as it sets the register. (qemu leaves it out by
    /// itself from 10.1 on.)
    pub(crate) fn of(
        accelerator: Accelerator,
        model: Option<&str>,
        arch_capabilities: bool,
    ) -> Self {
        let default = match accelerator {
            Accelerator::Kvm => "host",
            Accelerator::Emulation => "max",
        };
        let model = model.unwrap_or(default);
        let everything = matches!(model.split(',').next(), Some("host" | "max"));
        let made_up = accelerator == Accelerator::Kvm && everything && !arch_capabilities;
        if made_up && !model.contains(ARCH_CAPABILITIES) {
            return Self(format!("{model},{ARCH_CAPABILITIES}=off"));
        }
        Self(model.to_owned())
    }
}

impl Switch for Cpu {
    fn name(&self) -> &'static str {
        "-cpu"
    }

    /// Commas stay: they are what parts the features, and nothing but a CPU's
    /// features can follow them.
    fn value(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// `-smp`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smp {
    pub(crate) cpus: u32,
    /// How many there could be; as many as there are, without it.
    pub(crate) maxcpus: Option<u32>,
    pub(crate) sockets: u32,
    pub(crate) cores: u32,
    pub(crate) threads: u32,
}

impl Smp {
    pub(crate) fn of(cpu: &api::Cpu, accelerator: Accelerator) -> Self {
        let api::Cpu {
            sockets,
            cores,
            threads,
            ..
        } = *cpu;
        let smp = Self {
            cpus: cpu.count(),
            maxcpus: None,
            sockets,
            cores,
            threads,
        };
        match (accelerator, smp.cpus) {
            (Accelerator::Emulation, 1) => smp.with_a_free_socket(),
            _ => smp,
        }
    }

    /// An emulated machine that can have one CPU only loses notifications of its
    /// virtio devices, and a guest waits for its disk for ever: qemu translates no
    /// memory barrier for it (and before 8.1 not even `mfence`), as if nothing ran
    /// beside the CPU, but the device does, in another thread. A second CPU that
    /// could come, and never does, has it translate them.
    fn with_a_free_socket(self) -> Self {
        Self {
            maxcpus: Some(2),
            sockets: 2,
            ..self
        }
    }
}

impl Switch for Smp {
    fn name(&self) -> &'static str {
        "-smp"
    }

    fn value(&self) -> Option<String> {
        let mut keys = Keys::default().with("cpus", &self.cpus);
        if let Some(maxcpus) = &self.maxcpus {
            keys = keys.with("maxcpus", maxcpus);
        }
        Some(
            keys.with("sockets", &self.sockets)
                .with("cores", &self.cores)
                .with("threads", &self.threads)
                .into_value(),
        )
    }
}

/// `-m`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// In MiB.
    pub(crate) size: u64,
}

impl Memory {
    pub(crate) fn of(bytes: u64) -> Self {
        Self { size: bytes >> 20 }
    }
}

impl Switch for Memory {
    fn name(&self) -> &'static str {
        "-m"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .with("size", &format!("{}M", self.size))
                .into_value(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_that_the_host_lacks_is_not_made_up() {
        let of = |accelerator, model, has| Cpu::of(accelerator, model, has).0;
        let (kvm, emulation) = (Accelerator::Kvm, Accelerator::Emulation);
        let table = [
            (kvm, None, true, "host"),
            (kvm, None, false, "host,arch-capabilities=off"),
            (
                kvm,
                Some("max,-vmx"),
                false,
                "max,-vmx,arch-capabilities=off",
            ),
            (
                kvm,
                Some("host,+arch-capabilities"),
                false,
                "host,+arch-capabilities",
            ),
            (kvm, Some("EPYC-Rome"), false, "EPYC-Rome"),
            (emulation, None, false, "max"),
        ];
        for (accelerator, model, has, wanted) in table {
            assert_eq!(of(accelerator, model, has), wanted);
        }
    }

    #[test]
    fn an_emulated_cpu_is_never_the_only_one_there_could_be() {
        let cpu = |sockets| api::Cpu {
            sockets,
            cores: 1,
            threads: 1,
            model: None,
        };
        let of = |sockets, accelerator| Smp::of(&cpu(sockets), accelerator).value();
        let table = [
            (1, Accelerator::Kvm, "cpus=1,sockets=1,cores=1,threads=1"),
            (
                1,
                Accelerator::Emulation,
                "cpus=1,maxcpus=2,sockets=2,cores=1,threads=1",
            ),
            (
                2,
                Accelerator::Emulation,
                "cpus=2,sockets=2,cores=1,threads=1",
            ),
        ];
        for (sockets, accelerator, wanted) in table {
            assert_eq!(of(sockets, accelerator).as_deref(), Some(wanted));
        }
    }
}
