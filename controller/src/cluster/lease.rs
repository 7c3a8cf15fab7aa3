//! Which replica leads: an election on a `Lease` (coordination.k8s.io/v1).
//!
//! As client-go does it: a lease that has not changed for its duration, by
//! the clock of whoever looks and not by the times written in it, may be
//! taken; and every write names the version it follows, so that of two that
//! take it one fails. A leader that could not renew in time stops leading
//! before anybody else may begin. The published crate for this compares clocks
//! of two machines and takes an expired lease without naming a version, which
//! is why this is here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// Where and how to elect.
#[derive(Clone, Debug)]
pub struct Election {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Who this replica is.
    pub identity: String,
    /// How long a lease holds that is not renewed.
    pub duration: Duration,
    /// How long a leader goes on without a renewal; shorter than `duration`.
    pub deadline: Duration,
    /// How often to look and to renew.
    pub period: Duration,
}

impl Election {
    /// An election with client-go's times.
    #[must_use]
    pub fn new(namespace: String, name: String, identity: String) -> Self {
        Self {
            namespace,
            name,
            identity,
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            period: Duration::from_secs(2),
        }
    }
}

/// This replica does not lead any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The API server did not take the renewal in time.
    #[error("the lease could not be renewed for {} s: stopping, so that another replica can lead", after.as_secs())]
    NotRenewed {
        /// For how long.
        after: Duration,
    },
    /// Another replica has the lease.
    #[error("another replica, {holder:?}, has the lease")]
    Taken {
        /// Which one.
        holder: String,
    },
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// It is ours: write a new time.
    Renew,
    /// Nobody has it, or whoever had it is gone.
    Take,
    /// Somebody has it.
    Wait,
}

/// The move, given how long the lease has been seen unchanged.
fn judge(spec: &LeaseSpec, identity: &str, unchanged: Duration) -> Move {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    match holder {
        "" => Move::Take,
        holder if holder == identity => Move::Renew,
        _ if unchanged > Duration::from_secs(seconds) => Move::Take,
        _ => Move::Wait,
    }
}

