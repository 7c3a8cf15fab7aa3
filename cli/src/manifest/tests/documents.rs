//! Broken claims, secrets and config maps, and documents that do not fit together.

use super::*;

/// The good text, the bad text, what is said of it.
const CLAIMS: Table = &[
    (
        "volumeMode: Block",
        "volumeMode: block",
        "claim.yaml:6:15: spec.volumeMode: unknown value \"block\": allowed are \"Block\", \
             \"Filesystem\"",
    ),
    (
        "- ReadWriteOnce",
        "- RWO",
        "claim.yaml:8:5: spec.accessModes[0]: unknown value \"RWO\": allowed are \
             \"ReadWriteOnce\", \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOncePod\"",
    ),
    (
        "  accessModes:\n  - ReadWriteOnce\n",
        "",
        "claim.yaml:6:3: spec.accessModes: at least one access mode is required",
    ),
    (
        "storage: 10Gi",
        "storage: 10GB",
        "claim.yaml:11:16: spec.resources.requests.storage: \"10GB\" is not a quantity: a \
             number, and perhaps a unit, Ki, Mi, Gi, Ti, Pi, Ei, k, M, G, T, P or E",
    ),
    (
        "storage: 10Gi",
        "storage: [10Gi]",
        "claim.yaml:11:16: spec.resources.requests.storage: must be a quantity, say 10Gi, not \
             a list",
    ),
    (
        "      storage: 10Gi\n",
        "      size: 10Gi\n",
        "claim.yaml:11:7: spec.resources.requests: field \"storage\" is missing: say how large \
             the volume is to be, say 10Gi",
    ),
    (
        "  name: web-root",
        "  name: web_root",
        "claim.yaml:4:9: metadata.name: \"web_root\" cannot be a name: lower-case letters, \
             digits, '-' and '.' only, beginning and ending with a letter or digit",
    ),
    (
        "metadata:\n  name: web-root\n",
        "",
        "claim.yaml:1:1: field \"metadata\" is missing",
    ),
    (
        "  name: web-root",
        "  name: web-root\n  namespace: shop",
        "claim.yaml:5:14: metadata.namespace: must be \"default\", the VM's own: a VM uses \
             objects of its namespace only",
    ),
    (
        "  name: web-root",
        "  name: other",
        "vm.yaml:10:13: spec.disks[0].claim.name: no manifest has the PersistentVolumeClaim \
             \"web-root\"; add it to the files",
    ),
    (
        "  storage: 10Gi",
        "  storage: 10Gi\n  volumename: x",
        "claim.yaml:12:3: spec: unknown field \"volumename\": did you mean \"volumeName\"?",
    ),
];

#[test]
fn claims_are_checked_as_the_api_server_does() {
    for &(good, bad, expected) in CLAIMS {
        assert_eq!(broken_claim(good, bad), expected);
    }
    let no_spec = CLAIM.split("spec:").next().expect("head");
    assert_eq!(
        problems(&[("vm.yaml", VM), ("claim.yaml", no_spec)]),
        "claim.yaml:1:1: field \"spec\" is missing"
    );
}

