//! Where the single-machine mode keeps what it needs: state that a reboot may
//! take (`--state-dir`) and caches that survive it. Nothing here touches the
//! disk.

use std::path::{Path, PathBuf};

/// The directories of one state directory's VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    state: PathBuf,
    cache: PathBuf,
    containerd_root: PathBuf,
}

impl Paths {
    /// The paths under a state directory and a cache directory, both
    /// absolute. `containerd_root` is `<cache>/containerd` unless given.
    #[must_use]
    pub fn new(state: &Path, cache: &Path, containerd_root: Option<&Path>) -> Self {
        Self {
            state: state.to_path_buf(),
            cache: cache.to_path_buf(),
            containerd_root: containerd_root
                .map_or_else(|| cache.join("containerd"), Path::to_path_buf),
        }
    }

    /// The state directory itself.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The lock that serializes starts and ends of VMs.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// One directory per VM.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// The directory of one VM's pod. Neither part can hold an underscore,
    /// both are DNS names.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> PathBuf {
        self.pods().join(format!("{namespace}_{name}"))
    }

    /// What the kubelet calls its device plugin directory.
    #[must_use]
    pub fn device_plugins(&self) -> PathBuf {
        self.state.join("device-plugins")
    }

    /// Where the device plugin keeps its nodes.
    #[must_use]
    pub fn nodes(&self) -> PathBuf {
        self.state.join("dev")
    }

    /// The private containerd's configuration, sockets and state.
    #[must_use]
    pub fn containerd(&self) -> PathBuf {
        self.state.join("containerd")
    }

    /// The private containerd's images and snapshots.
    #[must_use]
    pub fn containerd_root(&self) -> &Path {
        &self.containerd_root
    }

    /// Where the ephemeral disks of a pod are: on a disk, while the state
    /// directory is in memory.
    #[must_use]
    pub fn ephemeral(&self, uid: &str) -> PathBuf {
        self.cache.join("ephemeral").join(uid)
    }

    /// Image archives that `make images` left for every checkout.
    #[must_use]
    pub fn image_cache(&self) -> PathBuf {
        self.cache.join("images")
    }
}

/// The cache directory by the XDG base directory specification.
///
/// The environment comes in as values, so that a test can say what it is.
#[must_use]
pub fn default_cache(xdg_cache_home: Option<&str>, home: Option<&str>) -> PathBuf {
    match (xdg_cache_home, home) {
        // The specification: a relative path there is to be ignored.
        (Some(xdg), _) if xdg.starts_with('/') => PathBuf::from(xdg).join("coracle"),
        (_, Some(home)) if home.starts_with('/') => PathBuf::from(home).join(".cache/coracle"),
        _ => PathBuf::from("/var/cache/coracle"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_the_xdg_specification() {
        let cache = |xdg, home| default_cache(xdg, home).display().to_string();
        assert_eq!(cache(Some("/x"), Some("/root")), "/x/coracle");
        assert_eq!(
            cache(Some("relative"), Some("/root")),
            "/root/.cache/coracle"
        );
        assert_eq!(cache(None, Some("/root")), "/root/.cache/coracle");
        assert_eq!(cache(None, None), "/var/cache/coracle");
    }
}
