//! Whose word counts on the device's health: the plugin's own where it may
//! open the device, else the prober's. Pure: time comes in as an argument.
//!
//! ```text
//!  device gone, not passed on ─────────────────────────► unhealthy
//!  plugin may open it ─────────► its own probe's outcome
//!  plugin may not open it
//!    prober answers ───────────► the prober's outcome
//!    prober away, it failed ───► unhealthy: a KVM known to be bad stays bad
//!    prober away, it passed ───► healthy
//!    no report yet ────────────► unknown for a moment, then unhealthy, and
//!                                healthy after the grace period: the device
//!                                is there, and that is all that can be said
//! ```

use std::time::Duration;

use tokio::time::Instant;

use crate::listing::Health;

/// How long after the plugin's start nothing is said about a device on which
/// no prober has reported. A prober that runs already is back sooner, and a
/// list that calls devices unhealthy for a moment turns pods away.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the plugin sees by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A guest ran on the device.
    Usable,
    /// The device is not there, cannot be passed on, or runs no guest.
    Unusable {
        /// Why, for people.
        reason: String,
    },
    /// The device is there and is passed on, but the plugin may not open it.
    Closed,
}

/// What the prober says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A guest ran.
    Passed,
    /// No guest ran.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// There is no prober, or none that answers.
    Absent,
}

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// The plugin's.
    Plugin,
    /// The prober's.
    Prober,
    /// That of a prober which is away.
    Earlier,
    /// Nobody's yet.
    Waiting,
    /// The plugin's, which only sees that the device is there.
    Unproven,
}

/// The health, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) health: Health,
    pub(crate) basis: Basis,
    /// When time alone changes it.
    pub(crate) again: Option<Instant>,
}

/// What is remembered from one judgement to the next.
#[derive(Debug)]
pub(crate) struct Judge {
    grace: Duration,
    /// The last report on the device.
    report: Option<Health>,
    /// Since when there has been no prober.
    alone: Option<Instant>,
}

impl Judge {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            report: None,
            alone: None,
        }
    }

    pub(crate) fn judge(&mut self, seen: Seen, answer: Answer, now: Instant) -> Judgement {
        let plain = |health, basis| Judgement {
            health,
            basis,
            again: None,
        };
        match (seen, answer) {
            (Seen::Usable, _) => plain(Health::Healthy, Basis::Plugin),
            (Seen::Unusable { reason }, _) => {
                // What comes in its place may be another device.
                self.report = None;
                plain(Health::Unhealthy { reason }, Basis::Plugin)
            }
            (Seen::Closed, Answer::Absent) => self.alone(now),
            (Seen::Closed, Answer::Passed) => plain(self.hear(Health::Healthy), Basis::Prober),
            (Seen::Closed, Answer::Failed { reason }) => {
                plain(self.hear(Health::Unhealthy { reason }), Basis::Prober)
            }
        }
    }

    fn hear(&mut self, report: Health) -> Health {
        self.alone = None;
        self.report = Some(report.clone());
        report
    }

    fn alone(&mut self, now: Instant) -> Judgement {
        let since = *self.alone.get_or_insert(now);
        let away = now.duration_since(since);
        let waiting = away < self.grace;
        let (health, basis) = match &self.report {
            Some(Health::Healthy) | None if !waiting => (Health::Healthy, Basis::Unproven),
            Some(report) => (report.clone(), Basis::Earlier),
            None if away < PATIENCE => (Health::Unknown, Basis::Waiting),
            None => (
                Health::Unhealthy {
                    reason: "no prober has reported yet, and this plugin may not open the device \
                             itself"
                        .into(),
                },
                Basis::Waiting,
            ),
        };
        let again = match (&health, waiting) {
            (Health::Unknown, _) => Some(since + PATIENCE.min(self.grace)),
            (_, true) => Some(since + self.grace),
            (_, false) => None,
        };
        Judgement {
            health,
            basis,
            again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn unhealthy(reason: &str) -> Health {
        Health::Unhealthy {
            reason: reason.into(),
        }
    }

    fn failed(reason: &str) -> Answer {
        Answer::Failed {
            reason: reason.into(),
        }
    }

    #[test]
    fn the_plugin_s_own_probe_needs_no_prober() {
        let mut judge = Judge::new(GRACE);
        let now = Instant::now();
        for answer in [Answer::Absent, Answer::Passed, failed("a lie")] {
            let judged = judge.judge(Seen::Usable, answer.clone(), now);
            assert_eq!(
                (judged.health, judged.basis),
                (Health::Healthy, Basis::Plugin)
            );
            let seen = Seen::Unusable {
                reason: "gone".into(),
            };
            let judged = judge.judge(seen, answer, now);
            assert_eq!(
                (judged.health, judged.basis),
                (unhealthy("gone"), Basis::Plugin)
            );
        }
    }

    #[test]
    fn without_a_prober_the_health_is_unknown_then_unhealthy_then_taken_on_trust() {
        let mut judge = Judge::new(GRACE);
        let start = Instant::now();
        let mut at = |after| judge.judge(Seen::Closed, Answer::Absent, start + after);
        let judged = at(seconds(0));
        assert_eq!(judged.health, Health::Unknown);
        assert_eq!(judged.again, Some(start + PATIENCE));
        let judged = at(PATIENCE);
        assert!(matches!(judged.health, Health::Unhealthy { .. }));
        assert_eq!(judged.basis, Basis::Waiting);
        assert_eq!(judged.again, Some(start + GRACE));
        let judged = at(GRACE);
        assert_eq!(
            (judged.health, judged.basis, judged.again),
            (Health::Healthy, Basis::Unproven, None)
        );
    }

    #[test]
    fn the_prober_s_word_counts_and_outlives_it() {
        let mut judge = Judge::new(GRACE);
        let start = Instant::now();
        let judged = judge.judge(Seen::Closed, failed("slow"), start);
        assert_eq!(
            (judged.health, judged.basis),
            (unhealthy("slow"), Basis::Prober)
        );
        // Known to be bad: no time makes it good.
        for after in [seconds(1), GRACE * 10] {
            let judged = judge.judge(Seen::Closed, Answer::Absent, start + after);
            assert_eq!(
                (judged.health, judged.basis),
                (unhealthy("slow"), Basis::Earlier)
            );
        }
        let later = start + GRACE * 20;
        let judged = judge.judge(Seen::Closed, Answer::Passed, later);
        assert_eq!(
            (judged.health, judged.basis),
            (Health::Healthy, Basis::Prober)
        );
        // A prober that is replaced changes nothing.
        let judged = judge.judge(Seen::Closed, Answer::Absent, later);
        assert_eq!(
            (judged.health, judged.basis, judged.again),
            (Health::Healthy, Basis::Earlier, Some(later + GRACE))
        );
        let judged = judge.judge(Seen::Closed, Answer::Absent, later + GRACE);
        assert_eq!(
            (judged.health, judged.basis),
            (Health::Healthy, Basis::Unproven)
        );
    }

    #[test]
    fn a_report_does_not_outlive_the_device() {
        let mut judge = Judge::new(GRACE);
        let now = Instant::now();
        judge.judge(Seen::Closed, failed("slow"), now);
        let gone = Seen::Unusable {
            reason: "gone".into(),
        };
        judge.judge(gone, Answer::Absent, now);
        let judged = judge.judge(Seen::Closed, Answer::Absent, now);
        assert_eq!(judged.basis, Basis::Waiting);
    }
}
