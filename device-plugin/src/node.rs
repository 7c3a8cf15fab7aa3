//! A device node that comes with a device: the plugin's own, and the
//! container's. A machine may have thousands; what the two paths have in common
//! is kept once.

/// A device node that comes with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    paths: Paths,
    /// The numbers of the host's node.
    pub(crate) rdev: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Paths {
    /// The plugin's own node is below `dir` what the container's is below
    /// `/dev`.
    Alike { dir: &'static str, path: Box<str> },
    /// They are not. The names are those of the plugin's own, then of the
    /// container's; few devices are of this kind.
    Named(Box<(Box<str>, Box<str>)>),
}

impl Node {
    /// The plugin's own node is below `dir` what the container's is below
    /// `/dev`.
    pub(crate) fn alike(dir: &'static str, path: &str, rdev: u64) -> Self {
        let path = path.into();
        let paths = Paths::Alike { dir, path };
        Self { paths, rdev }
    }

    /// The plugin's own node is named by what the device keeps over a reboot,
    /// which the container's, below `/dev`, is not.
    pub(crate) fn named(own: &str, container: &str, rdev: u64) -> Self {
        let paths = Paths::Named(Box::new((own.into(), container.into())));
        Self { paths, rdev }
    }

    /// The plugin's own node: its path below the directory of nodes. It names
    /// the device by what it keeps over a reboot, because the kubelet hands it
    /// out again then without asking.
    pub(crate) fn own(&self) -> String {
        match &self.paths {
            Paths::Alike { dir, path } => format!("{dir}{path}"),
            Paths::Named(paths) => paths.0.to_string(),
        }
    }

    /// Where the container finds it.
    pub(crate) fn container(&self) -> String {
        let path = match &self.paths {
            Paths::Alike { path, .. } => path,
            Paths::Named(paths) => &paths.1,
        };
        format!("/dev/{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_whole_and_a_node_is_small() {
        let tty = Node::alike("char/", "serial/by-id/modem", 1);
        assert_eq!(tty.own(), "char/serial/by-id/modem");
        assert_eq!(tty.container(), "/dev/serial/by-id/modem");
        let group = Node::named("pci/0000:01:00.0/group", "vfio/7", 1);
        assert_eq!(group.own(), "pci/0000:01:00.0/group");
        assert_eq!(group.container(), "/dev/vfio/7");
        assert!(size_of::<Node>() <= 40, "{}", size_of::<Node>());
    }
}
