//! When to register: the one task that owns the registration of a resource.
//!
//! ```text
//!            kubelet.sock is there          Register answered
//!  Waiting ────────────────────────► serve ──────────────────► Registered
//!     ▲                                │ failed: pause             │
//!     └────────────────────────────────┴───────────────────────────┘
//!        kubelet.sock replaced · our socket gone · no stream for a while
//! ```
//!
//! The kubelet never asks for a stream again, and it wipes its directory when
//! it starts; so whichever of the three signs comes first ends the
//! registration, and the next begins from nothing. A kubelet that is away is
//! waited for, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::check::chain;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::listing::{Listing, Receiver};
use crate::metrics::Metrics;
use crate::resource::Resource;
use crate::session::{Session, SessionError};
use crate::socket::SocketId;

/// How often the sockets are looked at without an event.
const POLL: Duration = Duration::from_secs(2);
/// How long the kubelet may follow no stream. It opens one at once after a
/// registration.
const STREAM_GRACE: Duration = Duration::from_secs(1);
/// The pause after a registration that failed, doubled each time. Short: the
/// kubelet's socket is there, and makes its event, a moment before it listens.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause. An event at kubelet.sock ends any.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the registrar works with.
pub(crate) struct Registrar {
    pub(crate) config: Arc<Config>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) listing: Receiver,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    /// Something happened at kubelet.sock.
    pub(crate) kubelet: Arc<Notify>,
    /// Something happened at our socket.
    pub(crate) own: Arc<Notify>,
}

impl Registrar {
    /// Registers, again and again, until it is stopped or the resource is
    /// gone; then closes the registration in order.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let (name, listing) = (self.resource.name.clone(), self.listing.clone());
        let metrics = self.metrics.clone();
        metrics.begin(&name, listing.clone());
        self.until_gone(stop).await;
        metrics.end(&name, &listing);
    }

    async fn until_gone(mut self, stop: CancellationToken) {
        // A list without a verdict would make the kubelet turn pods away that
        // had the device before the plugin restarted.
        let known = self.listing.wait_for(Option::is_some);
        if stop.run_until_cancelled(known).await.is_none() {
            return;
        }
        let end = stop.child_token();
        let mut listing = self.listing.clone();
        let retired = async {
            let last = |listing: &Option<Arc<Listing>>| listing.as_ref().is_some_and(|l| l.last);
            // Whoever shows the lists may also end without a last one.
            if listing.wait_for(last).await.is_ok() {
                end.cancel();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.again_and_again(&end, &stop) => {}
            () = retired => {}
        }
    }

    async fn again_and_again(&self, end: &CancellationToken, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !end.is_cancelled() {
            let Some(kubelet) = end.run_until_cancelled(self.present()).await else {
                break;
            };
            let Some(served) = end.run_until_cancelled(self.serve()).await else {
                break;
            };
            let failed = match served {
                Ok(session) => {
                    let ended = end
                        .run_until_cancelled(self.register(&session, kubelet))
                        .await;
                    if ended.is_none() && !stop.is_cancelled() {
                        farewell(&session).await;
                    }
                    self.metrics.unregistered(&self.resource.name);
                    session.close().await;
                    match ended {
                        None => break,
                        Some(Ok(why)) => {
                            info!(resource = self.resource.name, why, "registering again");
                            pause = FIRST_PAUSE;
                            continue;
                        }
                        Some(Err(error)) => error,
                    }
                }
                Err(error) => error,
            };
            self.metrics
                .registration(&self.resource.name, Err(failed.label()));
            warn!(
                resource = self.resource.name,
                error = chain(&failed),
                "not registered, trying again"
            );
            let _ = end
                .run_until_cancelled(timeout(pause, self.hope(&failed)))
                .await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The kubelet's socket, once it is there.
    async fn present(&self) -> SocketId {
        let path = self.config.kubelet_socket();
        let mut waiting = false;
        loop {
            if let Some(id) = SocketId::of(&path) {
                return id;
            }
            if !waiting {
                info!(socket = %path.display(), "waiting for the kubelet");
                waiting = true;
            }
            let _ = timeout(POLL, self.kubelet.notified()).await;
        }
    }

    /// Waits for an event after which it may go better.
    async fn hope(&self, failed: &SessionError) {
        match failed {
            // The other plugin's end shows at the socket. Otherwise events
            // there are our own doing, and no reason to hurry.
            SessionError::Occupied { .. } => self.own.notified().await,
            _ => self.kubelet.notified().await,
        }
    }

    async fn serve(&self) -> Result<Session, SessionError> {
        let (config, resource) = (self.config.clone(), self.resource.clone());
        let shared = (self.ledger.clone(), self.metrics.clone());
        Session::serve(config, resource, self.listing.clone(), shared).await
    }

    /// Registers with the kubelet, and says why the registration has ended
    /// when it has.
    async fn register(
        &self,
        session: &Session,
        kubelet: SocketId,
    ) -> Result<&'static str, SessionError> {
        let socket = self.config.kubelet_socket();
        tokio::select! {
            registered = session.register(&socket) => registered?,
            why = self.replaced(session, kubelet) => return Ok(why),
        }
        self.metrics.registration(&self.resource.name, Ok(kubelet));
        info!(
            resource = self.resource.name,
            count = self
                .listing
                .borrow()
                .as_ref()
                .map(|listing| listing.capacity()),
            "registered"
        );
        Ok(tokio::select! {
            why = self.replaced(session, kubelet) => why,
            why = unfollowed(session) => why?,
        })
    }

    /// Waits until one of the sockets is not the one it was.
    async fn replaced(&self, session: &Session, kubelet: SocketId) -> &'static str {
        let socket = self.config.kubelet_socket();
        loop {
            if !session.is_there() {
                return "our socket is gone";
            }
            // A kubelet that is only gone is not a reason: its stream ends.
            if SocketId::of(&socket).is_some_and(|now| now != kubelet) {
                return "kubelet.sock was replaced";
            }
            tokio::select! {
                () = self.kubelet.notified() => {}
                () = self.own.notified() => {}
                () = sleep(POLL) => {}
            }
        }
    }
}

/// Lets the kubelet hear that the list is empty: the streams end after that.
async fn farewell(session: &Session) {
    let mut contact = session.contact();
    let ended = contact.wait_for(|contact| contact.streams == 0);
    let _ = timeout(STREAM_GRACE, ended).await;
}

/// Waits until the kubelet has followed no stream for a while.
async fn unfollowed(session: &Session) -> Result<&'static str, SessionError> {
    let mut contact = session.contact();
    loop {
        let followed = timeout(
            STREAM_GRACE,
            contact.wait_for(|contact| contact.streams > 0),
        )
        .await
        .is_ok_and(|waited| waited.is_ok());
        if !followed && contact.borrow().is_unheard() {
            return Err(SessionError::Unheard);
        }
        if !followed {
            return Ok("the kubelet follows no stream");
        }
        let ended = contact.wait_for(|contact| contact.streams == 0).await;
        if ended.is_err() {
            return Ok("the server is gone");
        }
    }
}
