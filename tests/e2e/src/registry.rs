//! A registry that pods of the first node reach, with TLS, under a certificate
//! authority that nobody knows: one image, as anybody may fetch it (OCI
//! distribution specification 1.1).

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::image::Image;
use crate::web::ADDRESS;

/// What is asked for, and is there.
type Answers = BTreeMap<String, Vec<u8>>;

/// A registry; it serves until the tests end.
pub struct Registry {
    port: u16,
    /// Its authority's certificate, in PEM form.
    pub authority: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    /// Serves an image as `name`, which has a tag.
    ///
    /// # Errors
    /// When it gets no port or no certificate.
    pub fn serve(name: &str, image: &Image) -> anyhow::Result<Self> {
        let (repository, tag) = name.split_once(':').context("no tag")?;
        let (manifest, blobs) = image.blobs()?;
        let mut answers = Answers::new();
        for version in [tag, &manifest.digest()] {
            let path = format!("/v2/{repository}/manifests/{version}");
            answers.insert(path, manifest.bytes.clone());
        }
        for blob in blobs {
            let path = format!("/v2/{repository}/blobs/{}", blob.digest());
            answers.insert(path, blob.bytes);
        }
        let (config, authority) = identity()?;
        let listener = TcpListener::bind((ADDRESS, 0)).context("no port for a registry")?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (Arc::clone(&asked), Arc::new(answers));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, seen) = (Arc::clone(&config), Arc::clone(&seen));
                let answers = Arc::clone(&answers);
                // Whoever hangs up early asked all the same.
                thread::spawn(move || answer(stream, config, &answers, &seen));
            }
        });
        Ok(Self {
            port,
            authority,
            asked,
        })
    }

    /// How an image of it is named.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{ADDRESS}:{}/{name}", self.port)
    }

    /// How often somebody asked for something with this in its path.
    #[must_use]
    pub fn asked(&self, part: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|path| path.contains(part)).count()
    }
}

/// Who the server is, and who says so.
fn identity() -> anyhow::Result<(Arc<ServerConfig>, String)> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    let name = "an authority of the tests";
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::default();
    server.subject_alt_names = vec![SanType::IpAddress(ADDRESS.parse::<IpAddr>()?)];
    let certificate = server.signed_by(&key, &issuer)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok((Arc::new(config), pem))
}

fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answers: &Answers,
    asked: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut lines = BufReader::new(&mut stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let found = answers.get(&path);
    let mut list = asked.lock().unwrap_or_else(PoisonError::into_inner);
    list.push(path);
    drop(list);
    let status = if found.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let body = found.map_or(&[][..], Vec::as_slice);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
