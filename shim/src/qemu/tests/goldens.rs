//! The command lines themselves, for a person who knows qemu.

use coracle_api::machine::{Firmware, Machine};

use super::super::{Descriptors, command};
use super::sample;
use crate::prepare::check;

/// The lowest numbers after the three standard streams.
pub(super) const SOCKETS: Descriptors = Descriptors { qmp: 3, serial: 4 };

#[test]
fn every_sample_has_its_golden_command_line() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("goldens");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _bound = settings.bind_to_scope();
    for sample in sample::all() {
        let arguments = command(&sample.machine, &sample.found, &SOCKETS);
        insta::assert_snapshot!(format!("{}.args", sample.name), arguments.join("\n"));
    }
}

#[test]
fn every_sample_is_a_machine_that_prepare_lets_pass() {
    for sample in sample::all() {
        assert_eq!(check(&sample.machine), [], "{}", sample.name);
    }
}

#[test]
fn the_same_machine_makes_the_same_command_line() {
    let render = || {
        let samples = sample::all();
        samples
            .iter()
            .map(|s| command(&s.machine, &s.found, &SOCKETS))
            .collect::<Vec<_>>()
    };
    assert_eq!(render(), render());
}

#[test]
fn without_a_boot_order_firmware_tries_the_disks_in_theirs_but_no_seed() {
    let mut samples = sample::all().into_iter();
    let mut sample = samples
        .find(|sample| sample.name == "sources")
        .expect("a sample");
    sample.machine.disks[0].boot_index = None;
    sample.machine.disks.rotate_right(1);
    let boot_indices = |machine: &Machine| {
        let arguments = command(machine, &sample::found(machine), &SOCKETS);
        let devices = arguments.into_iter().filter(|text| text.contains("drive="));
        let index = |text: String| {
            let value = text.split("bootindex=").nth(1)?.split(',').next()?;
            Some(value.to_owned())
        };
        devices.map(index).collect::<Vec<_>>()
    };
    let tried =
        [None, Some("2"), Some("3"), Some("4"), Some("5")].map(|index| index.map(str::to_owned));
    assert_eq!(boot_indices(&sample.machine), tried);
    sample.machine.firmware = Firmware::Kernel {
        kernel: "/vmlinuz".into(),
        initrd: None,
        cmdline: String::new(),
    };
    assert_eq!(boot_indices(&sample.machine), [const { None }; 5]);
}
