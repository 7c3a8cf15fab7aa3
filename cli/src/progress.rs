//! One line per stage on standard error, with the time it took; what takes
//! longer than two seconds shows that it goes on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

/// Up to here nobody wonders whether it hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A stage that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// The stages so far.
#[derive(Debug, Default)]
pub struct Stages {
    done: Vec<Stage>,
}

impl Stages {
    /// The stages that are over.
    #[must_use]
    pub fn done(&self) -> &[Stage] {
        &self.done
    }

    /// Runs a stage. `doing` says what takes so long when it does; `note`
    /// what came of it.
    pub async fn run<T, E>(
        &mut self,
        name: &str,
        doing: &str,
        work: impl Future<Output = Result<T, E>>,
        note: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let start = now();
        let mut work = std::pin::pin!(work);
        let result = if let Ok(result) = tokio::time::timeout(PATIENCE, &mut work).await {
            result
        } else {
            let shown = Shown::new(name, doing);
            let result = work.await;
            shown.clear();
            result
        };
        let took = start.elapsed();
        if let Ok(value) = &result {
            self.add(name, took, &note(value));
        }
        result
    }

    /// A stage that is over.
    pub fn add(&mut self, name: &str, took: Duration, note: &str) {
        say(&format!("{name:<11} {:>8}  {note}", seconds(took)));
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.done.push(Stage {
            name: name.to_owned(),
            ms,
        });
    }
}

/// The clock, for measuring only.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A duration as people read it.
#[must_use]
pub fn seconds(took: Duration) -> String {
    let ms = took.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}

/// One line for a person, on standard error. That it cannot be written is no
/// reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

struct Shown(Option<ProgressBar>);

impl Shown {
    fn new(name: &str, doing: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            say(&format!("{name:<11}      …    {doing}"));
            return Self(None);
        }
        let style = ProgressStyle::with_template("{prefix:<11} {elapsed:>8}  {spinner} {msg}");
        let bar = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_prefix(name.to_owned())
            .with_message(doing.to_owned())
            .with_elapsed(PATIENCE);
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    fn clear(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(Duration::from_millis(7)), "7 ms");
        assert_eq!(seconds(Duration::from_millis(1740)), "1.7 s");
    }
}
