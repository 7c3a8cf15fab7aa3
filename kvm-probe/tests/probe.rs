//! The probe against this machine's KVM, whatever it can do.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coracle_kvm_probe::{Level, ProbeError, probe};

const KVM: &str = "/dev/kvm";

/// Whether this machine has a KVM for the test, said aloud if not.
fn have_kvm() -> bool {
    match OpenOptions::new().read(true).write(true).open(KVM) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("skipped: {KVM} cannot be opened: {error}");
            false
        }
    }
}

#[test]
fn each_level_implies_the_ones_before_it() {
    if !have_kvm() {
        return;
    }
    let passes = [Level::Open, Level::Run, Level::Kernel].map(|level| {
        let answer = probe(Path::new(KVM), level);
        match &answer {
            Ok(report) => {
                assert_eq!(report.level, level);
                assert_eq!(
                    report.instructions_per_second.is_some(),
                    level == Level::Kernel
                );
                eprintln!("{report}");
            }
            Err(error) => eprintln!("{level}: {error}"),
        }
        answer.is_ok()
    });
    assert!(
        passes.is_sorted_by(|earlier, later| earlier >= later),
        "{passes:?}"
    );
    assert!(passes[0], "a KVM that opens makes a VM");
}

#[test]
fn a_kvm_that_cannot_run_a_kernel_says_why() {
    if !have_kvm() {
        return;
    }
    match probe(Path::new(KVM), Level::Kernel) {
        Ok(report) => assert!(report.instructions_per_second > Some(8_000_000)),
        Err(
            error @ (ProbeError::Slow { .. }
            | ProbeError::NotEmulated { .. }
            | ProbeError::Hung { .. }
            | ProbeError::Stopped { .. }),
        ) => assert!(error.to_string().contains("this KVM") || error.to_string().contains("CPU")),
        Err(other) => panic!("not an answer about the processor: {other}"),
    }
}

#[test]
fn the_answer_is_the_same_again_and_from_many_threads() {
    if !have_kvm() {
        return;
    }
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(|| probe(Path::new(KVM), Level::Run).is_ok()))
        .collect();
    let answers: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().expect("ends"))
        .collect();
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
}

#[test]
fn what_is_not_there_or_not_kvm_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let absent = dir.path().join("kvm");
    let error = probe(&absent, Level::Open).expect_err("absent");
    assert!(
        matches!(&error, ProbeError::Missing { device } if *device == absent),
        "{error}"
    );

    let error = probe(Path::new("/dev/null"), Level::Open).expect_err("not KVM");
    assert!(matches!(error, ProbeError::NotKvm { .. }), "{error}");

    let error = probe(dir.path(), Level::Open).expect_err("a directory");
    assert!(matches!(error, ProbeError::Open { .. }), "{error}");

    let closed = dir.path().join("closed");
    File::create(&closed).expect("creates");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("chmods");
    match probe(&closed, Level::Open).expect_err("closed") {
        ProbeError::Denied { uid, .. } => assert_ne!(uid, 0),
        // root opens it all the same, and finds no KVM.
        error => assert!(matches!(error, ProbeError::NotKvm { .. }), "{error}"),
    }
}
