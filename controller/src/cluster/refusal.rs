//! Why the API server will not have a pod or a claim, in words that say what
//! to change.

use coracle_api::vm::ConditionReason;
use kube::core::Status;

/// A pod or a claim was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRefusal {
    /// In one word.
    pub reason: ConditionReason,
    /// For a person.
    pub message: String,
}

impl PodRefusal {
    /// Reads a refusal of a pod; `None` when the answer is no judgement of
    /// the pod, but a failure to try again after.
    #[must_use]
    pub fn of(status: &Status, namespace: &str) -> Option<Self> {
        let said = status.message.as_str();
        let (reason, mend) = match status.code {
            403 => forbidden(said, namespace)?,
            400 | 422 => (
                ConditionReason::PodRefused,
                "correct the fields of the VM that are named".to_owned(),
            ),
            _ => return None,
        };
        Some(Self::new(reason, said, &mend))
    }

    /// Reads a refusal of a claim; `None` as above.
    #[must_use]
    pub fn of_claim(status: &Status, namespace: &str) -> Option<Self> {
        let said = status.message.as_str();
        let (reason, mend) = match status.code {
            403 if not_permitted(said) => return None,
            403 if said.contains("exceeded quota") => (
                ConditionReason::QuotaExceeded,
                format!(
                    "raise the ResourceQuota of namespace {namespace}, or ask for less in \
                     claimTemplate.size"
                ),
            ),
            403 if said.contains("per PersistentVolumeClaim is") => (
                ConditionReason::LimitRangeExceeded,
                format!(
                    "choose a claimTemplate.size that the LimitRange of namespace {namespace} allows"
                ),
            ),
            403 | 400 | 422 => (
                ConditionReason::ClaimRefused,
                "correct the disk's claimTemplate".to_owned(),
            ),
            _ => return None,
        };
        Some(Self::new(reason, said, &mend))
    }

    /// The API server would leave out what a pod's disks are in.
    #[must_use]
    pub fn no_image_volumes() -> Self {
        Self::new(
            ConditionReason::ImageVolumesUnsupported,
            "the API server takes pods without their image volumes, which it has from Kubernetes \
             1.36 on, before by the feature gate ImageVolume",
            "upgrade, or replace the disk in a container image with one whose claim is filled from \
             it (claim.from.image)",
        )
    }

    fn new(reason: ConditionReason, said: &str, mend: &str) -> Self {
        Self {
            reason,
            message: format!("{said}: {mend}"),
        }
    }
}

/// The controller itself may not: that is for its administrator, and no
/// judgement of what it asked for.
fn not_permitted(said: &str) -> bool {
    said.contains("cannot create resource") || said.contains("cannot patch resource")
}

fn forbidden(said: &str, namespace: &str) -> Option<(ConditionReason, String)> {
    let has = |text: &str| said.contains(text);
    let limit = |bound: &str| has(bound) && has(" usage per ");
    Some(if not_permitted(said) {
        return None;
    } else if has("violates PodSecurity") {
        let mend = format!(
            "a VM without devices whose interfaces have binding Slirp fits the level restricted. \
             Remove from the VM what needs more than the namespace allows, or let the namespace allow \
             it: kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged --overwrite"
        );
        (ConditionReason::PodSecurityRefused, mend)
    } else if has("exceeded quota") {
        let mend = format!(
            "raise the ResourceQuota of namespace {namespace}, ask for less in spec.memory or \
             spec.cpus, or stop another VM"
        );
        (ConditionReason::QuotaExceeded, mend)
    } else if has("must specify") {
        let mend = format!(
            "the ResourceQuota wants limits that VMs do not set: add a LimitRange with defaults for \
             them to namespace {namespace}"
        );
        (ConditionReason::QuotaExceeded, mend)
    } else if limit("maximum") || limit("minimum") || has("max limit to request ratio") {
        let mend = format!(
            "kubectl -n {namespace} describe limitrange shows the bounds: change spec.memory (the pod \
             gets some more than the guest) or spec.cpus, or the LimitRange"
        );
        (ConditionReason::LimitRangeExceeded, mend)
    } else if has("no PriorityClass with name") {
        let mend = "correct spec.priorityClassName: kubectl get priorityclass lists what there is";
        (ConditionReason::PodRefused, mend.to_owned())
    } else if has("RuntimeClass") && has("not found") {
        let mend = "correct spec.runtimeClassName: kubectl get runtimeclass lists what there is";
        (ConditionReason::PodRefused, mend.to_owned())
    } else {
        let mend =
            "an admission policy of the cluster refuses the pod: change the VM or the policy";
        (ConditionReason::PodRefused, mend.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: u16, message: &str) -> Status {
        Status::failure(message, "Forbidden").with_code(code)
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table, one row per refusal")]
    fn admission_refusals_become_reasons_and_failures_do_not() {
        use ConditionReason::{LimitRangeExceeded, PodRefused, PodSecurityRefused, QuotaExceeded};
        let table = [
            (
                403,
                "pods \"web-1\" is forbidden: violates PodSecurity \"restricted:latest\": x",
                Some((PodSecurityRefused, "kubectl label namespace shop")),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: exceeded quota: small, requested: memory=2Gi",
                Some((QuotaExceeded, "ResourceQuota of namespace shop")),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: failed quota: q: must specify limits.cpu",
                Some((QuotaExceeded, "LimitRange")),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: maximum memory usage per Container is 1Gi, but limit \
                 is 2Gi",
                Some((LimitRangeExceeded, "spec.memory")),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: no PriorityClass with name high was found",
                Some((PodRefused, "spec.priorityClassName")),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: pod rejected: RuntimeClass \"kata\" not found",
                Some((PodRefused, "spec.runtimeClassName")),
            ),
            (
                403,
                "admission webhook denied the request",
                Some((PodRefused, "policy")),
            ),
            (
                422,
                "Pod \"web-1\" is invalid: spec.nodeSelector",
                Some((PodRefused, "correct the fields")),
            ),
            (
                403,
                "pods is forbidden: User \"x\" cannot create resource \"pods\"",
                None,
            ),
            (500, "etcdserver: leader changed", None),
            (429, "too many requests", None),
        ];
        for (code, message, wanted) in table {
            let refusal = PodRefusal::of(&failure(code, message), "shop");
            assert_eq!(
                refusal.as_ref().map(|refusal| refusal.reason),
                wanted.map(|(reason, _)| reason),
                "{code} {message}"
            );
            if let (Some(refusal), Some((_, says))) = (refusal, wanted) {
                assert!(refusal.message.contains(message) && refusal.message.contains(says));
            }
        }
    }

    #[test]
    fn refused_claims_have_their_own_advice() {
        use ConditionReason::{ClaimRefused, LimitRangeExceeded, QuotaExceeded};
        for (code, message, reason) in [
            (
                403,
                "exceeded quota: q, requested: requests.storage=9Gi",
                Some(QuotaExceeded),
            ),
            (
                403,
                "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi",
                Some(LimitRangeExceeded),
            ),
            (
                422,
                "spec.storageClassName: Invalid value",
                Some(ClaimRefused),
            ),
            (
                403,
                "cannot patch resource \"persistentvolumeclaims\"",
                None,
            ),
            (500, "etcdserver: leader changed", None),
        ] {
            let refusal = PodRefusal::of_claim(&failure(code, message), "shop");
            assert_eq!(refusal.map(|refusal| refusal.reason), reason, "{message}");
        }
    }
}
