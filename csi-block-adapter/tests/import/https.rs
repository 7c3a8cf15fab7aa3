//! Web servers with TLS, and certificates to trust and not to trust.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

use crate::{
    kit::*,
    server::{Answer, Server, file},
    support::{Loop, MIB},
};

/// Where the server is.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How many authorities there are.
static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

/// A certificate authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, for `--ca-file`.
    pem: PathBuf,
    _dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("makes a key");
        let mut params = CertificateParams::default();
        // An authority of the same name would be taken for one that signs badly.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signs");
        let dir = tempfile::tempdir().expect("makes a directory");
        let pem = dir.path().join("ca.pem");
        fs::write(&pem, certificate.pem()).expect("writes");
        Self {
            issuer: Issuer::new(params, key),
            pem,
            _dir: dir,
        }
    }

    /// A server's identity, changed from a good one.
    fn certifies(&self, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let key = KeyPair::generate().expect("makes a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(HERE)];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from(key))
            .expect("is an identity")
    }

    fn file(&self) -> String {
        arg(&self.pem)
    }
}

fn device() -> Option<Loop> {
    Loop::new(16 * MIB, &[])
}

/// What a refusal says, which must be one line, after one connection, with the
/// device as it was.
fn refused(server: &Server, device: &Loop, options: &[&str]) -> String {
    let url = server.url("disk.raw");
    let said = bad(&import(&[&[&*url, &device.path], options].concat()), 2);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "{said}");
    assert!(server.asked.lock().expect("is sound").is_empty());
    holds(&device.path, &[], "refused");
    said
}

#[test]
fn a_server_that_the_given_authority_vouches_for_is_believed() {
    let Some(device) = device() else {
        return;
    };
    let authority = Authority::new();
    let bytes = content();
    let given = bytes.clone();
    let server = Server::secure(authority.certifies(|_| {}), move |asked| Answer {
        cut: Some(5_000_001),
        ..file(asked, &given, "\"one\"")
    });
    let url = server.url("disk.raw");
    good(&import(&[
        &url,
        &device.path,
        "--ca-file",
        &authority.file(),
    ]));
    holds(&device.path, &bytes, "over TLS");
    let asked = server.asked.lock().expect("is sound");
    assert_eq!(asked[1].headers["range"], "bytes=5000001-");
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused_with_the_way_out() {
    let Some(device) = device() else {
        return;
    };
    let server = Server::secure(Authority::new().certifies(|_| {}), |_| Answer::default());
    let said = refused(&server, &device, &[]);
    assert!(said.contains("UnknownIssuer"), "{said}");
    assert!(said.contains("with --ca-file"), "{said}");
}

#[test]
fn another_authority_another_name_and_an_old_certificate_are_refused() {
    let Some(device) = device() else {
        return;
    };
    let (authority, other) = (Authority::new(), Authority::new());
    let named = |params: &mut CertificateParams| {
        let name = "other.example".try_into().expect("is a name");
        params.subject_alt_names = vec![SanType::DnsName(name)];
    };
    let old = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 2, 3);
    for (config, said_of_it) in [
        (other.certifies(|_| {}), "UnknownIssuer"),
        (authority.certifies(named), "not valid for name"),
        (authority.certifies(old), "expired"),
    ] {
        let server = Server::secure(config, |_| Answer::default());
        let said = refused(&server, &device, &["--ca-file", &authority.file()]);
        assert!(said.contains(said_of_it), "{said_of_it}: {said}");
    }
}

#[test]
fn a_file_without_an_authority_and_a_server_without_tls_are_told_of() {
    let Some(device) = device() else {
        return;
    };
    let dir = tempfile::tempdir().expect("makes a directory");
    let none = dir.path().join("none.pem");
    fs::write(&none, "not a certificate\n").expect("writes");
    let arguments = [
        "https://127.0.0.1:1/a",
        &device.path,
        "--ca-file",
        &arg(&none),
    ];
    let said = bad(&import(&arguments), 2);
    assert!(said.contains("has no certificate in it"), "{said}");

    let plain = Server::new(|_| Answer::default());
    let url = format!("https://{}/a", plain.address);
    let said = bad(&import(&[&url, &device.path]), 2);
    assert!(said.contains("does not speak TLS"), "{said}");
}
