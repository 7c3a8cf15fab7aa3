//! What is read, and how every mistake is told.

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"
resources:
  - name: example.com/a10
    compatibility: [kubevirt, sriov]
    pci:
      - {vendor: 10de, device: 0x2236, subsystem: "10de:1482", class: 0302}
      - address: 3B:00.0
        driver: nvgrace_gpu_vfio_pci
  - name: example.com/vgpu
    mdev: [{type: nvidia-63, parent: "0000:3b:00.4"}]
  - name: example.com/key
    compatibility: kubevirt
    usb: [{vendor: 1050, product: 0407, serial: 0012, port: 1-4.2}]
  - name: example.com/fuse
    chardev:
      - {glob: /dev/fuse, count: 100}
      - glob: /dev/ttyUSB*
"#;

fn problems(text: &str) -> Vec<String> {
    parse(text)
        .expect_err(text)
        .iter()
        .map(Problem::to_string)
        .collect()
}

#[test]
fn everything_that_may_be_said() {
    let settings = parse(GOOD).expect("good");
    let [gpu, vgpu, key, fuse] = settings.resources.as_slice() else {
        panic!("{settings:?}")
    };
    assert_eq!((gpu.name.as_str(), gpu.line), ("example.com/a10", 3));
    assert_eq!(
        gpu.compatibility,
        [Compatibility::Kubevirt, Compatibility::Sriov]
    );
    let Selectors::Pci(pci) = &gpu.selectors else {
        panic!("{gpu:?}")
    };
    assert_eq!(
        pci[0],
        PciSelector {
            line: 6,
            vendor: Some(0x10de),
            device: Some(0x2236),
            subsystem: Some((0x10de, 0x1482)),
            class: Some("0302".into()),
            address: None,
            driver: "vfio-pci".into(),
        }
    );
    assert_eq!(pci[1].address.as_deref(), Some("0000:3b:00.0"));
    assert_eq!(pci[1].driver, "nvgrace_gpu_vfio_pci");
    let Selectors::Mdev(mdev) = &vgpu.selectors else {
        panic!("{vgpu:?}")
    };
    assert_eq!(mdev[0].kind.as_deref(), Some("nvidia-63"));
    let Selectors::Usb(usb) = &key.selectors else {
        panic!("{key:?}")
    };
    assert_eq!(
        (usb[0].vendor, usb[0].product),
        (Some(0x1050), Some(0x0407))
    );
    assert_eq!(usb[0].serial.as_deref(), Some("0012"), "as it was written");
    let Selectors::Chardev(nodes) = &fuse.selectors else {
        panic!("{fuse:?}")
    };
    assert_eq!((nodes[0].glob.as_str(), nodes[0].count), ("fuse", 100));
    assert_eq!((nodes[1].glob.as_str(), nodes[1].count), ("ttyUSB*", 1));
    for empty in ["", "resources: []\n", "# nothing\n", "resources:\n"] {
        assert_eq!(parse(empty), Ok(Settings::default()), "{empty:?}");
    }
}

