//! All volumes of a VM together.

use super::*;
use crate::manifest::{Manifests, Source};

const VM: &str = "
apiVersion: coracle.dev/v1alpha1
kind: VirtualMachine
metadata: {name: web}
spec:
  memory: 1Gi
  firmware: {kernel: {claim: {name: boot}, path: vmlinuz}}
  disks:
  - {name: a, claim: {name: a}}
  - {name: b, claim: {name: b}, readOnly: true}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {volumeMode: Block, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: b}, spec: {volumeMode: Block, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: boot}, spec: {accessModes: [ReadOnlyMany], resources: {requests: {storage: 1Mi}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: spare}, spec: {accessModes: [ReadOnlyMany], resources: {requests: {storage: 1Mi}}}}
";

fn manifests() -> Manifests {
    let source = Source {
        name: "vm.yaml".into(),
        text: VM.into(),
    };
    Manifests::parse(&[source]).expect("manifests")
}

fn attach_set(
    dir: &TempDir,
    args: &[(&str, &Path)],
) -> Result<BTreeMap<String, Attached>, VolumeError> {
    let manifests = manifests();
    let args: Vec<_> = args
        .iter()
        .map(|(claim, path)| VolumeArg {
            claim: (*claim).into(),
            path: (*path).into(),
        })
        .collect();
    attach_all(
        &args,
        &manifests.vm,
        &manifests.claims,
        &dir.path().join("nodes"),
    )
}

#[test]
fn sets_that_are_not_complete_or_not_wanted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = Path::new("/dev/null");
    for (args, expected) in [
        (
            &[("a", path), ("x", path)][..],
            "--volume \"x\": no manifest has a PersistentVolumeClaim of that name (there is: a, b, \
             boot, spare)",
        ),
        (
            &[("spare", path)],
            "--volume \"spare\": the VM uses no claim of that name (it uses: a, b, boot)",
        ),
        (
            &[("a", path), ("a", path)],
            "--volume names claim \"a\" twice; give it one path",
        ),
        (
            &[("a", path), ("b", path)],
            "the VM uses claim \"boot\", and nothing plays it; add `--volume boot=PATH` with a \
             directory",
        ),
        (
            &[("b", path), ("boot", path)],
            "the VM uses claim \"a\", and nothing plays it; add `--volume a=PATH` with a block \
             device or an image file",
        ),
    ] {
        let error = attach_set(&dir, args).expect_err(expected);
        assert_eq!(message(&error), expected);
    }
    let manifests = manifests();
    let error = attach_all(&[], &manifests.vm, &BTreeMap::new(), dir.path()).expect_err("none");
    assert!(
        matches!(error, VolumeError::ClaimMissing { .. }),
        "{error:?}"
    );
}

#[test]
fn one_device_for_two_claims() {
    let Some(dir) = workplace() else { return };
    let boot = dir.path().join("boot");
    fs::create_dir(&boot).expect("directory");
    let image = image(&dir, "a.img");
    let link = dir.path().join("link");
    symlink(&image, &link).expect("link");
    let host = HostDisk::new(&dir);
    let partition = host.partition();
    for (a, b) in [
        (&image, &link),
        (&host.0, &partition),
        (&partition, &host.0),
    ] {
        let error = attach_set(&dir, &[("a", a), ("b", b), ("boot", &boot)]).expect_err("same");
        assert!(matches!(error, VolumeError::SameDevice { .. }), "{error:?}");
    }
    let attached =
        attach_set(&dir, &[("a", &image), ("b", &host.0), ("boot", &boot)]).expect("set");
    assert_eq!(attached.keys().collect::<Vec<_>>(), ["a", "b", "boot"]);
    drop(attached);
    // One that fails takes the others with it.
    let missing = dir.path().join("missing");
    attach_set(&dir, &[("a", &image), ("b", &missing), ("boot", &boot)]).expect_err("missing");
    attach_set(&dir, &[("a", &image), ("b", &host.0), ("boot", &boot)]).expect("all free again");
}
