//! SIGINT and SIGTERM, counted: the first asks for an orderly end, each
//! further one for a faster one.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often the user asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupts {
    count: watch::Receiver<u32>,
}

/// Ends the listening when it is dropped.
#[derive(Debug)]
pub struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stage was left because the user asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Listens from now on; the signals do not end the process any more.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn listen() -> std::io::Result<(Interrupts, Listening)> {
    let (sender, count) = watch::channel(0);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok((Interrupts { count }, Listening(task.abort_handle())))
}

impl Interrupts {
    /// How often so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        *self.count.borrow()
    }

    /// Returns when there were more than `seen`.
    pub async fn beyond(&mut self, seen: u32) -> u32 {
        match self.count.wait_for(|count| *count > seen).await {
            Ok(count) => *count,
            // Nobody counts any more: there will be none.
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs something that may be left at any point, until the first request.
    pub async fn leave<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        let mut interrupts = self.clone();
        tokio::select! {
            biased;
            _ = interrupts.beyond(0) => Err(Interrupted),
            done = work => Ok(done),
        }
    }

    /// Fails when there was a request.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.count() > 0 {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_left_at_the_first_request_and_the_second_is_told_apart() {
        let (sender, count) = watch::channel(0);
        let mut interrupts = Interrupts { count };
        assert_eq!(interrupts.leave(async { 7 }).await.expect("done"), 7);
        sender.send_modify(|count| *count += 1);
        assert!(
            interrupts
                .leave(std::future::pending::<()>())
                .await
                .is_err()
        );
        assert!(interrupts.check().is_err());
        sender.send_modify(|count| *count += 1);
        assert_eq!(interrupts.beyond(1).await, 2);
    }
}