fn written(old: &LeaseSpec, election: &Election, take: bool, now: Timestamp) -> LeaseSpec {
    let seconds = i32::try_from(election.duration.as_secs().max(1)).unwrap_or(i32::MAX);
    let transitions = old.lease_transitions.unwrap_or(0) + i32::from(take);
    LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: Some(seconds),
        acquire_time: if take {
            Some(MicroTime(now))
        } else {
            old.acquire_time.clone()
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// How long this replica leads without another renewal. Asked right before a
/// pod is created: a process that was stopped and goes on long after must not
/// send what it was about to send.
#[derive(Debug)]
pub struct Tenure(Mutex<Instant>);

impl Tenure {
    /// A tenure that ends then.
    #[must_use]
    pub fn until(end: Instant) -> Self {
        Self(Mutex::new(end))
    }

    /// Whether this replica leads now.
    #[must_use]
    pub fn holds(&self) -> bool {
        Instant::now() < *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, end: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// A candidate, and the leader once [`Candidate::win`] returned.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    /// The lease as last seen, and since when it looks so.
    seen: Option<(Lease, Instant)>,
    renewed: Instant,
    tenure: Arc<Tenure>,
}

impl Candidate {
    /// A candidate that has seen nothing yet.
    #[must_use]
    pub fn new(client: Client, election: Election) -> Self {
        let api = Api::namespaced(client, &election.namespace);
        Self {
            api,
            election,
            seen: None,
            renewed: Instant::now(),
            tenure: Arc::new(Tenure::until(Instant::now())),
        }
    }

    /// How long this replica leads.
    #[must_use]
    pub fn tenure(&self) -> Arc<Tenure> {
        self.tenure.clone()
    }

    /// Returns once this replica leads.
    pub async fn win(&mut self) {
        let identity = self.election.identity.clone();
        loop {
            match self.turn().await {
                Ok(holder) if holder == identity => {
                    info!(identity, "this replica leads");
                    return;
                }
                Ok(holder) => debug!(holder, "another replica leads"),
                Err(error) => warn!(%error, "the lease cannot be read or written"),
            }
            sleep(self.election.period).await;
        }
    }

    /// Renews until it cannot.
    pub async fn keep(&mut self) -> Lost {
        loop {
            sleep(self.election.period).await;
            let left = self
                .election
                .deadline
                .saturating_sub(self.renewed.elapsed());
            match timeout(left, self.turn()).await {
                Ok(Ok(holder)) if holder == self.election.identity => {}
                Ok(Ok(holder)) => return Lost::Taken { holder },
                Ok(Err(error)) => warn!(%error, "the lease was not renewed"),
                Err(_) => {
                    let after = self.renewed.elapsed();
                    return Lost::NotRenewed { after };
                }
            }
        }
    }

    /// Gives the lease up, so that another replica leads at once.
    pub async fn release(self) {
        let Some((mut lease, _)) = self.seen else {
            return;
        };
        let Some(spec) = &mut lease.spec else { return };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let name = &self.election.name;
        let released = self.api.replace(name, &PostParams::default(), &lease).await;
        match released {
            Ok(_) => info!(identity = self.election.identity, "the lease is released"),
            Err(error) => warn!(%error, "the lease was not released and will expire"),
        }
    }

    /// One look at the lease and, where it is due, one write. Returns who has
    /// it now.
    async fn turn(&mut self) -> Result<String, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.election.name).await? else {
            return self.create().await;
        };
        let unchanged = self.note(&lease);
        let spec = lease.spec.clone().unwrap_or_default();
        let take = match judge(&spec, &self.election.identity, unchanged) {
            Move::Wait => return Ok(spec.holder_identity.unwrap_or_default()),
            Move::Renew => false,
            Move::Take => true,
        };
        let wanted = Lease {
            spec: Some(written(&spec, &self.election, take, Timestamp::now())),
            ..lease
        };
        let params = PostParams::default();
        let sent = Instant::now();
        let answer = self
            .api
            .replace(&self.election.name, &params, &wanted)
            .await;
        match answer {
            Ok(lease) => Ok(self.held(lease, sent)),
            // Somebody was quicker; the next turn sees who.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self) -> Result<String, kube::Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.election.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(written(
                &LeaseSpec::default(),
                &self.election,
                true,
                Timestamp::now(),
            )),
        };
        let sent = Instant::now();
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(lease) => Ok(self.held(lease, sent)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// The lease is ours, counted from when the request was sent: others may
    /// count from when it arrived.
    fn held(&mut self, lease: Lease, sent: Instant) -> String {
        self.renewed = sent;
        self.tenure.extend(sent + self.election.deadline);
        self.seen = Some((lease, sent));
        self.election.identity.clone()
    }

    /// Remembers a lease; returns how long it has looked like this.
    fn note(&mut self, lease: &Lease) -> Duration {
        match &self.seen {
            Some((seen, since)) if seen.spec == lease.spec => {
                let since = *since;
                self.seen = Some((lease.clone(), since));
                since.elapsed()
            }
            Some(_) | None => {
                self.seen = Some((lease.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_stood_still_too_long() {
        let fresh = Duration::from_secs(3);
        let stale = Duration::from_secs(16);
        assert_eq!(judge(&LeaseSpec::default(), "a", fresh), Move::Take);
        assert_eq!(judge(&held_by(""), "a", fresh), Move::Take);
        assert_eq!(judge(&held_by("b"), "a", fresh), Move::Wait);
        assert_eq!(
            judge(&held_by("b"), "a", Duration::from_secs(15)),
            Move::Wait
        );
        assert_eq!(judge(&held_by("b"), "a", stale), Move::Take);
        assert_eq!(judge(&held_by("a"), "a", stale), Move::Renew);
    }

    #[test]
    fn a_leader_gives_up_before_another_may_begin() {
        let election = Election::new("n".into(), "l".into(), "a".into());
        assert!(election.deadline + election.period < election.duration);
    }

    #[test]
    fn taking_counts_a_transition_and_renewing_does_not() {
        let election = Election::new("n".into(), "l".into(), "a".into());
        let now = Timestamp::UNIX_EPOCH;
        let taken = written(&held_by("b"), &election, true, now);
        assert_eq!(taken.lease_transitions, Some(1));
        assert_eq!(taken.holder_identity.as_deref(), Some("a"));
        let renewed = written(&taken, &election, false, now);
        assert_eq!(renewed.lease_transitions, Some(1));
        assert_eq!(renewed.acquire_time, taken.acquire_time);
    }
}
