//! VMs that are broken in one place.

use super::*;

const ROOT: &str = "  - name: root\n";
const MEMORY: &str = "  memory: 1Gi\n";

/// The good text, the bad text, what is said of it.
const UNKNOWN: Table = &[
    (
        ROOT,
        "  - name: root\n    bootorder: 1\n",
        "vm.yaml:9:5: spec.disks[0]: unknown field \"bootorder\": did you mean \"bootOrder\"?",
    ),
    (
        "spec:",
        "flavour: x\nspec:",
        "vm.yaml:5:1: unknown field \"flavour\": there are \"apiVersion\", \"kind\", \
             \"metadata\", \"spec\", \"status\"",
    ),
    (
        "  memory: 1Gi",
        "  memory: 1Gi\n  firmware: {bios: {menu: true}}",
        "vm.yaml:7:21: spec.firmware.bios: unknown field \"menu\": there are no fields here",
    ),
    (
        "  name: web\n",
        "  name: web\n  label: {a: b}\n",
        "vm.yaml:5:3: metadata: unknown field \"label\": did you mean \"labels\"?",
    ),
    (
        "  memory: 1Gi",
        "  memory: 1Gi\n  affinity: {nodeAfinity: {}}",
        "vm.yaml:7:14: spec.affinity: unknown field \"nodeAfinity\": did you mean \
             \"nodeAffinity\"?",
    ),
    (
        "  memory: 1Gi",
        "  memory: 1024",
        "vm.yaml:6:11: spec.memory: must be a text, not the number 1024; put it in quotes",
    ),
    (
        "  memory: 1Gi",
        "  memory: 1Gi\n  cpus: two",
        "vm.yaml:7:9: spec.cpus: must be a whole number, not the text \"two\"",
    ),
    (
        "  memory: 1Gi",
        "  memory: 1Gi\n  cpus: 1.5",
        "vm.yaml:7:9: spec.cpus: must be a whole number, not the number 1.5",
    ),
    (
        "  - name: root\n    claim:\n      name: web-root\n",
        "    name: root\n",
        "vm.yaml:8:5: spec.disks: must be a list, not a map; begin each entry with \"- \"",
    ),
    (
        "    claim:\n      name: web-root\n",
        "    claim: web-root\n",
        "vm.yaml:9:12: spec.disks[0].claim: must be a map of fields, not the text \"web-root\"",
    ),
    (
        ROOT,
        "  - name: root\n    readOnly: maybe\n",
        "vm.yaml:9:15: spec.disks[0].readOnly: must be true or false, not the text \"maybe\"",
    ),
    (
        "name: web\n",
        "name: web\n  annotations: {a.b/c: on}\n",
        "vm.yaml:5:24: metadata.annotations[\"a.b/c\"]: must be a text, not true (which an \
             unquoted on means); put it in quotes",
    ),
    (
        "  - name: root\n",
        "  - ~\n  - name: root\n",
        "vm.yaml:8:5: spec.disks[0]: must be a map of fields, not empty",
    ),
    (
        "  memory: 1Gi\n",
        "",
        "vm.yaml:6:3: spec: field \"memory\" is missing",
    ),
    (
        "    claim:\n      name: web-root\n",
        "    claim: {}\n",
        "vm.yaml:9:12: spec.disks[0].claim: field \"name\" is missing",
    ),
    (
        "  memory: 1Gi",
        "  memory:",
        "vm.yaml:6:3: spec: field \"memory\" is missing",
    ),
];

#[test]
fn unknown_fields_and_wrong_types() {
    for &(good, bad, expected) in UNKNOWN {
        assert_eq!(broken_vm(good, bad), expected);
    }
}

