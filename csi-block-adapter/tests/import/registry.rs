//! A registry on this machine.

use std::{collections::BTreeMap, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

use crate::{
    kit::*,
    server::{Answer, Server, file},
    support::{MIB, has},
};

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".into(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, path, *bytes)
            .expect("appends");
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed
        .write_all(&archive.into_inner().expect("ends"))
        .expect("packs");
    packed.finish().expect("packs")
}

/// A registry that wants a token and has these layers in `vm:1`.
fn registry(media_type: &str, layers: &[Vec<u8>], broken: bool) -> Server {
    let descriptors: Vec<_> = layers
        .iter()
        .map(|bytes| {
            serde_json::json!({
                "mediaType": media_type, "digest": digest(bytes), "size": bytes.len()
            })
        })
        .collect();
    let image = serde_json::json!({"schemaVersion": 2, "layers": descriptors}).to_string();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "x", "digest": digest(b"arm"), "size": 1,
         "platform": {"architecture": "arm64", "os": "linux"}},
        {"mediaType": "x", "digest": digest(image.as_bytes()), "size": image.len(),
         "platform": {"architecture": "amd64", "os": "linux"}}]});
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::from([
        ("/v2/vm/manifests/1".into(), index.to_string().into_bytes()),
        (
            format!("/v2/vm/manifests/{}", digest(image.as_bytes())),
            image.into_bytes(),
        ),
    ]);
    for bytes in layers {
        let mut served = bytes.clone();
        if broken {
            *served.last_mut().expect("is not empty") ^= 1;
        }
        blobs.insert(format!("/v2/vm/blobs/{}", digest(bytes)), served);
    }
    Server::new(move |asked| {
        let host = &asked.headers["host"];
        if asked.path.starts_with("/token") {
            let token = Answer {
                status: 200,
                ..Answer::default()
            };
            return Answer {
                body: br#"{"token": "T"}"#.to_vec(),
                ..token
            };
        }
        if asked.headers.get("authorization").map(String::as_str) != Some("Bearer T") {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return Answer {
                status: 401,
                headers: vec![("WWW-Authenticate".into(), challenge)],
                ..Answer::default()
            };
        }
        match blobs.get(&asked.path) {
            Some(bytes) => file(asked, bytes, "\"x\""),
            None => Answer {
                status: 404,
                ..Answer::default()
            },
        }
    })
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[test]
fn a_container_disk_arrives_from_the_topmost_layer_that_has_it() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    if !has("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().expect("makes a directory");
    let image = std::fs::read(qcow2(&dir, "image", &[])).expect("reads");
    let layers = [
        layer(&[("disk/disk.img", b"an old one")]),
        layer(&[("etc/passwd", b"x"), ("./disk/disk.img", &image)]),
        layer(&[("README", b"no disk here")]),
    ];
    let server = registry(TAR, &layers, false);
    let reference = format!("docker://{}/vm:1", server.address);
    good(&import(&[&reference, &device.path, "--plain-http"]));
    holds(&device.path, &content(), "container disk");
    let named = format!("{reference}#/disk/disk.img");
    good(&import(&[
        &named,
        &device.path,
        "--plain-http",
        "--overwrite",
    ]));
    holds(&device.path, &content(), "named");
    let none = format!("{reference}#disk/none.img");
    let said = bad(
        &import(&[&none, &device.path, "--plain-http", "--overwrite"]),
        2,
    );
    assert!(said.contains("the file after # is not in it"), "{said}");
}

#[test]
fn an_artifact_is_the_disk_itself() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let server = registry("application/octet-stream", &[content()], false);
    let reference = format!("oci://{}/vm:1", server.address);
    good(&import(&[&reference, &device.path, "--plain-http"]));
    holds(&device.path, &content(), "artifact");
}

#[test]
fn a_blob_that_is_not_its_digest_makes_no_disk() {
    let Some(device) = used_device(16 * MIB) else {
        return;
    };
    let server = registry("application/octet-stream", &[content()], true);
    let reference = format!("oci://{}/vm:1", server.address);
    let said = bad(&import(&[&reference, &device.path, "--plain-http"]), 2);
    assert!(said.contains("SHA-256"), "{said}");
    let begin = std::fs::read(&device.path).expect("reads")[..512].to_vec();
    assert!(begin.starts_with(b"coracle.dev: an import is in progress"));
}
