//! What is said of broken VMs. That the API server says the same is tested on
//! a real one.

use super::*;

const VM: &str = "\
apiVersion: coracle.dev/v1alpha1
kind: VirtualMachine
metadata:
  name: web
spec:
  memory: 1Gi
  disks:
  - name: root
    claim: {name: web-root}
";

fn checked(text: &str) -> Checked {
    check(&[Source {
        name: "vm.yaml".to_owned(),
        text: text.to_owned(),
    }])
}

fn broken(good: &str, bad: &str) -> String {
    assert!(VM.contains(good), "{good:?}");
    let lines = checked(&VM.replacen(good, bad, 1)).problems;
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn each_problem_has_the_servers_words_and_its_own_line() {
    for (good, bad, said) in [
        (
            "  memory: 1Gi\n",
            "",
            "vm.yaml:6:3: spec.memory: Required value",
        ),
        (
            "1Gi",
            "2G",
            "vm.yaml:6:11: spec.memory: Invalid value: \"2G\": spec.memory in body should match \
             '^[1-9][0-9]{0,6}(Mi|Gi|Ti)$'",
        ),
        (
            "1Gi",
            "2048",
            "vm.yaml:6:11: spec.memory: Invalid value: \"integer\": spec.memory in body must be of \
             type string: \"integer\"",
        ),
        (
            "  disks:",
            "  cpus: 0\n  disks:",
            "vm.yaml:7:9: spec.cpus: Invalid value: 0: spec.cpus in body should be greater than or \
             equal to 1",
        ),
        (
            "  disks:",
            "  cpu: 1\n  disks:",
            "vm.yaml:7:3: unknown field \"spec.cpu\"",
        ),
        (
            "  disks:",
            "  runPolicy: Sometimes\n  disks:",
            "vm.yaml:7:14: spec.runPolicy: Unsupported value: \"Sometimes\": supported values: \
             \"Always\", \"OnFailure\", \"Once\", \"Halted\"",
        ),
        (
            "  - name: root",
            "  - {name: root, claim: {name: other}}\n  - name: root",
            "vm.yaml:9:5: spec.disks[1]: Duplicate value: {\"name\":\"root\"}",
        ),
        (
            "    claim: {name: web-root}",
            "    ephemeral: {size: 1Gi}\n    queues: 2\n    bus: Scsi",
            "vm.yaml:10:13: spec.disks[0].queues: Invalid value: queues needs bus Virtio",
        ),
        (
            "    claim: {name: web-root}",
            "    claimTemplate: {size: 1Gi, accessModes: []}",
            "vm.yaml:9:45: spec.disks[0].claimTemplate.accessModes: Invalid value: 0: \
             spec.disks[0].claimTemplate.accessModes in body should have at least 1 items",
        ),
        (
            "  name: web",
            "  labels: {a: b}",
            "vm.yaml:4:3: metadata.name: Required value: name or generateName is required",
        ),
    ] {
        assert_eq!(broken(good, bad), said);
    }
}

#[test]
fn rules_are_not_asked_of_what_the_schema_refuses() {
    let said = broken(
        "    claim: {name: web-root}",
        "    ephemeral: {size: 1.5Gi}\n    queues: 2\n    bus: Scsi",
    );
    assert!(said.contains("spec.disks[0].ephemeral.size"), "{said}");
    assert!(!said.contains("queues"), "{said}");
}

#[test]
fn several_documents_are_counted_and_other_kinds_left_alone() {
    let text = format!("{VM}---\n{VM}---\napiVersion: v1\nkind: ConfigMap\n");
    let all = checked(&text);
    assert_eq!(
        (all.problems.as_slice(), all.vms, all.others),
        (&[][..], 2, 1)
    );
}

#[test]
fn a_kind_or_version_that_there_is_none_of_is_told() {
    let said = broken("kind: VirtualMachine", "kind: VirtualMachin");
    assert!(
        said.contains("no matches for kind \"VirtualMachin\""),
        "{said}"
    );
    let said = broken("v1alpha1", "v1");
    assert!(said.ends_with("there is coracle.dev/v1alpha1"), "{said}");
    assert!(broken("kind: VirtualMachine", "").contains("apiVersion and kind"));
    assert!(broken("spec:", "spec: [").contains("not YAML"));
}

#[test]
fn a_null_where_there_is_a_default_is_no_mistake() {
    assert_eq!(broken("  disks:", "  cpus: null\n  disks:"), "");
}
