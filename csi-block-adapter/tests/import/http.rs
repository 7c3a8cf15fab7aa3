//! Web servers, good and bad.

use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use crate::{
    kit::*,
    server::{Answer, Server, file},
    support::MIB,
};

/// Bytes after which a connection is cut.
const CUT: usize = 1 << 20;

fn sum(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".into(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[test]
fn a_connection_that_is_cut_is_taken_up_where_it_was_cut() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let bytes = content();
    let given = bytes.clone();
    let server = Server::new(move |asked| Answer {
        cut: Some(3_000_001),
        ..file(asked, &given, "\"one\"")
    });
    good(&import(&[
        &server.url("disk.raw"),
        &device.path,
        "--checksum",
        &sum(&bytes),
    ]));
    holds(&device.path, &bytes, "cut");
    let asked = server.asked.lock().expect("is sound");
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[1].headers["range"], "bytes=3000001-");
    assert_eq!(asked[1].headers["if-range"], "\"one\"");
}

#[test]
fn a_wrong_sum_leaves_no_disk_and_the_right_one_fills_it_afterwards() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let bytes = content();
    let given = bytes.clone();
    let server = Server::new(move |asked| file(asked, &given, "\"one\""));
    let url = server.url("disk.raw");
    let said = bad(
        &import(&[&url, &device.path, "--checksum", &sum(b"other")]),
        2,
    );
    assert!(said.contains("SHA-256"), "{said}");
    let begin = std::fs::read(&device.path).expect("reads")[..512].to_vec();
    assert!(begin.starts_with(b"coracle.dev: an import is in progress"));
    good(&import(&[&url, &device.path, "--checksum", &sum(&bytes)]));
    holds(&device.path, &bytes, "again");
}

#[test]
fn a_server_that_lies_is_not_believed() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let bytes = content();
    let given = bytes.clone();
    let lies = Server::new(move |asked| {
        let mut answer = file(asked, &given, "\"one\"");
        answer.cut = Some(CUT);
        for (name, value) in &mut answer.headers {
            if name == "Content-Range" {
                *value = format!("bytes 0-{}/{DISK}", DISK - 1);
            }
        }
        answer
    });
    let said = bad(&import(&[&lies.url("a"), &device.path]), 2);
    assert!(
        said.contains("asked for the bytes from 1048576 on"),
        "{said}"
    );

    let (given, count) = (bytes.clone(), AtomicUsize::new(0));
    let changes = Server::new(move |asked| Answer {
        cut: Some(CUT),
        ..file(
            asked,
            &given,
            &format!("\"{}\"", count.fetch_add(1, Ordering::Relaxed)),
        )
    });
    let said = bad(&import(&[&changes.url("a"), &device.path]), 1);
    assert!(said.contains("changed on the server"), "{said}");

    let given = bytes.clone();
    let silent = Server::new(move |asked| {
        let mut answer = file(asked, &given, "\"one\"");
        answer.headers.retain(|(name, _)| name != "ETag");
        answer.cut.replace(CUT);
        answer
    });
    let said = bad(&import(&[&silent.url("a"), &device.path]), 1);
    assert!(said.contains("neither ETag nor Last-Modified"), "{said}");
    // With a sum nothing can go wrong unseen.
    good(&import(&[
        &silent.url("a"),
        &device.path,
        "--checksum",
        &sum(&bytes),
    ]));
    holds(&device.path, &bytes, "with a sum");
}

#[test]
fn refusals_say_why_and_never_a_credential() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let server = Server::new(|asked| Answer {
        status: if asked.path.starts_with("/loop") {
            302
        } else {
            404
        },
        headers: vec![("Location".into(), "/loop?secret".into())],
        ..Answer::default()
    });
    for path in ["none?secret", "loop?secret"] {
        let url = format!("http://user:secret@{}/{path}", server.address);
        let said = bad(&import(&[&url, &device.path]), 2);
        assert!(!said.contains("secret"), "{said}");
    }
    let asked = server.asked.lock().expect("is sound");
    assert_eq!(asked[0].headers["authorization"], "Basic dXNlcjpzZWNyZXQ=");
}

#[test]
fn a_redirect_is_followed_and_takes_no_credential_along() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let bytes = content();
    let given = bytes.clone();
    let second = Server::new(move |asked| file(asked, &given, "\"one\""));
    let to = second.url("there");
    let first = Server::new(move |_| Answer {
        status: 307,
        headers: vec![("Location".into(), to.clone())],
        ..Answer::default()
    });
    let url = format!("http://user:secret@{}/here", first.address);
    good(&import(&[&url, &device.path]));
    holds(&device.path, &bytes, "redirected");
    let asked = second.asked.lock().expect("is sound");
    assert!(!asked[0].headers.contains_key("authorization"), "{asked:?}");
}
