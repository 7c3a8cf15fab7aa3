//! A pod's volumes on the host, as a container would find them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::volume::mountinfo;

struct Bench {
    dir: TempDir,
    secrets: BTreeMap<String, Secret>,
    config_maps: BTreeMap<String, ConfigMap>,
    claims: BTreeMap<String, AttachedVolume>,
}

impl Bench {
    /// Or nothing where a tmpfs cannot be mounted.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting a tmpfs needs root");
            return None;
        }
        let secret = json!({"metadata": {"name": "seed"}, "data": {"userdata": "I2Nsb3Vk", "other": "eA=="}});
        let map = json!({"metadata": {"name": "files"}, "data": {"a": "text"}, "binaryData": {"b": "AAE="}});
        Some(Self {
            dir: tempfile::tempdir().expect("temporary directory"),
            secrets: BTreeMap::from([(
                "seed".into(),
                serde_json::from_value(secret).expect("secret"),
            )]),
            config_maps: BTreeMap::from([(
                "files".into(),
                serde_json::from_value(map).expect("map"),
            )]),
            claims: BTreeMap::from([
                ("root".into(), AttachedVolume::Block("/nodes/root".into())),
                (
                    "kernel".into(),
                    AttachedVolume::Directory("/srv/kernel".into()),
                ),
            ]),
        })
    }

    fn places(&self) -> Places {
        Places {
            volumes: self.dir.path().join("volumes"),
            disk: self.dir.path().join("disk"),
        }
    }

    fn realize(&self, pod: &Pod) -> Result<PodVolumes, PodVolumeError> {
        let sources = Sources {
            secrets: &self.secrets,
            config_maps: &self.config_maps,
            claims: self.claims.clone(),
        };
        realize(pod, &self.places(), &sources)
    }

    /// The error of a pod with this one volume, and that nothing is left.
    fn refusal(&self, volume: Value) -> String {
        let mut volume = volume;
        volume["name"] = "v".into();
        let error = self.realize(&pod(&json!([volume]))).expect_err("refused");
        self.assert_gone();
        error.to_string()
    }

    fn assert_gone(&self) {
        let real = fs::canonicalize(self.dir.path()).expect("path");
        assert_eq!(
            mountinfo::below(&real).expect("mounts"),
            Vec::<PathBuf>::new()
        );
        assert!(!self.places().volumes.exists());
        assert!(!self.places().disk.exists());
    }
}

fn pod(volumes: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "uid": "b7a1",
            "labels": {"coracle.dev/vm": "web", "app": "x"},
            "annotations": {"coracle.dev/machine": "{\"version\":1}", "note": "a \"b\"\n\u{1}é\\"},
        },
        "spec": {
            "securityContext": {"fsGroup": 107},
            "containers": [{"name": "vm", "resources": {"limits": {"memory": "64Mi"}}}],
            "volumes": volumes,
        },
    }))
    .expect("pod")
}

fn config_volume() -> Value {
    json!([{"name": "config", "downwardAPI": {"items": [
        {"path": "machine.json", "fieldRef": {"fieldPath": "metadata.annotations['coracle.dev/machine']"}},
        {"path": "desired", "fieldRef": {"fieldPath": "metadata.annotations['coracle.dev/desired']"}},
        {"path": "pod/name", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "pod/namespace", "fieldRef": {"fieldPath": "metadata.namespace"}},
        {"path": "pod/uid", "fieldRef": {"fieldPath": "metadata.uid"}},
        {"path": "vm", "fieldRef": {"fieldPath": "metadata.labels['coracle.dev/vm']"}},
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
    ]}}])
}

fn text(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).expect(file)
}

/// Group and mode.
fn access(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).expect("metadata");
    (metadata.gid(), metadata.mode() & 0o7777)
}

fn is_tmpfs(path: &Path) -> bool {
    statfs(path).expect("statfs").filesystem_type() == TMPFS_MAGIC
}

