//! Waiting for a state of an object, by watching it.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Api;
use kube::runtime::wait::await_condition;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

/// How long anything may take: the bound is for a test that would hang, not
/// for one that is slow.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked at what cannot be watched.
const POLL: Duration = Duration::from_millis(100);

/// Waits until `condition` holds for the object, and returns it; `None` when
/// what was waited for is that it is gone.
///
/// # Errors
/// When it does not within [`PATIENCE`]: the message has what was waited for
/// and the object's status.
pub async fn wait_for<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    condition: impl Fn(Option<&K>) -> bool,
) -> anyhow::Result<Option<K>>
where
    K: kube::Resource + Clone + Debug + Send + DeserializeOwned + serde::Serialize + 'static,
    K::DynamicType: Default,
{
    let watch = await_condition(api.clone(), name, condition);
    if let Ok(found) = timeout(PATIENCE, watch).await {
        return found.with_context(|| format!("watching {name}"));
    }
    let now = serde_json::to_value(api.get_opt(name).await?)?;
    bail!(
        "{name}: {what}: not within {} s; its status is {:#}",
        PATIENCE.as_secs(),
        now["status"]
    )
}

/// Waits until `look` finds something.
///
/// # Errors
/// When it does not within [`PATIENCE`], or when it fails.
pub async fn until<T>(
    what: &str,
    look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    until_within(PATIENCE, what, look).await
}

/// Waits until `look` finds something that takes a time of its own.
///
/// # Errors
/// When it does not within `patience`, or when it fails.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let search = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            sleep(POLL).await;
        }
    };
    match timeout(patience, search).await {
        Ok(found) => found,
        Err(_) => bail!("{what}: not within {} s", patience.as_secs()),
    }
}
