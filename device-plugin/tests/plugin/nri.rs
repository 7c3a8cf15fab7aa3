//! The plugin and a container runtime that asks it about containers, over a
//! real socket: one that behaves, and some that do not.

use std::path::Path;

use coracle_device_plugin::Config;
use coracle_proto::nri::{
    self, ConfigureResponse, Container, CreateContainerRequest, CreateContainerResponse, Event,
    LinuxContainer, LinuxDevice, PosixRlimit, RegisterPluginRequest, SynchronizeRequest,
    SynchronizeResponse,
};
use coracle_proto::ttrpc::{Request, Response, Status};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::kit::{LIMIT, Node, Plugin, all_healthy, none_healthy};
use crate::metrics::{get, listening};

/// Over these the runtime calls the plugin, and the plugin the runtime.
const PLUGIN: u32 = 1;
const RUNTIME: u32 = 2;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A container runtime's side of one connection.
struct Session {
    stream: UnixStream,
    calls: u32,
}

/// Listens in the place of whoever did before.
fn runtime(path: &Path) -> UnixListener {
    let new = path.with_extension("new");
    let listener = UnixListener::bind(&new).expect("binds");
    std::fs::rename(new, path).expect("renames");
    listener
}

impl Session {
    async fn accept(listener: &UnixListener) -> Self {
        let accepted = timeout(LIMIT, listener.accept()).await;
        let (stream, _) = accepted.expect("the plugin comes").expect("accepts");
        Self { stream, calls: 0 }
    }

    /// Takes the plugin in as a runtime does.
    async fn admitted(listener: &UnixListener) -> Self {
        let mut session = Self::accept(listener).await;
        session.register(None).await;
        let configured = session.call("Configure", vec![]).await;
        let configured = ConfigureResponse::decode(configured.as_slice()).expect("a response");
        assert_eq!(configured.events, 1 << (Event::CreateContainer as i32 - 1));
        session.synchronize(vec![0; 3 << 20], true).await;
        session.synchronize(vec![], false).await;
        session
    }

    /// Answers the plugin's registration.
    async fn register(&mut self, refusal: Option<Status>) {
        let (connection, stream, kind, payload) = self.receive().await;
        assert_eq!((connection, stream, kind), (RUNTIME, 1, REQUEST));
        let call = Request::decode(payload.as_slice()).expect("a call");
        assert_eq!(call.service, nri::RUNTIME);
        assert_eq!(call.method, "RegisterPlugin");
        let who = RegisterPluginRequest::decode(call.payload.as_slice()).expect("a request");
        assert_eq!(who.plugin_name, "coracle-memory-lock");
        assert!(who.plugin_idx.len() == 2 && who.plugin_idx.parse::<u8>().is_ok());
        let response = Response {
            status: refusal,
            payload: vec![],
        };
        self.send(RUNTIME, 1, RESPONSE, &response.encode_to_vec())
            .await;
    }

    /// Tells of the containers that there are; `pods` is one that is skipped.
    async fn synchronize(&mut self, pods: Vec<u8>, more: bool) {
        let mut request = SynchronizeRequest { more }.encode_to_vec();
        prost::encoding::bytes::encode(1, &pods, &mut request);
        let response = self.call("Synchronize", request).await;
        let response = SynchronizeResponse::decode(response.as_slice()).expect("a response");
        assert_eq!(response.more, more);
    }

    /// The limits that a container gets.
    async fn create(&mut self, variable: &str, node: &str) -> Vec<PosixRlimit> {
        let device = LinuxDevice {
            path: node.to_owned(),
            r#type: "c".to_owned(),
        };
        let container = Container {
            env: vec![format!("{variable}=x")],
            linux: Some(LinuxContainer {
                devices: vec![device],
            }),
            ..Container::default()
        };
        let request = CreateContainerRequest {
            pod: None,
            container: Some(container),
        };
        let response = self.call("CreateContainer", request.encode_to_vec()).await;
        let response = CreateContainerResponse::decode(response.as_slice()).expect("a response");
        response
            .adjust
            .map_or_else(Vec::new, |adjust| adjust.rlimits)
    }

    /// Calls the plugin, and returns what it answers well.
    async fn call(&mut self, method: &str, payload: Vec<u8>) -> Vec<u8> {
        let request = Request {
            service: nri::PLUGIN.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: 2_000_000_000,
        };
        let stream = self.calls * 2 + 1;
        self.calls += 1;
        self.send(PLUGIN, stream, REQUEST, &request.encode_to_vec())
            .await;
        let (connection, answered, kind, payload) = self.receive().await;
        assert_eq!((connection, answered, kind), (PLUGIN, stream, RESPONSE));
        let response = Response::decode(payload.as_slice()).expect("a response");
        assert_eq!(response.status, None, "{method}");
        response.payload
    }

    /// As the runtime's library writes: what fits its buffer by itself.
    async fn send(&mut self, connection: u32, stream: u32, kind: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short message");
        let mut message = [length.to_be_bytes(), stream.to_be_bytes()].concat();
        message.extend([kind, 0]);
        message.extend(payload);
        let (first, rest) = message.split_at(message.len().min(4096));
        for part in [first, rest] {
            let length = u32::try_from(part.len()).expect("a short part");
            let head = [connection.to_be_bytes(), length.to_be_bytes()].concat();
            let frame = [&head, part].concat();
            self.stream.write_all(&frame).await.expect("writes");
        }
    }

