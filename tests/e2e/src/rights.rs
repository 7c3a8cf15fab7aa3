//! What an account may do: asked of the API server for every resource that it
//! has and every verb, not read from what was granted.

use std::collections::BTreeSet;

use anyhow::Context;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::task::JoinSet;

/// The verbs of resources, and those with a meaning of their own.
const VERBS: [&str; 12] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
    "approve",
];
/// What is no resource of any list, but can be granted.
const UNLISTED: [(&str, &str); 3] = [("", "users"), ("", "groups"), ("", "uids")];
/// How many questions are asked at once.
const AT_ONCE: usize = 32;

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Where; empty for what is in no namespace.
    pub namespace: String,
    /// The API group.
    pub group: String,
    /// The resource, with its subresource behind a slash.
    pub resource: String,
    /// The verb.
    pub verb: String,
    /// One object's name; empty for any.
    pub name: String,
}

/// Every right that can be had in some namespaces, and beside them.
///
/// # Errors
/// When the API server does not tell what it has.
pub async fn all_rights(client: &Client, namespaces: &[&str]) -> anyhow::Result<Vec<Right>> {
    let mut resources: BTreeSet<(String, String, bool)> = BTreeSet::new();
    let mut add = |group: &str, list: APIResourceList| {
        for resource in list.resources {
            resources.insert((group.to_owned(), resource.name, resource.namespaced));
        }
    };
    for version in client.list_core_api_versions().await?.versions {
        add("", client.list_core_api_resources(&version).await?);
    }
    for group in client.list_api_groups().await?.groups {
        for version in &group.versions {
            let list = client
                .list_api_group_resources(&version.group_version)
                .await?;
            add(&group.name, list);
        }
    }
    let unlisted = UNLISTED.map(|(group, resource)| (group.to_owned(), resource.to_owned(), false));
    resources.extend(unlisted);
    let mut rights = Vec::new();
    for (group, resource, namespaced) in resources {
        for namespace in if namespaced { namespaces } else { &[""] } {
            rights.extend(VERBS.map(|verb| Right {
                namespace: (*namespace).to_owned(),
                group: group.clone(),
                resource: resource.clone(),
                verb: verb.to_owned(),
                name: String::new(),
            }));
        }
    }
    Ok(rights)
}

/// Those of the rights that a service account has.
///
/// # Errors
/// When the API server does not answer.
pub async fn rights_of(
    client: &Client,
    (namespace, account): (&str, &str),
    asked: &[Right],
) -> anyhow::Result<BTreeSet<Right>> {
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let mut had = BTreeSet::new();
    for some in asked.chunks(AT_ONCE) {
        let mut answers = JoinSet::new();
        for right in some {
            let (reviews, right) = (reviews.clone(), right.clone());
            let review = review(&right, user.clone(), groups.clone());
            answers.spawn(async move {
                let answer = reviews.create(&PostParams::default(), &review).await?;
                let status = answer.status.context("a review is answered")?;
                anyhow::Ok(status.allowed.then_some(right))
            });
        }
        while let Some(answer) = answers.join_next().await {
            had.extend(answer??);
        }
    }
    Ok(had)
}

fn review(right: &Right, user: String, groups: Vec<String>) -> SubjectAccessReview {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (resource, subresource) = right
        .resource
        .split_once('/')
        .map_or((right.resource.as_str(), None), |(resource, sub)| {
            (resource, Some(sub.to_owned()))
        });
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user),
            groups: Some(groups),
            resource_attributes: Some(ResourceAttributes {
                namespace: some(&right.namespace),
                group: some(&right.group),
                resource: some(resource),
                subresource,
                verb: some(&right.verb),
                name: some(&right.name),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
