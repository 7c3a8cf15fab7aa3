//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Health says that the process answers. Ready says that it could lead or
//! does: a standby is ready, a leader once it has seen every VM.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// What `/readyz` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// The API server has not answered yet.
    #[default]
    Starting,
    /// Another replica leads.
    Standby,
    /// This replica leads and has not seen every VM yet.
    Listing,
    /// This replica leads.
    Leading,
}

impl Readiness {
    fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Self::Standby => (StatusCode::OK, "standby\n"),
            Self::Listing => (StatusCode::SERVICE_UNAVAILABLE, "listing\n"),
            Self::Leading => (StatusCode::OK, "leading\n"),
        }
    }
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `stop`.
///
/// # Errors
/// What the listener says.
pub async fn serve(
    listener: TcpListener,
    readiness: watch::Receiver<Readiness>,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ready = move || {
        let answer = readiness.borrow().answer();
        async move { answer }
    };
    let text = move || {
        let text = metrics.to_text();
        async move { ([(header::CONTENT_TYPE, OPENMETRICS)], text) }
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(text));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}
