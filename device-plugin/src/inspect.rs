//! What this node would advertise, and what stands in the way. Looks only:
//! nothing is made, nobody is told.

use std::fmt;
use std::path::PathBuf;

use coracle_kvm_probe::{Level, Report, probe};
use serde::Serialize;

use crate::check::{CheckError, Checked, chain, numbers};
use crate::config::{Config, Grant};
use crate::grant;
use crate::resource::Resource;
use crate::socket::SocketId;

/// What this node would advertise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The resource.
    pub resource: &'static str,
    /// How many devices the kubelet would count.
    pub capacity: usize,
    /// How many of them pods could have.
    pub allocatable: usize,
    /// The host's device.
    pub device: PathBuf,
    /// Its numbers, if it is there.
    pub numbers: Option<Checked>,
    /// The probe's level.
    pub probe: Level,
    /// What the probe measured, if it passed.
    pub instructions_per_second: Option<u64>,
    /// How containers get the device.
    pub grant: String,
    /// Whether what they get it by is there and right; the plugin makes it
    /// when it runs.
    pub grant_ready: bool,
    /// The kubelet's socket.
    pub kubelet_socket: PathBuf,
    /// Whether it is there.
    pub kubelet_present: bool,
    /// What stands in the way, one sentence each.
    pub missing: Vec<String>,
}

/// Looks at this node.
#[must_use]
pub fn inspect(config: &Config) -> Inspection {
    let found = numbers(&config.device);
    let rdev = found.as_ref().ok().copied();
    let probed: Result<Report, CheckError> =
        found.and_then(|_| Ok(probe(&config.device, config.level)?));
    let kubelet_socket = config.kubelet_socket();
    let kubelet_present = SocketId::of(&kubelet_socket).is_some();
    let mut missing = vec![];
    match (&probed, &config.prober) {
        (Err(error), Some(_)) if error.is_closed() => missing.push(format!(
            "only the prober can tell whether a guest runs on {}, because this process may not \
             open it: the plugin's log has what the prober reports",
            config.device.display()
        )),
        (Err(error), _) => missing.push(chain(error)),
        (Ok(_), _) => {}
    }
    if !kubelet_present {
        missing.push(format!(
            "{} is not there: no kubelet runs, or it keeps its plugins elsewhere (--kubelet-dir)",
            kubelet_socket.display()
        ));
    }
    let path = config.grant.path();
    let (grant, grant_ready) = match &config.grant {
        Grant::Node { .. } => (
            format!("device node {}", path.display()),
            rdev.is_some_and(|rdev| grant::is_right(&path, rdev)),
        ),
        Grant::Cdi { .. } => (
            format!("CDI specification {}", path.display()),
            path.is_file(),
        ),
    };
    Inspection {
        resource: Resource::Kvm.name(),
        capacity: config.count,
        allocatable: if probed.is_ok() { config.count } else { 0 },
        device: config.device.clone(),
        numbers: rdev.map(Checked::from),
        probe: config.level,
        instructions_per_second: probed
            .ok()
            .and_then(|report| report.instructions_per_second),
        grant,
        grant_ready,
        kubelet_socket,
        kubelet_present,
        missing,
    }
}

impl Inspection {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers serialize")
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |yes| if yes { "there" } else { "not there" };
        writeln!(f, "resource     {}", self.resource)?;
        writeln!(f, "allocatable  {} of {}", self.allocatable, self.capacity)?;
        write!(f, "device       {}", self.device.display())?;
        if let Some(Checked { major, minor }) = self.numbers {
            write!(f, " (character device {major}:{minor})")?;
        }
        writeln!(f)?;
        write!(f, "probe        {}", self.probe)?;
        if let Some(speed) = self.instructions_per_second {
            write!(
                f,
                " ({} million kernel instructions per second)",
                speed / 1_000_000
            )?;
        }
        writeln!(f)?;
        writeln!(f, "given by     {} ({})", self.grant, yes(self.grant_ready))?;
        write!(
            f,
            "kubelet      {} ({})",
            self.kubelet_socket.display(),
            yes(self.kubelet_present)
        )?;
        for reason in &self.missing {
            write!(f, "\nmissing      {reason}")?;
        }
        Ok(())
    }
}
