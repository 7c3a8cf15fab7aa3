//! Who may do what in the API: the controller what `deploy/controller/rbac.yaml`
//! lists, and nothing else; everyone else nothing at all.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use coracle_e2e::{
    BlockVolume, Cluster, Machine, NAMESPACE, Namespace, Right, all_rights, rights_of, vm_object,
};
use coracle_tests::processes;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde::Deserialize as _;
use serde_json::{Value, json};

const GRANTED: &str = include_str!("../../../../deploy/controller/rbac.yaml");
const GUIDE: &str = include_str!("../../../../docs/security.md");
const CONTROLLER: (&str, &str) = (NAMESPACE, "coracle-controller");
/// An account that nobody has granted anything.
const NOBODY: (&str, &str) = (NAMESPACE, "nobody");
/// A namespace of users.
const ELSEWHERE: &str = "default";

/// The rules, each with the namespace that it is for; `None` is all.
fn rules() -> anyhow::Result<Vec<(Option<&'static str>, PolicyRule)>> {
    let mut rules = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(GRANTED) {
        let object = Value::deserialize(document)?;
        let (place, found) = match object["kind"].as_str() {
            Some("ClusterRole") => (None, serde_json::from_value::<ClusterRole>(object)?.rules),
            Some("Role") => (
                Some(NAMESPACE),
                serde_json::from_value::<Role>(object)?.rules,
            ),
            _ => continue,
        };
        rules.extend(
            found
                .unwrap_or_default()
                .into_iter()
                .map(|rule| (place, rule)),
        );
    }
    ensure!(rules.len() > 3, "{} rules", rules.len());
    Ok(rules)
}

/// Whether a rule grants a right, word by word: no rule has a wildcard.
fn grants((place, rule): &(Option<&str>, PolicyRule), right: &Right) -> bool {
    let has = |words: &Option<Vec<String>>, word: &str| {
        words
            .as_ref()
            .is_some_and(|words| words.iter().any(|it| it == word))
    };
    let named = rule.resource_names.is_none() || has(&rule.resource_names, &right.name);
    place.is_none_or(|place| place == right.namespace)
        && has(&rule.api_groups, &right.group)
        && has(&rule.resources, &right.resource)
        && rule.verbs.contains(&right.verb)
        && named
}

/// Every right, and those on the one object that the rules name.
async fn questions(cluster: &Cluster) -> anyhow::Result<Vec<Right>> {
    let mut all = all_rights(&cluster.client, &[NAMESPACE, ELSEWHERE]).await?;
    let mut leases = all.clone();
    leases.retain(|right| right.resource == "leases");
    for name in [CONTROLLER.1, "of-somebody-else"] {
        all.extend(leases.iter().cloned().map(|right| Right {
            name: name.to_owned(),
            ..right
        }));
    }
    ensure!(all.len() > 1000, "{} questions", all.len());
    Ok(all)
}

