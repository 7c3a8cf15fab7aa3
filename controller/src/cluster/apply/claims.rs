//! Making and growing the claims of templates.

use kube::api::{Patch, PatchParams, PostParams};

use super::{ApplyError, Outcome, failed};
use crate::cluster::context::{Context, MANAGER};
use crate::cluster::refusal::PodRefusal;
use crate::template::ClaimAct;

/// Does what is to be done about a VM's claims, up to the first refusal.
pub(super) async fn apply(
    ctx: &Context,
    acts: &[ClaimAct],
    namespace: &str,
) -> Result<Outcome, ApplyError> {
    let api = ctx.claims_in(namespace);
    for act in acts {
        let (verb, name, answer) = match act {
            ClaimAct::Create(claim) => {
                ctx.term.metrics.wrote("create", "persistentvolumeclaims");
                let params = PostParams {
                    field_manager: Some(MANAGER.into()),
                    ..PostParams::default()
                };
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                ("create", name, api.create(&params, claim).await)
            }
            ClaimAct::Change { claim, patch } => {
                ctx.term.metrics.wrote("patch", "persistentvolumeclaims");
                let params = PatchParams {
                    field_manager: Some(MANAGER.into()),
                    ..PatchParams::default()
                };
                let patched = api.patch(claim, &params, &Patch::Merge(patch)).await;
                ("patch", claim.as_str(), patched)
            }
        };
        match answer {
            Ok(_) => {}
            // Somebody made it, changed it or deleted it meanwhile: whose it
            // is now is judged by the next look.
            Err(kube::Error::Api(status))
                if status.is_already_exists() || status.is_conflict() || status.is_not_found() =>
            {
                return Ok(Outcome::Moved);
            }
            Err(kube::Error::Api(status)) => {
                return match PodRefusal::of_claim(&status, namespace) {
                    Some(refusal) => Ok(Outcome::ClaimRefused(refusal)),
                    None => Err(failed(verb, "claim", name)(kube::Error::Api(status))),
                };
            }
            Err(error) => return Err(failed(verb, "claim", name)(error)),
        }
    }
    Ok(Outcome::Asked)
}
