//! The CEL rules of what a claim is filled with, as predicates.

use super::{CelRule, Problem};
use crate::vm::{Disk, ImportSource};

pub(super) const RULES: &[CelRule<ImportSource>] = &[
    CelRule {
        path: "",
        message: "say exactly one of http, image and claim",
        holds: |from| {
            [
                from.http.is_some(),
                from.image.is_some(),
                from.claim.is_some(),
            ]
            .iter()
            .filter(|set| **set)
            .count()
                == 1
        },
    },
    CelRule {
        path: ".http.url",
        message: "http:// without a checksum takes whatever comes: add checksum, or use https://",
        holds: |from| {
            from.http
                .as_ref()
                .is_none_or(|http| http.checksum.is_some() || http.url.starts_with("https://"))
        },
    },
];

/// The rules that the sources of disks break.
pub(super) fn broken(disks: &[Disk]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, disk) in disks.iter().enumerate() {
        let named = disk.claim.as_ref().and_then(|claim| claim.from.as_ref());
        let template = disk.claim_template.as_ref();
        let made = template.and_then(|template| template.from.as_ref());
        for (field, from) in [("claim", named), ("claimTemplate", made)] {
            let Some(from) = from else { continue };
            let broken = RULES.iter().filter(|rule| !(rule.holds)(from));
            problems.extend(broken.map(|rule| {
                let path = format!("spec.disks[{index}].{field}.from{}", rule.path);
                Problem::new(path, rule.message)
            }));
        }
    }
    problems
}