#[test]
fn secrets_and_config_maps_are_checked() {
    for (text, expected) in [
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {userdata: '###'}}",
            "more.yaml:1:70: data.userdata: not base64; encode it with `base64 -w0`, or write it as it \
             is, in a Secret under stringData",
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a/b: x}}",
            "more.yaml:1:1: data[\"a/b\"]: \"a/b\" cannot be a key: letters, digits, '-', '_' and \
             '.' only",
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringdata: {a: x}}",
            "more.yaml:1:53: unknown field \"stringdata\": did you mean \"stringData\"?",
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {port: 80}}",
            "more.yaml:1:69: data.port: must be a text, not the number 80; put it in quotes",
        ),
    ] {
        assert_eq!(
            problems(&[("vm.yaml", VM), ("claim.yaml", CLAIM), ("more.yaml", text)]),
            expected
        );
    }
    let seed = VM.replace(
        "  - name: root",
        "  - name: seed\n    cloudInit: {userDataFrom: {secretName: seed}}\n  - name: root",
    );
    assert_eq!(
        problems(&[("vm.yaml", &seed), ("claim.yaml", CLAIM)]),
        "vm.yaml:9:44: spec.disks[0].cloudInit.userDataFrom.secretName: no manifest has the Secret \
         \"seed\"; add it to the files"
    );
    let kernel = VM.replace(
        "  disks:",
        "  firmware: {kernel: {claim: {name: boot}, path: vmlinuz}}\n  disks:",
    );
    assert_eq!(
        problems(&[("vm.yaml", &kernel), ("claim.yaml", CLAIM)]),
        "vm.yaml:7:37: spec.firmware.kernel.claim.name: no manifest has the PersistentVolumeClaim \
         \"boot\"; add it to the files"
    );
}

#[test]
fn documents_that_are_not_ours_or_there_twice() {
    let with =
        |text: &str| problems(&[("vm.yaml", VM), ("claim.yaml", CLAIM), ("more.yaml", text)]);
    for (text, expected) in [
        (
            "apiVersion: v1\nkind: Pod\n",
            "more.yaml:2:7: kind: unknown kind \"Pod\": allowed are \"VirtualMachine\", \
             \"PersistentVolumeClaim\", \"Secret\", \"ConfigMap\"",
        ),
        (
            "apiVersion: v1\nkind: PersistentVolumeclaims\n",
            "more.yaml:2:7: kind: unknown kind \"PersistentVolumeclaims\": allowed are \
             \"VirtualMachine\", \"PersistentVolumeClaim\", \"Secret\", \"ConfigMap\": did you mean \
             \"PersistentVolumeClaim\"?",
        ),
        (
            "kind: VirtualMachine\napiVersion: coracle.dev/v1\n",
            "more.yaml:2:13: apiVersion: a VirtualMachine of version \"coracle.dev/v1\" is not \
             known: write coracle.dev/v1alpha1",
        ),
        (
            "kind: Secret\n",
            "more.yaml:1:1: not a Kubernetes object: it needs the fields apiVersion and kind",
        ),
        (
            "- 1\n",
            "more.yaml:1:1: not a Kubernetes object: it has no fields apiVersion, kind, metadata",
        ),
        (
            "a: [\n",
            "more.yaml:2:1: not YAML: while parsing a node, did not find expected node content",
        ),
        (
            CLAIM,
            "more.yaml:1:1: the PersistentVolumeClaim \"web-root\" is there twice, first in \
             claim.yaml:1",
        ),
        (
            VM,
            "more.yaml:1:1: a second VirtualMachine, \"web\" (the first, \"web\", is in \
             vm.yaml:1); one is run at a time",
        ),
    ] {
        assert_eq!(with(text), expected);
    }
    assert_eq!(
        problems(&[("claim.yaml", CLAIM), ("more.yaml", "")]),
        "claim.yaml, more.yaml: no VirtualMachine; add a document with apiVersion: \
         coracle.dev/v1alpha1, kind: VirtualMachine"
    );
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let vm = VM
        .replace("memory: 1Gi", "memory: 1\n  cpu: 2")
        .replace("claim:", "claims:");
    let claim = CLAIM.replace("Block", "Raw");
    assert_eq!(
        problems(&[("vm.yaml", &vm), ("claim.yaml", &claim)]),
        "the manifests have 4 problems:\n\
         vm.yaml:6:11: spec.memory: must be a text, not the number 1; put it in quotes\n\
         vm.yaml:7:3: spec: unknown field \"cpu\": did you mean \"cpus\"?\n\
         vm.yaml:10:5: spec.disks[0]: unknown field \"claims\": did you mean \"claim\"?\n\
         claim.yaml:6:15: spec.volumeMode: unknown value \"Raw\": allowed are \"Block\", \"Filesystem\""
    );
}
