//! Whether the API server keeps a pod's image volumes. One that has them
//! switched off takes the pod without them, and says nothing; one that does not
//! know them makes empty directories of them. So it is asked first, by a
//! creation that is none (`dryRun`), and only for pods that have any.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

/// Asks the API server. Where it will not have the pod at all, or will have no
/// such question, the creation itself is to find that out.
///
/// # Errors
/// When it does not answer.
pub async fn keeps_image_volumes(pods: &Api<Pod>, pod: &Pod) -> Result<bool, kube::Error> {
    let asked = image_volumes(pod);
    if asked == 0 {
        return Ok(true);
    }
    let question = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match pods.create(&question, pod).await {
        Ok(kept) => Ok(image_volumes(&kept) == asked),
        Err(kube::Error::Api(_)) => Ok(true),
        Err(other) => Err(other),
    }
}

fn image_volumes(pod: &Pod) -> usize {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.image.is_some()).count()
}
