//! Files and nodes in a directory of the test's.

use nix::sys::stat::makedev;

use super::*;

const KVM: &str = "coracle.dev/kvm";

fn node(own: &str, rdev: u64) -> Node {
    Node::alike("", own, rdev)
}

#[test]
fn a_specification_follows_the_numbers_and_is_withdrawn() {
    let dir = tempfile::tempdir().expect("a directory");
    let cdi = dir.path().join("cdi");
    let path = spec_path(&cdi, KVM);
    for number in [232, 233] {
        let nodes = [node("kvm", makedev(10, number))];
        specify(&cdi, KVM, &[("kvm", &nodes)]).expect("writes");
        let text = fs::read_to_string(&path).expect("is there");
        let spec: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(spec["kind"], KVM);
        assert_eq!(spec["devices"][0]["name"], "kvm");
        let node = &spec["devices"][0]["containerEdits"]["deviceNodes"][0];
        assert_eq!(
            (&node["path"], &node["fileMode"]),
            (&"/dev/kvm".into(), &0o666.into())
        );
        assert_eq!(
            (&node["major"], &node["minor"]),
            (&10.into(), &number.into())
        );
        assert_eq!(fs::read_dir(&cdi).expect("reads").count(), 1);
    }
    let grant = Grant::Cdi { dir: cdi };
    withdraw(&grant, KVM);
    assert!(!path.exists());
    withdraw(&grant, KVM);
}

#[test]
fn kinds_begin_with_letters() {
    assert_eq!(cdi_name(KVM, "kvm"), "coracle.dev/kvm=kvm");
    assert_eq!(
        cdi_name("3dfx.com/5500", "0000:01:00.0"),
        "n3dfx.com/n5500=0000:01:00.0"
    );
}

#[test]
fn specifications_of_resources_that_are_gone_are_removed_and_others_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    for resource in [KVM, "a.b/gone"] {
        specify(dir.path(), resource, &[]).expect("writes");
    }
    fs::write(dir.path().join("vendor.json"), "{}").expect("writes");
    let grant = Grant::Cdi {
        dir: dir.path().to_owned(),
    };
    tidy(&grant, &BTreeSet::new(), &BTreeSet::from([KVM]));
    assert!(spec_path(dir.path(), KVM).exists() && dir.path().join("vendor.json").exists());
    assert!(!spec_path(dir.path(), "a.b/gone").exists());
}

#[test]
fn a_node_is_made_again_when_it_is_wrong_and_removed_when_it_is_not_wanted() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root makes device nodes");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (path, rdev) = (dir.path().join("pci/0/group"), makedev(1, 3));
    place(dir.path(), &[node("pci/0/group", makedev(1, 5))]).expect("another device's");
    assert!(!is_right(&path, rdev));
    let nodes = [node("pci/0/group", rdev), node("kvm", rdev)];
    place(dir.path(), &nodes).expect("makes it again");
    assert!(is_right(&path, rdev));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmods");
    place(dir.path(), &nodes).expect("opens it again");
    assert!(is_right(&path, rdev));
    let grant = Grant::Node {
        dir: dir.path().to_owned(),
    };
    withdraw(&grant, KVM);
    tidy(
        &grant,
        &BTreeSet::from(["pci/0/group".into()]),
        &BTreeSet::new(),
    );
    assert!(is_right(&path, rdev), "containers that restart need it");
    tidy(&grant, &BTreeSet::new(), &BTreeSet::new());
    assert!(!dir.path().join("pci/0").exists());
    assert!(is_right(&dir.path().join("kvm"), rdev), "a built-in's");
}

#[test]
fn what_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("file"), "").expect("writes");
    let error = place(&dir.path().join("file"), &[node("kvm", 0)]).expect_err("a file");
    assert!(matches!(error, GrantError::Directory { .. }), "{error}");

    fs::create_dir(spec_path(dir.path(), KVM)).expect("in the way");
    let error = specify(dir.path(), KVM, &[]).expect_err("a directory");
    assert!(matches!(error, GrantError::Spec { .. }), "{error}");

    fs::create_dir(dir.path().join("kvm")).expect("in the way");
    let error = place(dir.path(), &[node("kvm", 0)]).expect_err("a directory");
    assert!(matches!(error, GrantError::Node { .. }), "{error}");
}
