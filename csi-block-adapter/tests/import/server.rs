//! A web server on a port of its own that does as it is told: cuts
//! connections, lies about ranges, changes its files. With TLS or without.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What a server does.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes after which the connection is cut.
    pub(crate) cut: Option<usize>,
}

pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections, good and bad.
    pub(crate) connections: Arc<AtomicUsize>,
    scheme: &'static str,
}

impl Server {
    /// Serves until the test ends.
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(None, answer)
    }

    /// The same with TLS.
    pub(crate) fn secure(
        config: ServerConfig,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with(Some(Arc::new(config)), answer)
    }

    fn with(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (seen, answer, tls) = (Arc::clone(&seen), Arc::clone(&answer), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(stream, &seen, answer.as_ref()),
                    Some(config) => serve_secure(stream, config, &seen, answer.as_ref()),
                });
            }
        });
        Self {
            address,
            asked,
            connections,
            scheme,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}/{path}", self.scheme, self.address)
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) {
    exchange(&mut stream, seen, answer);
    let _ = stream.shutdown(Shutdown::Write);
}

fn serve_secure(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Answer,
) {
    let session = ServerConnection::new(config).expect("is a configuration");
    let mut stream = StreamOwned::new(session, stream);
    // One that was cut says no goodbye.
    if exchange(&mut stream, seen, answer) == Some(Whole::Yes) {
        stream.conn.send_close_notify();
    }
    let _ = stream.flush();
    let _ = stream.sock.shutdown(Shutdown::Write);
}

/// Whether an answer was sent as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// Reads a request and answers it; `None` where there is none.
fn exchange(
    stream: &mut (impl Read + Write),
    seen: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Answer,
) -> Option<Whole> {
    let mut lines = BufReader::new(&mut *stream).lines();
    let Ok(first) = lines.next()? else {
        // No text: TLS where none is spoken. Servers say so in clear.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        return None;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let asked = Asked { path, headers };
    seen.lock().expect("is sound").push(asked.clone());
    let answer = answer(&asked);
    let head = head(&answer);
    let end = answer.cut.unwrap_or(usize::MAX).min(answer.body.len());
    // The client may have gone.
    let _ = stream
        .write_all(format!("{head}\r\n").as_bytes())
        .and_then(|()| stream.write_all(&answer.body[..end]));
    Some(if end == answer.body.len() {
        Whole::Yes
    } else {
        Whole::No
    })
}

fn head(answer: &Answer) -> String {
    use std::fmt::Write as _;
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    if !answer
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length")
    {
        let _ = write!(head, "Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head
}

/// A file as an honest server gives it, its ranges too.
pub(crate) fn file(asked: &Asked, bytes: &[u8], tag: &str) -> Answer {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let mut headers = vec![header("ETag", tag.to_owned())];
    let first = asked.headers.get("range").and_then(|range| {
        let first = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        first.parse::<usize>().ok()
    });
    let same = asked
        .headers
        .get("if-range")
        .is_none_or(|wanted| wanted == tag);
    match first.filter(|first| same && *first < bytes.len()) {
        Some(first) => {
            let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
            headers.push(header("Content-Range", range));
            Answer {
                status: 206,
                headers,
                body: bytes[first..].to_vec(),
                cut: None,
            }
        }
        None => Answer {
            status: 200,
            headers,
            body: bytes.to_vec(),
            cut: None,
        },
    }
}
