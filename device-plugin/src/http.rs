//! `/metrics`, `/healthz` and `/readyz`, with as much of HTTP/1 as probes and
//! scrapers need: one `GET` per connection. The devices of the node do not
//! depend on it: it may fail to listen, and whoever floods it only loses
//! connections.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;

/// The longest head of a request.
const HEAD_MAX: u64 = 8 << 10;
/// How long a connection may last.
const LIMIT: Duration = Duration::from_secs(5);
/// How many connections there may be. One more ends the oldest.
const CONNECTIONS: usize = 16;
/// How long after a failure the next try is made.
const RETRY: Duration = Duration::from_secs(5);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves until it is stopped.
pub(crate) async fn serve(address: SocketAddr, metrics: Arc<Metrics>, stop: CancellationToken) {
    let _ = stop.run_until_cancelled(forever(address, metrics)).await;
}

async fn forever(address: SocketAddr, metrics: Arc<Metrics>) {
    let listener = listen(address).await;
    let mut connections = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    order.retain(|connection| !connection.is_finished());
                    if order.len() >= CONNECTIONS && let Some(oldest) = order.pop_front() {
                        oldest.abort();
                    }
                    let answered = timeout(LIMIT, answer(stream, metrics.clone()));
                    order.push_back(connections.spawn(answered));
                }
                Err(error) => {
                    warn!(%error, "no connection for metrics and probes can be taken");
                    sleep(RETRY).await;
                }
            },
            Some(ended) = connections.join_next() => debug!(?ended, "a connection ended"),
        }
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                // With port 0 the system has chosen one.
                let address = listener.local_addr().unwrap_or(address);
                info!(%address, "serving metrics and probes");
                return listener;
            }
            Err(error) => {
                warn!(%address, %error, "metrics and probes are not served, trying again");
                sleep(RETRY).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: Arc<Metrics>) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let (mut reader, mut writer) = stream.split();
    let mut limited = (&mut reader).take(HEAD_MAX);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let Page { status, kind, body } = page(&head, &metrics);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    writer.write_all(answer.as_bytes()).await?;
    writer.shutdown().await
}

/// What is answered.
struct Page {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Page {
    fn plain(status: &'static str, body: impl Into<String>) -> Self {
        let body = body.into();
        let kind = PLAIN;
        Self { status, kind, body }
    }
}

fn page(head: &[u8], metrics: &Metrics) -> Page {
    let head = String::from_utf8_lossy(head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Page::plain("400 Bad Request", "this is no HTTP\n");
    };
    if !version.starts_with("HTTP/1.") || !head.contains("\r\n\r\n") {
        return Page::plain("400 Bad Request", "this is no request of HTTP/1\n");
    }
    if method != "GET" {
        return Page::plain("405 Method Not Allowed", "there is only GET\n");
    }
    match path.split('?').next().unwrap_or_default() {
        "/healthz" => Page::plain("200 OK", "ok\n"),
        "/readyz" => ready(&metrics.missing()),
        "/metrics" => Page {
            status: "200 OK",
            kind: OPENMETRICS,
            body: metrics.to_text(),
        },
        _ => Page::plain("404 Not Found", "there are /metrics, /healthz, /readyz\n"),
    }
}

fn ready(missing: &[String]) -> Page {
    if missing.is_empty() {
        return Page::plain("200 OK", "ok\n");
    }
    let body = format!("not registered: {}\n", missing.join(", "));
    Page::plain("503 Service Unavailable", body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::channel;

    #[test]
    fn what_is_asked_decides_the_answer() {
        let metrics = Metrics::default();
        metrics.begin("coracle.dev/kvm", channel().subscribe());
        for (head, status, body) in [
            ("GET /healthz HTTP/1.1\r\n\r\n", "200", "ok"),
            ("GET /readyz HTTP/1.1\r\n\r\n", "503", "coracle.dev/kvm"),
            ("GET /metrics?a=b HTTP/1.0\r\n\r\n", "200", "# EOF"),
            ("GET / HTTP/1.1\r\n\r\n", "404", "/metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405", "GET"),
            ("GET /metrics HTTP/1.1\r\nA: ", "400", "request"),
            ("GET /metrics HTTP/2.0\r\n\r\n", "400", "HTTP/1"),
            ("\u{16}\u{3}\u{1}", "400", "HTTP"),
            ("", "400", "HTTP"),
        ] {
            let page = page(head.as_bytes(), &metrics);
            assert!(page.status.starts_with(status), "{head:?}: {}", page.status);
            assert!(page.body.contains(body), "{head:?}: {}", page.body);
        }
    }
}
