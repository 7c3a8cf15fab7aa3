//! `coracle-controller` as a process.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::fixture::{PATIENCE, SYSTEM};

/// A running controller.
pub(crate) struct Program {
    child: Child,
    address: String,
}

impl Program {
    /// Starts it, or the one that `CORACLE_CONTROLLER` names, and reads from its
    /// log where it listens.
    pub(crate) fn start(kubeconfig: &Path) -> Self {
        let built = || env!("CARGO_BIN_EXE_coracle-controller").into();
        let program = std::env::var_os("CORACLE_CONTROLLER").unwrap_or_else(built);
        let mut child = Command::new(program)
            .env("KUBECONFIG", kubeconfig)
            .args(["--identity", "third", "--namespace", SYSTEM])
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines();
        let (send, receive) = std::sync::mpsc::channel();
        tokio::spawn(async move {
            // Read to the end, or the program would wait for its reader.
            while let Ok(Some(line)) = lines.next_line().await {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) = entry["address"].as_str() {
                    let _ = send.send(address.to_owned());
                }
            }
        });
        let address = tokio::task::block_in_place(|| receive.recv_timeout(PATIENCE));
        let address = address.expect("it says where it listens");
        Self { child, address }
    }

    /// Its process.
    #[allow(dead_code, reason = "what measures it needs it")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The body of an answer.
    pub(crate) async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        body.to_owned()
    }

    /// Sends SIGTERM and waits for the end, which must be a success.
    pub(crate) async fn terminate(&mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(killed.expect("kill runs").success());
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let ended = ended.expect("it ends").expect("it can be waited for");
        assert!(ended.success(), "{ended}");
    }
}