/// A text, and a part of what is told of it.
const MISTAKES: &[(&str, &str)] = &[
    (
        "resource: []",
        "line 1, column 1: unknown field \"resource\": did you mean \"resources\"?",
    ),
    (
        "[]",
        "line 1, column 1: must be a map of fields, not a list",
    ),
    (
        "resources: {}",
        "column 12: must be a list, not a map; begin each entry with \"- \"",
    ),
    ("a: [", "line 2, column 1: not YAML"),
    (
        "resources: []\n---\nresources: []",
        "line 3, column 1: a second document",
    ),
    (
        "resources: [{pci: [{vendor: 10de}]}]",
        "field \"name\" is missing",
    ),
    (
        "resources: [{name: a10, pci: [{vendor: 10de}]}]",
        "write it as example.com/a10",
    ),
    (
        "resources: [{name: a/b}]",
        "which devices? add one of \"pci\"",
    ),
    (
        "resources: [{name: a/b, pci: []}]",
        "no selector: which devices?",
    ),
    (
        "resources: [{name: a/b, pci: [{}]}]",
        "selects everything: say one of \"vendor\"",
    ),
    (
        "resources: [{name: a/b, pci: [{driver: x}]}]",
        "selects every function",
    ),
    (
        "resources: [{name: a/b, pci: [{vendor: 10}]}]",
        "\"10\" is not a number of 4",
    ),
    (
        "resources: [{name: a/b, pci: [{vendor: [1]}]}]",
        "must be a text, not a list",
    ),
    (
        "resources: [{name: a/b, pci: [{subsystem: 1}]}]",
        "write it as 10de:1851",
    ),
    ("resources: [{name: a/b, pci: [{class: vga}]}]", "as 0300"),
    (
        "resources: [{name: a/b, pci: [{address: 1}]}]",
        "write it as 0000:3b:00.0",
    ),
    (
        "resources: [{name: a/b, pci: [{address: \"0000:3b:20.0\"}]}]",
        "no PCI address",
    ),
    (
        "resources: [{name: a/b, pci: [{vender: 10de}]}]",
        "did you mean \"vendor\"?",
    ),
    (
        "resources: [{name: a/b, usb: [{port: usb1}]}]",
        "/sys/bus/usb/devices, 1-4.2",
    ),
    (
        "resources: [{name: a/b, chardev: [{count: 1}]}]",
        "field \"glob\" is missing",
    ),
    (
        "resources: [{name: a/b, chardev: [{glob: fuse}]}]",
        "write it as /dev/fuse",
    ),
    (
        "resources: [{name: a/b, chardev: [{glob: /dev/../x}]}]",
        "no path of a device",
    ),
    (
        "resources: [{name: a/b, chardev: [{glob: /dev/x, count: 0}]}]",
        "from 1 to 50000",
    ),
    (
        "resources: [{name: a/b, mdev: [{type: x}], usb: [{port: 1-1}]}]",
        "make two of it",
    ),
    (
        "resources: [{name: a/b, compatibility: qemu, usb: [{port: 1-1}]}]",
        "allowed are \"kubevirt\"",
    ),
    (
        "resources: [{name: coracle.dev/tun, usb: [{port: 1-1}]}]",
        "coracle.dev/tun is built in",
    ),
    (
        "resources: [{name: coracle-dev/kvm, usb: [{port: 1-1}]}]",
        "would both be CORACLE_DEVICE",
    ),
];

#[test]
fn every_mistake_is_told_with_its_place_and_how_to_mend_it() {
    for (text, told) in MISTAKES {
        let found = problems(text);
        assert!(found[0].contains(told), "{text}: {found:?}");
    }
}

#[test]
fn two_resources_of_one_name_or_one_variable_are_an_error_that_names_both() {
    let two = |one: &str, other: &str| {
        let spec = |name| format!("  - name: {name}\n    usb: [{{port: 1-1}}]\n");
        problems(&format!("resources:\n{}{}", spec(one), spec(other)))
    };
    assert_eq!(
        two("a.b/c", "a.b/c"),
        ["line 4, column 11: a.b/c is there twice, first in line 2: put both selectors into one"]
    );
    assert_eq!(
        two("a.b/c", "a-b/c"),
        [
            "line 4, column 11: a-b/c and a.b/c (line 2) would both be CORACLE_DEVICE_A_B_C in a \
          container: choose another name"
        ]
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "resources:\n  - name: x\n    usb: [{vendor: z}]\n  - name: y\n    pci: []\n";
    let lines: Vec<_> = parse(text)
        .expect_err("bad")
        .iter()
        .map(|p| p.line)
        .collect();
    assert_eq!(lines, [2, 3, 4, 5]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_with_a_place(bytes in any::<Vec<u8>>()) {
        crate::fuzz::config(&bytes);
    }

    #[test]
    fn a_file_with_slips_is_read_or_refused_with_a_place(
        edits in proptest::collection::vec((0..GOOD.len(), 0_usize..6, "[-:{}\\[\\],&*'\"#a-f0-9 \n]{0,3}"), 1..5)
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(settings) => prop_assert!(settings.resources.iter().all(|s| s.name.contains('/'))),
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }
}
