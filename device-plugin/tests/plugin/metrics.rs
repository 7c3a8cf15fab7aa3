//! What the program serves over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};

use coracle_kubelet::Options;

use crate::binary::Program;
use crate::kit::{LIMIT, Node, RESOURCE, all_healthy, none_healthy};

/// What a program has logged so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn add(&self, line: String) {
        self.0.0.lock().expect("no panic").push(line);
        self.0.1.notify_all();
    }

    /// How many lines have these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        let lines = self.0.0.lock().expect("no panic");
        lines.iter().filter(|line| line.contains(words)).count()
    }

    /// Waits until a line has these words.
    pub(crate) fn wait_for(&self, words: &str) {
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(words));
        let lines = self.0.0.lock().expect("no panic");
        let (lines, waited) = self
            .0
            .1
            .wait_timeout_while(lines, LIMIT, missing)
            .expect("no panic");
        assert!(!waited.timed_out(), "{words:?} is not in {lines:#?}");
    }
}

/// The program, where it listens, and its log.
pub(crate) fn listening(node: &Node, arguments: &[&str]) -> (Program, String, Log) {
    let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
    let (program, mut lines) = Program::told(node, &arguments);
    let log = Log::default();
    let address = lines.find_map(|line| {
        let line = line.ok()?;
        log.add(line.clone());
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        Some(line["fields"]["address"].as_str()?.to_owned())
    });
    let address = address.expect("an address in the log");
    // A full pipe would stop the program.
    let rest = log.clone();
    std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| rest.add(line));
    });
    (program, address, log)
}

fn ask(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.write_all(head.as_bytes()).expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    answer
}

pub(crate) fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

#[tokio::test]
async fn probes_and_scrapes_are_answered() {
    let Some(node) = Node::new() else { return };
    let (_program, address, _log) = listening(&node, &[]);

    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    while !get(&address, "/readyz").contains("not registered: coracle.dev/kvm\n") {
        tokio::task::yield_now().await;
    }
    let kubelet = node.kubelet(Options::default()).await;
    all_healthy(&kubelet).await;
    while !get(&address, "/readyz").starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    kubelet.allocate(RESOURCE, 1).await.expect("allocates");
    let text = get(&address, "/metrics");
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("# EOF\n"));
    for line in [
        "devices{resource=\"coracle.dev/kvm\",health=\"healthy\"} 3",
        "allocations_total{resource=\"coracle.dev/kvm\",result=\"ok\"} 1",
        "registrations_total{resource=\"coracle.dev/kvm\",result=\"ok\"} 1",
        "kvm_probe_duration_seconds_count{by=\"plugin\",result=\"passed\"} ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    node.unplug();
    none_healthy(&kubelet).await;
    let unhealthy = "devices{resource=\"coracle.dev/kvm\",health=\"unhealthy\"} 3";
    assert!(get(&address, "/metrics").contains(unhealthy));
    kubelet.stop().await;
}

#[tokio::test]
async fn who_floods_it_or_speaks_something_else_keeps_nobody_out() {
    let Some(node) = Node::new() else { return };
    let (_program, address, _log) = listening(&node, &[]);
    let silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(&address).expect("somebody listens"))
        .collect();
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000));
    for head in ["\u{16}\u{3}\u{1}\u{2}\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"] {
        assert!(ask(&address, head).starts_with("HTTP/1.1 400"), "{head:?}");
    }
    // The rest of it may be cut off with a reset.
    let mut stream = TcpStream::connect(&address).expect("somebody listens");
    let _ = stream.write_all(long.as_bytes());
    let _ = stream.read_to_end(&mut vec![]);
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    drop(silent);
}
