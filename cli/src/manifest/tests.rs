//! Broken manifests, one per rule, each with the very message it gets.

use super::*;

mod any;
mod documents;
mod good;
mod vm;

/// A VM that is fine, to be broken in one place.
const VM: &str = "\
apiVersion: coracle.dev/v1alpha1
kind: VirtualMachine
metadata:
  name: web
spec:
  memory: 1Gi
  disks:
  - name: root
    claim:
      name: web-root
";

/// Its claim.
const CLAIM: &str = "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: web-root
spec:
  volumeMode: Block
  accessModes:
  - ReadWriteOnce
  resources:
    requests:
      storage: 10Gi
";

fn parse(files: &[(&str, &str)]) -> Result<Manifests, ManifestError> {
    let source = |(name, text): &(&str, &str)| Source {
        name: (*name).into(),
        text: (*text).into(),
    };
    Manifests::parse(&files.iter().map(source).collect::<Vec<_>>())
}

fn problems(files: &[(&str, &str)]) -> String {
    parse(files).expect_err("refused").to_string()
}

type Table = &'static [(&'static str, &'static str, &'static str)];

/// What is said of a VM with one text in place of another.
fn broken_vm(good: &str, bad: &str) -> String {
    assert!(VM.contains(good), "{good:?}");
    problems(&[
        ("vm.yaml", &VM.replacen(good, bad, 1)),
        ("claim.yaml", CLAIM),
    ])
}

fn broken_claim(good: &str, bad: &str) -> String {
    assert!(CLAIM.contains(good), "{good:?}");
    problems(&[
        ("vm.yaml", VM),
        ("claim.yaml", &CLAIM.replacen(good, bad, 1)),
    ])
}
