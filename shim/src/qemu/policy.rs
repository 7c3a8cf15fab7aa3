//! What qemu does by itself, and what it may not do.

use coracle_api::types::Accelerator;

use super::switch::{Keys, Switch};

/// The switches that are one word, or have one fixed value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flag {
    /// No configuration file of the image is read.
    NoUserConfig,
    /// No device that is not asked for.
    NoDefaults,
    /// The virtual CPUs wait for QMP `cont`.
    Stopped,
    /// No window, no VNC.
    NoDisplay,
    /// No graphics card; the console is the serial port.
    NoVga,
}

impl Switch for Flag {
    fn name(&self) -> &'static str {
        match self {
            Self::NoUserConfig => "-no-user-config",
            Self::NoDefaults => "-nodefaults",
            Self::Stopped => "-S",
            Self::NoDisplay => "-display",
            Self::NoVga => "-vga",
        }
    }

    fn value(&self) -> Option<String> {
        match self {
            Self::NoUserConfig | Self::NoDefaults | Self::Stopped => None,
            Self::NoDisplay | Self::NoVga => Some("none".to_owned()),
        }
    }
}

/// `-sandbox`: qemu's own system call filter, within the container's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sandbox {
    pub(crate) obsolete: &'static str,
    pub(crate) elevateprivileges: &'static str,
    pub(crate) spawn: &'static str,
    pub(crate) resourcecontrol: &'static str,
}

impl Sandbox {
    /// Nothing here needs any of it, the node's devices (VFIO, libusb) neither: qemu gets no helper program, no other
    /// user and no say over its scheduling.
    pub(crate) const STRICT: Self = Self {
        obsolete: "deny",
        elevateprivileges: "deny",
        spawn: "deny",
        resourcecontrol: "deny",
    };
}

impl Switch for Sandbox {
    fn name(&self) -> &'static str {
        "-sandbox"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::word("on")
                .with("obsolete", self.obsolete)
                .with("elevateprivileges", self.elevateprivileges)
                .with("spawn", self.spawn)
                .with("resourcecontrol", self.resourcecontrol)
                .into_value(),
        )
    }
}

/// `-action`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    pub(crate) reboot: &'static str,
    pub(crate) shutdown: &'static str,
    pub(crate) panic: &'static str,
}

impl Action {
    /// A reboot stays in the pod. A guest that powers off ends qemu with 0. A
    /// guest that panics ends it with 1, after the events `GUEST_PANICKED` and
    /// `SHUTDOWN`, so that even a shim which missed both knows.
    pub(crate) const POLICY: Self = Self {
        reboot: "reset",
        shutdown: "poweroff",
        panic: "exit-failure",
    };
}

impl Switch for Action {
    fn name(&self) -> &'static str {
        "-action"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .with("reboot", self.reboot)
                .with("shutdown", self.shutdown)
                .with("panic", self.panic)
                .into_value(),
        )
    }
}

/// `-rtc`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtc {
    pub(crate) base: &'static str,
    /// Ticks that a guest's clock missed while it was not scheduled are made
    /// up for.
    pub(crate) driftfix: Option<&'static str>,
}

impl Rtc {
    pub(crate) fn of(accelerator: Accelerator) -> Self {
        let driftfix = (accelerator == Accelerator::Kvm).then_some("slew");
        Self {
            base: "utc",
            driftfix,
        }
    }
}

impl Switch for Rtc {
    fn name(&self) -> &'static str {
        "-rtc"
    }

    fn value(&self) -> Option<String> {
        let keys = Keys::default().with("base", self.base);
        Some(
            match self.driftfix {
                Some(driftfix) => keys.with("driftfix", driftfix),
                None => keys,
            }
            .into_value(),
        )
    }
}

/// `-boot`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot {
    pub(crate) menu: bool,
    /// Only what has a boot index is booted.
    pub(crate) strict: bool,
}

impl Boot {
    pub(crate) const STRICT: Self = Self {
        menu: false,
        strict: true,
    };
}

impl Switch for Boot {
    fn name(&self) -> &'static str {
        "-boot"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .flag("menu", self.menu)
                .flag("strict", self.strict)
                .into_value(),
        )
    }
}

/// `-global`: a property of a device that is part of the chipset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global {
    pub(crate) driver: &'static str,
    pub(crate) property: &'static str,
    pub(crate) value: &'static str,
}

impl Global {
    /// Suspend to memory and to disk: nothing in a pod could wake the guest.
    const NO_SLEEP: [Self; 2] = [
        Self {
            driver: "ICH9-LPC",
            property: "disable_s3",
            value: "1",
        },
        Self {
            driver: "ICH9-LPC",
            property: "disable_s4",
            value: "1",
        },
    ];
    /// KVM's timer hands late ticks on one by one and not in a burst.
    const LATE_TICKS: [Self; 1] = [Self {
        driver: "kvm-pit",
        property: "lost_tick_policy",
        value: "delay",
    }];

    pub(crate) fn of(accelerator: Accelerator) -> impl Iterator<Item = &'static Self> {
        let timer: &[Self] = match accelerator {
            Accelerator::Kvm => &Self::LATE_TICKS,
            Accelerator::Emulation => &[],
        };
        Self::NO_SLEEP.iter().chain(timer)
    }
}

impl Switch for Global {
    fn name(&self) -> &'static str {
        "-global"
    }

    fn value(&self) -> Option<String> {
        Some(
            Keys::default()
                .with("driver", self.driver)
                .with("property", self.property)
                .with("value", self.value)
                .into_value(),
        )
    }
}
