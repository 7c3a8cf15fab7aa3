//! An API server that answers as a real one seldom does, over a real socket.

use kube::{Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kubectl::testing::running;

/// Serves connections until the test ends: a VM to each GET, and to each PATCH
/// the next of these codes; 200 when there is none left.
async fn serve(listener: TcpListener, mut answers: Vec<u16>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        while let Some(method) = request(&mut stream).await {
            let code = match method.as_str() {
                "PATCH" => answers.pop().unwrap_or(200),
                _ => 200,
            };
            let body = match code {
                200 => serde_json::to_string(&running("web")).expect("JSON"),
                code => json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "reason": if code == 409 { "Conflict" } else { "ServiceUnavailable" },
                    "message": format!("answered {code}"),
                })
                .to_string(),
            };
            let head = format!(
                "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let answer = [head.as_bytes(), body.as_bytes()].concat();
            if stream.write_all(&answer).await.is_err() {
                break;
            }
        }
    }
}

/// Reads a request; its method.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let named = name.eq_ignore_ascii_case("content-length");
                named.then(|| value.parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(head.split(' ').next()?.to_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Stops a VM at a server that answers its patches so, the last first.
async fn stopped(answers: Vec<u16>) -> Result<Goal, PluginError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("http://{address}").parse().expect("a URL");
    let cluster = Cluster {
        client: Client::try_from(Config::new(url)).expect("a client"),
        namespace: "shop".to_owned(),
    };
    tokio::select! {
        () = serve(listener, answers) => panic!("the server ended"),
        asked = ask(&cluster, Action::Stop, "web") => asked,
    }
}

#[tokio::test]
async fn a_vm_that_changes_meanwhile_is_asked_again() {
    let goal = stopped(vec![409, 409])
        .await
        .expect("it is asked a third time");
    assert_eq!(goal, Goal::stopped().at(Some(1)));
}

#[tokio::test]
async fn a_vm_that_always_changes_is_given_up() {
    let error = stopped(vec![409; 9]).await.expect_err("it is given up");
    let text = error.to_string();
    assert!(
        text.starts_with("the API server refused to patch virtualmachines.coracle.dev \"web\""),
        "{text}"
    );
}
