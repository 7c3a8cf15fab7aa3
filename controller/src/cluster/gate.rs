//! A gate that opens once, for all who wait at it.
//!
//! kube's `Store::wait_until_ready` wakes only the task that asked last (it
//! keeps one waker), and here every look at a VM asks.

use tokio::sync::watch;

/// A gate that opens once.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Gate {
    /// Opens it.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Returns once it is open.
    pub async fn opened(&self) {
        // An error means that the sender is gone, and it lives in `self`.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::Gate;

    #[tokio::test]
    async fn all_who_wait_pass() {
        let gate = Arc::new(Gate::default());
        let mut waiting = JoinSet::new();
        for _ in 0..50 {
            let gate = gate.clone();
            waiting.spawn(async move { gate.opened().await });
        }
        tokio::task::yield_now().await;
        gate.open();
        assert_eq!(waiting.join_all().await.len(), 50);
        gate.opened().await;
    }
}
