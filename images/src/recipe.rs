//! What each image is made of: its name, how its program starts, and which
//! files of Debian it takes.

use std::collections::BTreeSet;

/// The images that the project makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Which {
    /// The shim with qemu: what a VM's container runs.
    Vm,
    /// The device plugin and its prober.
    DevicePlugin,
    /// The shim alone, holding a pod sandbox.
    Pause,
    /// The controller.
    Controller,
    /// Puts images onto disks before their VM starts.
    Importer,
}

/// Debian packages of what every dynamically linked program needs.
const C_LIBRARY: [&str; 2] = ["libc6", "libgcc-s1"];

impl Which {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 5] = [
        Self::Vm,
        Self::DevicePlugin,
        Self::Pause,
        Self::Controller,
        Self::Importer,
    ];

    /// The image's repository name.
    #[must_use]
    pub fn repository(self) -> &'static str {
        match self {
            Self::Vm => "coracle.dev/vm",
            Self::DevicePlugin => "coracle.dev/device-plugin",
            Self::Pause => "coracle.dev/pause",
            Self::Controller => "coracle.dev/controller",
            Self::Importer => "coracle.dev/importer",
        }
    }

    /// File name of the image's archive, without its ending.
    #[must_use]
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::DevicePlugin => "device-plugin",
            Self::Pause => "pause",
            Self::Controller => "controller",
            Self::Importer => "importer",
        }
    }

    /// Where the image's program is.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Vm | Self::Pause => "/usr/bin/coracle-shim",
            Self::DevicePlugin => "/usr/bin/coracle-device-plugin",
            Self::Controller => "/usr/bin/coracle-controller",
            Self::Importer => "/usr/bin/coracle-block",
        }
    }

    /// The image's entrypoint.
    #[must_use]
    pub fn entrypoint(self) -> Vec<&'static str> {
        match self {
            Self::Vm => vec![self.program(), "run"],
            Self::Pause => vec![self.program(), "pause", "--sandbox"],
            // The prober is the image of the plugin with the argument `prober`.
            Self::DevicePlugin | Self::Controller | Self::Importer => vec![self.program()],
        }
    }

    /// The user that the image's program runs as.
    ///
    /// The plugin makes sockets and nodes in root's directories on the host;
    /// its pod drops every capability but MKNOD.
    #[must_use]
    pub fn user(self) -> &'static str {
        match self {
            Self::Vm | Self::Pause | Self::Importer => "107:107",
            Self::DevicePlugin => "0:0",
            // Nobody in particular, by the number that images without a user
            // database use for that.
            Self::Controller => "65532:65532",
        }
    }

    /// One line about the image, for its label.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Vm => "Runs one virtual machine: coracle-shim and qemu",
            Self::DevicePlugin => "Gives pods a working /dev/kvm",
            Self::Pause => "Holds a pod sandbox",
            Self::Controller => "Runs virtual machines as pods",
            Self::Importer => "Puts images onto disks: coracle-block import",
        }
    }

    /// The files that the image takes from Debian.
    #[must_use]
    pub fn list(self) -> &'static str {
        match self {
            Self::Vm => include_str!("../vm.list"),
            Self::DevicePlugin | Self::Pause | Self::Controller | Self::Importer => "",
        }
    }
}

/// Files to take, each with the package that holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Package and absolute path.
    pub files: Vec<(String, String)>,
}

/// A line of a list that says neither of the two things it may say.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: expected a package and an absolute path, found {text:?}")]
pub struct RecipeError {
    /// The line's number, from one.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl Recipe {
    /// Reads a list: a package and a path on each line, `#` starts a comment.
    pub fn parse(list: &str) -> Result<Self, RecipeError> {
        let mut files = Vec::new();
        for (index, text) in list.lines().enumerate() {
            let fields: Vec<_> = text
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            match fields[..] {
                [] => {}
                [package, path] if path.starts_with('/') => {
                    files.push((package.to_owned(), path.to_owned()));
                }
                _ => {
                    return Err(RecipeError {
                        line: index + 1,
                        text: text.to_owned(),
                    });
                }
            }
        }
        Ok(Self { files })
    }

    /// The packages that the list names, and the C library where something
    /// needs it: a listed file, or with `dynamic` a program of ours.
    #[must_use]
    pub fn packages(&self, dynamic: bool) -> BTreeSet<String> {
        let named = self.files.iter().map(|(package, _)| package.clone());
        let needed = dynamic || !self.files.is_empty();
        let library = C_LIBRARY.iter().filter(|_| needed).map(ToString::to_string);
        named.chain(library).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_lists_parse_and_keep_qemu_in_usr_bin() {
        for which in Which::ALL {
            Recipe::parse(which.list()).unwrap();
        }
        let vm = Recipe::parse(Which::Vm.list()).unwrap();
        let qemu = (
            "qemu-system-x86".to_owned(),
            "/usr/bin/qemu-system-x86_64".to_owned(),
        );
        assert!(vm.files.contains(&qemu));
    }

    #[test]
    fn only_the_device_plugin_is_root() {
        for which in Which::ALL {
            let root = which.user() == "0:0";
            assert_eq!(root, which == Which::DevicePlugin, "{which:?}");
            assert!(which.entrypoint()[0] == which.program());
            assert!(which.repository().ends_with(which.file_stem()));
        }
    }

    #[test]
    fn a_line_with_a_relative_path_is_refused_with_its_number() {
        let error = Recipe::parse("# ok\nqemu usr/bin/qemu\n").unwrap_err();
        assert_eq!(
            error,
            RecipeError {
                line: 2,
                text: "qemu usr/bin/qemu".to_owned()
            }
        );
    }
}