#[tokio::test]
async fn the_controller_may_do_what_is_listed_and_nothing_else() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    if !cluster.granted().await? {
        return Ok(());
    }
    let asked = questions(&cluster).await?;
    let nobodys = rights_of(&cluster.client, NOBODY, &asked).await?;
    // What every account may: ask about itself, and read what is published.
    for right in &nobodys {
        let published = right.resource == "clustertrustbundles";
        ensure!(
            published || right.resource.starts_with("selfsubject"),
            "{right:?}"
        );
    }
    let had = rights_of(&cluster.client, CONTROLLER, &asked).await?;
    let had: BTreeSet<Right> = had.difference(&nobodys).cloned().collect();
    let rules = rules()?;
    let listed = asked.into_iter();
    let listed: BTreeSet<Right> = listed
        .filter(|right| rules.iter().any(|rule| grants(rule, right)))
        .collect();
    let missing: Vec<_> = listed.difference(&had).collect();
    let too_many: Vec<_> = had.difference(&listed).collect();
    ensure!(missing.is_empty(), "listed, and refused: {missing:#?}");
    ensure!(
        too_many.is_empty(),
        "not listed, and allowed: {too_many:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn device_plugin_prober_and_vms_may_do_nothing() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    if !cluster.granted().await? {
        return Ok(());
    }
    let may = async |(namespace, account): (&str, &str)| {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let list = ["auth", "can-i", "--list", "-n", ELSEWHERE, "--as", &user];
        cluster.kubectl.run(&list).await
    };
    let nothing = may(NOBODY).await?;
    for account in [
        (NAMESPACE, "coracle-device-plugin"),
        (NAMESPACE, "coracle-prober"),
        // The account of VMs' pods.
        (ELSEWHERE, "default"),
    ] {
        assert_eq!(may(account).await?, nothing, "{account:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_vms_pod_has_no_token() -> anyhow::Result<()> {
    let Some(cluster) = Cluster::get().await? else {
        return Ok(());
    };
    let _shared = cluster.shared().await;
    let Some(node) = cluster.node_with_controller().await? else {
        return Ok(());
    };
    let namespace = Namespace::new(&cluster).await?;
    let _root = BlockVolume::new(&node, &namespace, "root", "power-button").await?;
    let vm = Machine::apply(&cluster, &namespace, &vm_object("web", json!({}))).await?;
    let pod = vm.runs(1).await?.get().await?;
    let uid = pod.metadata.uid.context("a pod has a uid")?;
    let inside = processes(|process| {
        let cgroup = std::fs::read_to_string(process.file("cgroup")).unwrap_or_default();
        cgroup.contains(&uid) && process.program().starts_with("qemu-system")
    });
    ensure!(inside.len() == 1, "{} qemu in pod {uid}", inside.len());
    // This is root, on the node: what cannot be seen is not there.
    let root = inside[0].file("root");
    ensure!(
        root.join("etc/coracle/machine.json").exists(),
        "not the VM's container"
    );
    for place in ["var/run/secrets", "run/secrets"] {
        let secrets = root.join(place);
        ensure!(!secrets.exists(), "{} is there", secrets.display());
    }
    let mounts = std::fs::read_to_string(inside[0].file("mountinfo"))?;
    for word in ["serviceaccount", "kube-api-access"] {
        ensure!(!mounts.contains(word), "{mounts}");
    }
    Ok(())
}

/// The reason is a comment above the rule, for all of its verbs, or one within
/// the list of verbs, above the first that it is for.
#[test]
fn every_verb_that_is_granted_has_its_reason() -> anyhow::Result<()> {
    let lines: Vec<&str> = GRANTED.lines().map(str::trim_start).collect();
    let mut rules = 0;
    for (number, rule) in lines.windows(2).enumerate() {
        if !rule[1].starts_with("- apiGroups:") {
            continue;
        }
        rules += 1;
        let mut list = lines[number..].iter().skip_while(|line| **line != "verbs:");
        let within = list.nth(1).is_some_and(|line| line.starts_with('#'));
        ensure!(
            rule[0].starts_with('#') || within,
            "deploy/controller/rbac.yaml:{}: say what the rule is for",
            number + 2
        );
    }
    ensure!(rules > 3, "{rules} rules");
    Ok(())
}

#[test]
fn every_verb_that_is_granted_is_in_the_guides_table() -> anyhow::Result<()> {
    for (_, rule) in rules()? {
        for resource in rule.resources.iter().flatten() {
            let is_about = |row: &&str| {
                let mut words = row.split([' ', '|', ',', ';']);
                row.starts_with('|') && words.any(|word| word == resource)
            };
            let rows: Vec<&str> = GUIDE.lines().filter(is_about).collect();
            let rows = rows.join(" ");
            for verb in &rule.verbs {
                let mut words = rows.split([' ', '|', ',', ';']);
                ensure!(
                    words.any(|word| word == verb),
                    "docs/security.md: the table of the controller's rights does not say that it \
                     may {verb} {resource}, and why"
                );
            }
        }
    }
    Ok(())
}
