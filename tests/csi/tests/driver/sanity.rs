//! The driver held to csi-sanity, the conformance tests of CSI.

use std::process::{Command, Output};

use coracle_tests::skip;

use crate::kit::Driver;

/// csi-sanity, built when it is not there; `None`, after saying why, where it
/// cannot be.
fn sanity() -> Option<Command> {
    let script = format!("{}/../../scripts/kubernetes.sh", env!("CARGO_MANIFEST_DIR"));
    let found = Command::new(script).arg("csi-sanity").output();
    match found {
        Ok(Output { status, stdout, .. }) if status.success() => {
            let dir = String::from_utf8_lossy(&stdout).trim().to_owned();
            Some(Command::new(format!("{dir}/csi-sanity")))
        }
        Ok(Output { stderr, .. }) => {
            let said = String::from_utf8_lossy(&stderr);
            skip(&format!(
                "csi-sanity: {}",
                said.trim().lines().last().unwrap_or_default()
            ));
            None
        }
        Err(error) => {
            skip(&format!("csi-sanity: {error}"));
            None
        }
    }
}

/// Holds the driver to csi-sanity, and looks whether anything is left.
fn is_sane(access: &str) -> anyhow::Result<()> {
    let Some(driver) = Driver::start()? else {
        return Ok(());
    };
    let Some(mut sanity) = sanity() else {
        return Ok(());
    };
    let ended = sanity
        .arg("--csi.endpoint")
        .arg(driver.endpoint())
        .args(["--csi.testvolumeaccesstype", access])
        .arg("--csi.mountdir")
        .arg(driver.dir().join("target"))
        .arg("--csi.stagingdir")
        .arg(driver.dir().join("staging"))
        .args(["--csi.testvolumesize", "67108864"])
        .args(["--csi.testvolumeexpandsize", "134217728"])
        .arg("--ginkgo.no-color")
        .output()?;
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}\n{}", driver.log());
    let ran = said.lines().find(|line| line.starts_with("Ran "));
    assert!(
        ran.is_some_and(|line| !line.starts_with("Ran 0 ")),
        "{said}"
    );
    assert_eq!(driver.leftovers(), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_block_device_driver_passes_csi_sanity() -> anyhow::Result<()> {
    is_sane("block")
}

#[test]
fn a_file_system_driver_passes_csi_sanity() -> anyhow::Result<()> {
    is_sane("mount")
}