#[test]
fn the_downward_api_shows_the_pods_metadata() {
    let Some(bench) = Bench::new() else { return };
    let made = bench.realize(&pod(&config_volume())).expect("volumes");
    let dir = &made.mounts()["config"];
    assert!(is_tmpfs(dir));
    assert_eq!(text(dir, "machine.json"), "{\"version\":1}");
    assert_eq!(text(dir, "desired"), "");
    assert_eq!(text(dir, "pod/name"), "web-1");
    assert_eq!(text(dir, "pod/namespace"), "shop");
    assert_eq!(text(dir, "pod/uid"), "b7a1");
    assert_eq!(text(dir, "vm"), "web");
    assert_eq!(text(dir, "labels"), "app=\"x\"\ncoracle.dev/vm=\"web\"");
    assert_eq!(
        text(dir, "annotations"),
        "coracle.dev/machine=\"{\\\"version\\\":1}\"\nnote=\"a \\\"b\\\"\\n\\x01é\\\\\""
    );
    assert_eq!(access(&dir.join("machine.json")), (107, 0o644));
    assert_eq!(access(&dir.join("pod/name")), (107, 0o440));
    assert_eq!(access(&dir.join("pod")), (107, 0o2755));
    made.teardown().expect("gone");
    bench.assert_gone();
}

#[test]
fn a_changed_annotation_changes_all_files_at_once() {
    let Some(bench) = Bench::new() else { return };
    let mut pod = pod(&config_volume());
    let made = bench.realize(&pod).expect("volumes");
    let dir = &made.mounts()["config"];
    let data = || fs::read_link(dir.join("..data")).expect("link");
    let before = data();
    update(&pod, &bench.places()).expect("update");
    assert_eq!(data(), before, "nothing changed, nothing is written");

    let held = fs::File::open(dir.join("desired")).expect("open");
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert("coracle.dev/desired".into(), "Paused".into());
    update(&pod, &bench.places()).expect("update");
    assert_ne!(data(), before);
    assert_eq!(text(dir, "desired"), "Paused");
    assert_eq!(std::io::read_to_string(held).expect("old file"), "");
    assert_eq!(
        fs::read_link(dir.join("desired")).expect("link"),
        Path::new("..data/desired")
    );
    assert!(!dir.join(before).exists());
    assert_eq!(access(&dir.join("desired")), (107, 0o644));

    // An item less: its file goes, and so does what a crash left behind.
    fs::create_dir(dir.join("..payload.crash1")).expect("directory");
    std::os::unix::fs::symlink("nowhere", dir.join("..data_tmp")).expect("link");
    let volumes = pod
        .spec
        .as_mut()
        .and_then(|spec| spec.volumes.as_mut())
        .expect("volumes");
    let items = volumes[0]
        .downward_api
        .as_mut()
        .and_then(|api| api.items.as_mut());
    items.expect("items").retain(|item| item.path == "desired");
    update(&pod, &bench.places()).expect("update");
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("directory")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let current = data();
    assert_eq!(
        names,
        ["..data", current.to_str().expect("UTF-8"), "desired"]
    );
}

#[test]
fn secrets_are_in_memory_and_config_maps_are_not() {
    let Some(bench) = Bench::new() else { return };
    let made = bench
        .realize(&pod(&json!([
            {"name": "all", "secret": {"secretName": "seed", "defaultMode": 0o400}},
            {"name": "one", "secret": {"secretName": "seed", "items": [{"key": "userdata", "path": "nocloud/user-data"}]}},
            {"name": "files", "configMap": {"name": "files"}},
            {"name": "none", "configMap": {"name": "absent", "optional": true}},
        ])))
        .expect("volumes");
    let dir = |name: &str| made.mounts()[name].as_path();
    assert!(is_tmpfs(dir("all")));
    assert_eq!(text(dir("all"), "userdata"), "#cloud");
    assert_eq!(text(dir("all"), "other"), "x");
    assert_eq!(access(&dir("all").join("userdata")), (107, 0o440));
    assert_eq!(text(dir("one"), "nocloud/user-data"), "#cloud");
    assert!(!dir("one").join("other").exists());
    assert_eq!(text(dir("files"), "a"), "text");
    assert_eq!(fs::read(dir("files").join("b")).expect("b"), [0, 1]);
    assert_eq!(
        fs::read_dir(dir("none").join("..data"))
            .expect("empty")
            .count(),
        0
    );
    // Whoever is not root does not get as far as these open directories.
    assert_eq!(access(&bench.places().volumes).1, 0o700);
}

