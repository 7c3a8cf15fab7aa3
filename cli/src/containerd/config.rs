//! The private containerd's configuration file, as a pure function of where
//! things are. Version 2 of the format for containerd 1.6 and 1.7, version 3
//! for containerd 2.
//!
//! Never switches on what a stock node does not have: in particular
//! `device_ownership_from_security_context` stays off, so that a VM which
//! runs here also runs on a node nobody configured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// containerd's configuration formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// containerd 1.x: configuration version 2.
    One,
    /// containerd 2.x: configuration version 3.
    Two,
}

impl Generation {
    /// Reads the output of `containerd --version`.
    #[must_use]
    pub fn from_version_output(text: &str) -> Option<Self> {
        // "containerd github.com/containerd/containerd 1.6.20~ds1 …", and
        // upstream's builds put a "v" before the number.
        let major = text.split_ascii_whitespace().skip(1).find_map(|word| {
            let (major, _) = word.trim_start_matches('v').split_once('.')?;
            major.parse::<u32>().ok()
        })?;
        match major {
            0 => None,
            1 => Some(Self::One),
            _ => Some(Self::Two),
        }
    }
}

/// What the configuration depends on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The format.
    pub generation: Generation,
    /// Images and snapshots.
    pub root: PathBuf,
    /// Running containers, network namespaces.
    pub state: PathBuf,
    /// The socket of the API and of CRI.
    pub socket: PathBuf,
    /// The directory with our conflist, and nothing else.
    pub cni_conf: PathBuf,
    /// The CNI plugins.
    pub cni_bin: PathBuf,
    /// The image that holds pod sandboxes.
    pub pause_image: String,
    /// Whether `AppArmor` confines containers on this machine.
    pub apparmor: bool,
}

/// Not needed to run pods; each costs start-up time or a directory outside of
/// ours (`opt` makes /opt/containerd).
const DISABLED_ONE: [&str; 8] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];
const DISABLED_TWO: [&str; 9] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

impl Config {
    /// The file's text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::from("# Written by coracle at every start; changes are lost.\n");
        let (version, disabled): (u32, &[&str]) = match self.generation {
            Generation::One => (2, &DISABLED_ONE),
            Generation::Two => (3, &DISABLED_TWO),
        };
        let quoted: Vec<String> = disabled
            .iter()
            .map(|plugin| format!("  {}", string(Path::new(plugin))))
            .collect();
        let mut line = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        line(format!("version = {version}"));
        line(format!("root = {}", string(&self.root)));
        line(format!("state = {}", string(&self.state)));
        line(format!("disabled_plugins = [\n{},\n]", quoted.join(",\n")));
        // Without CRI there is no point in going on.
        line("required_plugins = [\"io.containerd.grpc.v1.cri\"]".to_owned());
        line(format!("[grpc]\naddress = {}", string(&self.socket)));
        text.push_str(&match self.generation {
            Generation::One => self.plugins_one(),
            Generation::Two => self.plugins_two(),
        });
        text
    }

    fn plugins_one(&self) -> String {
        format!(
            "[plugins.\"io.containerd.grpc.v1.cri\"]
sandbox_image = {pause}
disable_apparmor = {disable_apparmor}
device_ownership_from_security_context = false
# Without CAP_SYS_RESOURCE a score below our own cannot be set.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.\"io.containerd.grpc.v1.cri\".cni]
bin_dir = {bin}
conf_dir = {conf}
[plugins.\"io.containerd.grpc.v1.cri\".containerd]
snapshotter = \"overlayfs\"
default_runtime_name = \"runc\"
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
runtime_type = \"io.containerd.runc.v2\"
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = {runc}
",
            pause = string(Path::new(&self.pause_image)),
            disable_apparmor = !self.apparmor,
            bin = string(&self.cni_bin),
            conf = string(&self.cni_conf),
            runc = string(&self.state.join("runc")),
        )
    }

    fn plugins_two(&self) -> String {
        format!(
            "[plugins.\"io.containerd.cri.v1.images\"]
snapshotter = \"overlayfs\"
[plugins.\"io.containerd.cri.v1.images\".pinned_images]
sandbox = {pause}
[plugins.\"io.containerd.cri.v1.runtime\"]
disable_apparmor = {disable_apparmor}
device_ownership_from_security_context = false
# Without CAP_SYS_RESOURCE a score below our own cannot be set.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.\"io.containerd.cri.v1.runtime\".cni]
bin_dirs = [{bin}]
conf_dir = {conf}
[plugins.\"io.containerd.cri.v1.runtime\".containerd]
default_runtime_name = \"runc\"
[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]
runtime_type = \"io.containerd.runc.v2\"
[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = {runc}
",
            pause = string(Path::new(&self.pause_image)),
            disable_apparmor = !self.apparmor,
            bin = string(&self.cni_bin),
            conf = string(&self.cni_conf),
            runc = string(&self.state.join("runc")),
        )
    }
}

/// A TOML basic string.
fn string(path: &Path) -> String {
    let mut quoted = String::from('"');
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_read_from_debians_and_from_upstreams_version() {
        let read = Generation::from_version_output;
        let debian = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3";
        assert_eq!(read(debian), Some(Generation::One));
        let upstream = "containerd github.com/containerd/containerd/v2 v2.4.2 abcdef";
        assert_eq!(read(upstream), Some(Generation::Two));
        assert_eq!(read("containerd"), None);
    }

    #[test]
    fn a_path_with_a_quote_stays_one_string() {
        let config = Config {
            generation: Generation::Two,
            root: "/c/\"x".into(),
            state: "/s".into(),
            socket: "/s/sock".into(),
            cni_conf: "/s/cni".into(),
            cni_bin: "/usr/lib/cni".into(),
            pause_image: "coracle.dev/pause:1".into(),
            apparmor: false,
        };
        let text = config.render();
        assert!(text.contains(r#"root = "/c/\"x""#), "{text}");
        assert!(text.starts_with('#') && text.contains("version = 3"));
    }
}
