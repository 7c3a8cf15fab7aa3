//! Why the API server will not have a pod, in words that say what to change.

use coracle_api::vm::ConditionReason;
use kube::core::Status;

/// A pod was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRefusal {
    /// In one word.
    pub reason: ConditionReason,
    /// For a person.
    pub message: String,
}

impl PodRefusal {
    /// Reads a refusal of the API server; `None` when the answer is no
    /// judgement of the pod, but a failure to try again after.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let said = status.message.as_str();
        let (reason, mend) = match status.code {
            403 if said.contains("violates PodSecurity") => (
                ConditionReason::PodSecurityRefused,
                "the VM's pod fits the level restricted; let the namespace allow what is named: \
                 kubectl label namespace NAME pod-security.kubernetes.io/enforce=restricted --overwrite, \
                 or remove from the VM what needs more",
            ),
            403 if said.contains("exceeded quota") => (
                ConditionReason::QuotaExceeded,
                "raise the ResourceQuota, ask for less in spec.memory or spec.cpus, or stop \
                 another VM",
            ),
            403 if said.contains("must specify") => (
                ConditionReason::QuotaExceeded,
                "the ResourceQuota wants limits that VMs do not set: add a LimitRange with \
                 defaults for them",
            ),
            // The controller itself may not: that is for its administrator.
            403 if said.contains("cannot create resource") => return None,
            403 => (
                ConditionReason::PodRefused,
                "an admission policy of the cluster refuses the pod: change the VM or the policy",
            ),
            400 | 422 => (
                ConditionReason::PodRefused,
                "correct the fields of the VM that are named",
            ),
            _ => return None,
        };
        Some(Self {
            reason,
            message: format!("{said}: {mend}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str) -> Option<ConditionReason> {
        let status = Status::failure(message, "Forbidden").with_code(code);
        PodRefusal::of(&status).map(|refusal| refusal.reason)
    }

    #[test]
    fn admission_refusals_become_reasons_and_failures_do_not() {
        use ConditionReason::{PodRefused, PodSecurityRefused, QuotaExceeded};
        let table = [
            (
                403,
                "pods \"web-1\" is forbidden: violates PodSecurity \"restricted:latest\": x",
                Some(PodSecurityRefused),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: exceeded quota: small, requested: memory=2Gi",
                Some(QuotaExceeded),
            ),
            (
                403,
                "pods \"web-1\" is forbidden: failed quota: q: must specify limits.cpu",
                Some(QuotaExceeded),
            ),
            (
                403,
                "admission webhook denied the request",
                Some(PodRefused),
            ),
            (
                422,
                "Pod \"web-1\" is invalid: spec.nodeSelector",
                Some(PodRefused),
            ),
            (
                403,
                "pods is forbidden: User \"x\" cannot create resource \"pods\"",
                None,
            ),
            (500, "etcdserver: leader changed", None),
            (429, "too many requests", None),
        ];
        for (code, message, reason) in table {
            assert_eq!(answer(code, message), reason, "{code} {message}");
        }
    }
}