#[test]
fn empty_directories_are_where_and_as_large_as_they_say() {
    let Some(bench) = Bench::new() else { return };
    let made = bench
        .realize(&pod(&json!([
            {"name": "run", "emptyDir": {"medium": "Memory"}},
            {"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "disk-scratch", "emptyDir": {"sizeLimit": "10Gi"}},
        ])))
        .expect("volumes");
    let size = |name: &str| {
        let stat = statfs(&made.mounts()[name]).expect("statfs");
        stat.blocks() * u64::try_from(stat.block_size()).expect("size")
    };
    assert_eq!(size("run"), 64 << 20, "the pod's limit");
    assert_eq!(size("small"), 1 << 20, "its own");
    let scratch = &made.mounts()["disk-scratch"];
    assert!(scratch.starts_with(bench.places().disk));
    for name in ["run", "small", "disk-scratch"] {
        assert_eq!(access(&made.mounts()[name]), (107, 0o2777), "{name}");
        fs::write(made.mounts()[name].join("f"), "x").expect("write");
        assert_eq!(access(&made.mounts()[name].join("f")).0, 107, "{name}");
    }
}

#[test]
fn claims_are_handed_through() {
    let Some(bench) = Bench::new() else { return };
    let volumes = json!([
        {"name": "disk-root", "persistentVolumeClaim": {"claimName": "root"}},
        {"name": "kernel", "persistentVolumeClaim": {"claimName": "kernel", "readOnly": true}},
    ]);
    let made = bench.realize(&pod(&volumes)).expect("volumes");
    assert_eq!(
        *made.devices(),
        BTreeMap::from([("disk-root".into(), "/nodes/root".into())])
    );
    assert_eq!(
        *made.mounts(),
        BTreeMap::from([("kernel".into(), "/srv/kernel".into())])
    );
}

#[test]
fn teardown_needs_the_directories_only() {
    let Some(bench) = Bench::new() else { return };
    let volumes = json!([{"name": "run", "emptyDir": {"medium": "Memory"}}]);
    let made = bench.realize(&pod(&volumes)).expect("volumes");
    let run = made.mounts()["run"].clone();
    made.release();
    assert!(is_tmpfs(&run), "released volumes stay");
    // As after a crash, with a file of the VM's still open; and twice mounted.
    let open = fs::File::create(run.join("open")).expect("file");
    super::scratch::make(&run, super::scratch::Medium::Memory { limit: None }).expect("mount");
    teardown(&bench.places()).expect("gone");
    bench.assert_gone();
    drop(open);
    teardown(&bench.places()).expect("twice is harmless");

    bench.realize(&pod(&volumes)).expect("again").release();
    drop(
        bench
            .realize(&pod(&volumes))
            .expect("over what a crash left"),
    );
    bench.assert_gone();
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let refusals = [
        (
            json!({"hostPath": {"path": "/"}}),
            "is of a kind that one machine cannot play",
        ),
        (
            json!({"emptyDir": {"medium": "HugePages"}}),
            "unknown medium \"HugePages\"",
        ),
        (
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": "much"}}),
            "\"much\" is not a quantity",
        ),
        (
            json!({"secret": {"secretName": "absent"}}),
            "no manifest has the Secret \"absent\"",
        ),
        (json!({"secret": {}}), "does not name its Secret"),
        (
            json!({"secret": {"secretName": "seed", "items": [{"key": "meta", "path": "m"}]}}),
            "the Secret \"seed\" has no key \"meta\" (it has: other, userdata)",
        ),
        (
            json!({"configMap": {"name": "absent"}}),
            "no manifest has the ConfigMap \"absent\"",
        ),
        (
            json!({"secret": {"secretName": "seed", "items": [{"key": "other", "path": "../x"}]}}),
            "\"../x\" cannot be the path of a file",
        ),
        (
            json!({"secret": {"secretName": "seed", "defaultMode": 512}}),
            "512 is not a file mode",
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "spec.nodeName"}}]}}),
            "the field \"spec.nodeName\" cannot be shown",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "x"}}),
            "add `--volume x=PATH`",
        ),
    ];
    for (volume, expected) in refusals {
        let message = bench.refusal(volume);
        assert!(message.contains(expected), "{message}");
    }
    let mut pod = pod(&json!([{"name": "v", "emptyDir": {}}]));
    let context = pod
        .spec
        .as_mut()
        .and_then(|spec| spec.security_context.as_mut());
    context.expect("security context").fs_group = Some(-1);
    let error = bench.realize(&pod).expect_err("group");
    assert!(
        matches!(error, PodVolumeError::FsGroup { group: -1 }),
        "{error:?}"
    );
}