/// The same, for values.
const VALUES: Table = &[
    (
        ROOT,
        "  - name: root\n    bus: virtio\n",
        "vm.yaml:9:10: spec.disks[0].bus: unknown value \"virtio\": allowed are \"Virtio\", \
             \"Scsi\", \"Sata\", \"Usb\"",
    ),
    (
        MEMORY,
        "  memory: 1Gi\n  accelerator: TCG\n",
        "vm.yaml:7:16: spec.accelerator: unknown value \"TCG\": allowed are \"Kvm\", \
             \"Emulation\"",
    ),
    (
        MEMORY,
        "  memory: 1Gi\n  cpus: 0\n",
        "vm.yaml:7:9: spec.cpus: 0 is too small: at least 1",
    ),
    (
        MEMORY,
        "  memory: 1Gi\n  cpus: 4294967296\n",
        "vm.yaml:7:9: spec.cpus: 4294967296 is too large: at most 255",
    ),
    (
        MEMORY,
        "  memory: 1GiB\n",
        "vm.yaml:6:11: spec.memory: \"1GiB\" does not match ^[1-9][0-9]{0,6}(Mi|Gi|Ti)$ (The \
             guest's memory: a whole number with the unit Mi, Gi or Ti.)",
    ),
    (
        "  - name: root\n",
        "  - name: root\n    serial: a b\n",
        "vm.yaml:9:13: spec.disks[0].serial: \"a b\" does not match ^[A-Za-z0-9_.+-]+$ (What the \
             guest reads as the disk's serial number; the name's first 20 characters by default.)",
    ),
    (
        "name: web\n",
        "name: Web\n",
        "vm.yaml:4:9: metadata.name: must be lower-case letters, digits and '-', and begin and \
             end with a letter or digit",
    ),
    (
        "metadata:\n  name: web\n",
        "",
        "vm.yaml:1:1: field \"metadata\" is missing",
    ),
    (
        "name: web\n",
        "name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
        "vm.yaml:4:9: metadata.name must have at most 52 characters: the pod is named after it",
    ),
];

#[test]
fn values_that_are_not_allowed() {
    for &(good, bad, expected) in VALUES {
        assert_eq!(broken_vm(good, bad), expected);
    }
}

/// The same, for rules.
const RULES: Table = &[
    (
        ROOT,
        "  - {name: root, claim: {name: other}}\n  - name: root\n",
        "vm.yaml:8:5: spec.disks: two entries have the name \"root\"",
    ),
    (
        ROOT,
        "  - {name: data, claim: {name: web-root}}\n  - name: root\n",
        "vm.yaml:8:5: spec.disks: two disks use the same claim",
    ),
    (
        ROOT,
        "  - {name: data, bootOrder: 1, ephemeral: {size: 1Gi}}\n  - name: root\n    bootOrder: 1\n",
        "vm.yaml:8:5: spec.disks: two disks have the same bootOrder",
    ),
    (
        ROOT,
        "  - name: root\n    ephemeral: {size: 1Gi}\n",
        "vm.yaml:8:5: spec.disks[0]: say exactly one of claim, claimTemplate, image, cloudInit and ephemeral",
    ),
    (
        ROOT,
        "  - name: root\n    shareable: true\n    cache: Writeback\n",
        "vm.yaml:9:16: spec.disks[0].shareable: shareable needs cache None: another VM's \
             writes would not be seen",
    ),
    (
        ROOT,
        "  - {name: seed, cloudInit: {}}\n  - name: root\n",
        "vm.yaml:8:29: spec.disks[0].cloudInit: say exactly one of userData and userDataFrom",
    ),
    (
        MEMORY,
        "  memory: 1Gi\n  cpuTopology: {cores: 2}\n",
        "vm.yaml:7:16: spec.cpuTopology: sockets × cores × threads must equal spec.cpus",
    ),
    (
        MEMORY,
        "  memory: 1Gi\n  firmware: {}\n",
        "vm.yaml:7:13: spec.firmware: say exactly one of bios and kernel",
    ),
    (
        "  disks:\n  - name: root\n    claim:\n      name: web-root\n",
        "",
        "vm.yaml:6:3: spec: nothing to boot from: add a disk with a claim, or \
             spec.firmware.kernel",
    ),
];

#[test]
fn rules_that_span_fields_have_the_clusters_words() {
    for &(good, bad, expected) in RULES {
        assert_eq!(broken_vm(good, bad), expected);
    }
}