    /// A message of the plugin: each is one short frame.
    async fn receive(&mut self) -> (u32, u32, u8, Vec<u8>) {
        let read = async {
            let connection = self.stream.read_u32().await.expect("reads");
            let frame = self.stream.read_u32().await.expect("reads");
            assert!(frame <= 4096, "the runtime's buffer has {frame} bytes");
            let length = self.stream.read_u32().await.expect("reads");
            assert_eq!(frame, length + 10);
            let stream = self.stream.read_u32().await.expect("reads");
            let kind = self.stream.read_u8().await.expect("reads");
            assert_eq!(self.stream.read_u8().await.expect("reads"), 0, "no flags");
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.expect("reads");
            (connection, stream, kind, payload)
        };
        timeout(LIMIT, read)
            .await
            .expect("the plugin says something")
    }

    /// Waits until the plugin has hung up.
    async fn ends(mut self) {
        let read = timeout(LIMIT, self.stream.read_to_end(&mut vec![])).await;
        let _ = read.expect("the plugin hangs up");
    }
}

const OURS: &str = "CORACLE_DEVICE_EXAMPLE_COM_GPU";

async fn raises(session: &mut Session) {
    let limits = session.create(OURS, "/dev/vfio/7").await;
    let limit = PosixRlimit {
        r#type: "RLIMIT_MEMLOCK".to_owned(),
        hard: u64::MAX,
        soft: u64::MAX,
    };
    assert_eq!(limits, [limit]);
}

#[tokio::test]
async fn a_container_with_a_device_of_vfio_may_lock_memory_and_no_other() {
    let Some(node) = Node::new() else { return };
    let path = node.open_dir().join("nri.sock");
    let listener = runtime(&path);
    let plugin = Plugin::start(Config {
        nri: Some(path),
        ..node.config()
    });
    let mut session = Session::admitted(&listener).await;
    raises(&mut session).await;
    for (variable, node) in [
        (OURS, "/dev/kvm"),
        (OURS, "/dev/vfio/vfio"),
        ("PCIDEVICE_EXAMPLE_COM_GPU", "/dev/vfio/7"),
    ] {
        let limits = session.create(variable, node).await;
        assert!(limits.is_empty(), "{variable} {node}: {limits:?}");
    }
    // What cannot be read, or was not asked for, fails no container.
    for method in ["CreateContainer", "StopContainer", "StateChange"] {
        assert!(session.call(method, vec![255]).await.is_empty(), "{method}");
    }
    raises(&mut session).await;
    plugin.stop().await;
    session.ends().await;
}

#[tokio::test]
async fn it_comes_back_whatever_ends_the_connection() {
    let Some(node) = Node::new() else { return };
    let path = node.open_dir().join("run/nri.sock");
    let plugin = Plugin::start(Config {
        nri: Some(path.clone()),
        ..node.config()
    });
    // There is not even a directory at first.
    std::fs::create_dir(path.parent().expect("a directory")).expect("creates");
    let first = runtime(&path);
    let mut session = Session::admitted(&first).await;
    raises(&mut session).await;

    // The runtime hangs up, refuses, or speaks something else.
    drop(session);
    let mut session = Session::accept(&first).await;
    let status = Status {
        code: 2,
        message: "plugins are not wanted".to_owned(),
    };
    session.register(Some(status)).await;
    session.ends().await;
    let mut session = Session::accept(&first).await;
    session
        .stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .expect("writes");
    session.ends().await;

    // Another runtime takes over, while nobody answers at the old socket.
    let second = runtime(&path);
    raises(&mut Session::admitted(&second).await).await;
    drop((first, second));
    let third = runtime(&path);
    raises(&mut Session::admitted(&third).await).await;
    plugin.stop().await;
}

#[tokio::test]
async fn a_runtime_that_says_nothing_keeps_no_device_from_the_kubelet() {
    let Some(node) = Node::new() else { return };
    let path = node.open_dir().join("nri.sock");
    let listener = runtime(&path);
    let plugin = Plugin::start(Config {
        nri: Some(path),
        ..node.config()
    });
    let silent = Session::accept(&listener).await;
    let kubelet = node.kubelet(coracle_kubelet::Options::default()).await;
    all_healthy(&kubelet).await;
    node.unplug();
    none_healthy(&kubelet).await;
    plugin.stop().await;
    silent.ends().await;
}

#[tokio::test]
async fn whether_the_runtime_asks_is_in_the_log_and_in_the_metrics() {
    let Some(node) = Node::new() else { return };
    let path = node.open_dir().join("nri.sock");
    let argument = format!("--nri-socket={}", path.display());
    let (_program, address, log) = listening(&node, &[&argument]);
    let shows = async |wanted: &str| {
        let shown = async {
            while !get(&address, "/metrics").contains(wanted) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, shown).await.expect(wanted);
    };
    shows("device_plugin_nri_connected 0\n").await;
    let listener = runtime(&path);
    let mut session = Session::admitted(&listener).await;
    shows("device_plugin_nri_connected 1\n").await;
    raises(&mut session).await;
    shows("device_plugin_memory_locks_total{result=\"raised\"} 1\n").await;
    drop(session);
    shows("device_plugin_nri_connected 0\n").await;
    for said in [
        "the container runtime takes no plugins (NRI)",
        "connected with the container runtime",
        "may lock memory for its device",
        "the runtime closed the connection",
    ] {
        let waited = tokio::task::spawn_blocking({
            let log = log.clone();
            move || log.wait_for(said)
        });
        waited.await.expect("it is in the log");
    }
}
