//! The files of a direct kernel boot, opened as qemu will open them.

use std::fs::File;
use std::io;
use std::path::Path;

use coracle_api::machine::Firmware;

use super::Problem;
use crate::refusal::Refusal;

/// Checks that the kernel and the initial ram disk are files and readable.
pub(super) fn check_files(firmware: &Firmware) -> Result<(), Refusal> {
    let Firmware::Kernel { kernel, initrd, .. } = firmware else {
        return Ok(());
    };
    check_file("kernel", Path::new(kernel))?;
    initrd
        .as_deref()
        .map_or(Ok(()), |initrd| check_file("initrd", Path::new(initrd)))
}

fn check_file(what: &'static str, path: &Path) -> Result<(), Refusal> {
    let impossible = |why| Refusal::Impossible {
        problems: vec![Problem::Boot {
            what,
            path: path.to_owned(),
            why,
        }],
    };
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(impossible("is not there"));
        }
        Err(source) => {
            return Err(Refusal::Boot {
                what,
                path: path.to_owned(),
                source,
            });
        }
    };
    if !metadata.is_file() {
        return Err(impossible("is not a file"));
    }
    if metadata.len() == 0 {
        return Err(impossible("is empty"));
    }
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(Refusal::Boot {
            what,
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::report::TerminationReason;

    fn firmware(kernel: &Path, initrd: Option<&Path>) -> Firmware {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        Firmware::Kernel {
            kernel: text(kernel),
            initrd: initrd.map(text),
            cmdline: String::new(),
        }
    }

    #[test]
    fn a_missing_empty_or_odd_file_is_a_mistake_of_the_manifest() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (good, empty) = (dir.path().join("vmlinuz"), dir.path().join("empty"));
        std::fs::write(&good, b"MZ").expect("a kernel");
        std::fs::write(&empty, b"").expect("an empty file");
        assert!(check_files(&firmware(&good, None)).is_ok());
        assert!(check_files(&firmware(&good, Some(&good))).is_ok());
        let missing = dir.path().join("missing");
        for (what, bad, word) in [
            ("kernel", missing.as_path(), "is not there"),
            ("kernel", dir.path(), "is not a file"),
            ("kernel", &empty, "is empty"),
            ("initrd", &missing, "is not there"),
        ] {
            let firmware = match what {
                "kernel" => firmware(bad, None),
                _ => firmware(&good, Some(bad)),
            };
            let refusal = check_files(&firmware).expect_err(word);
            assert_eq!(refusal.reason(), TerminationReason::InvalidMachine);
            let text = refusal.message();
            assert!(text.contains(what) && text.contains(word), "{text}");
        }
    }

    #[test]
    fn what_the_system_refuses_is_the_hosts_trouble() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("vmlinuz");
        std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
        let refusal = check_files(&firmware(&path, None)).expect_err("a loop");
        assert_eq!(refusal.reason(), TerminationReason::HostFailed);
    }
}
