//! Who asks a registry: a bearer token from the registry's token service
//! (distribution's token specification), or basic credentials from a Docker
//! `config.json`. Anonymous where there are none.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::import::{
    error::ImportError,
    fetch::{Client, FetchError},
    source::{Reference, Url},
};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What is shown to a registry.
pub(super) struct Credentials {
    /// Base64 of user and password.
    basic: Option<String>,
    header: Option<String>,
    asked: bool,
}

impl Credentials {
    /// Takes those for `host` from the text of a `config.json`.
    pub(super) fn new(config: Option<&str>, host: &str) -> Result<Self, ImportError> {
        let basic = match config {
            None => None,
            Some(text) => {
                let config: Config =
                    serde_json::from_str(text).map_err(|_| ImportError::Source {
                        text: "--auth-file".into(),
                        why: "it is not a Docker config.json",
                    })?;
                let hub = "https://index.docker.io/v1/";
                let names = [
                    host,
                    if host.ends_with("docker.io") {
                        hub
                    } else {
                        host
                    },
                ];
                let entry = names.iter().find_map(|name| config.auths.get(*name));
                entry.and_then(|entry| entry.auth.clone())
            }
        };
        Ok(Self {
            basic,
            header: None,
            asked: false,
        })
    }

    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    pub(super) fn header(&self) -> Option<(&'static str, String)> {
        let value = self.header.clone()?;
        Some(("Authorization", value))
    }

    /// Gets what the registry asks for in its refusal.
    pub(super) fn obtain(
        &mut self,
        client: &Client,
        url: &Url,
        reference: &Reference,
    ) -> Result<(), FetchError> {
        self.asked = true;
        let basic = self.basic.as_ref().map(|basic| format!("Basic {basic}"));
        let refusal = client.get(url, &[])?;
        let challenge = refusal.headers().get("www-authenticate");
        let challenge = challenge
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let Some(parameters) = challenge.strip_prefix("Bearer ").map(parameters) else {
            self.header = basic;
            return Ok(());
        };
        let refused = |what: &str| FetchError::Protocol {
            url: url.to_string(),
            what: what.into(),
        };
        let realm = parameters
            .get("realm")
            .filter(|realm| realm.starts_with("http"));
        let realm = realm.ok_or_else(|| refused("its token service has no address"))?;
        // A token service in the clear would be given the password in the clear.
        if url.address.starts_with("https:") && !realm.starts_with("https:") {
            return Err(refused("its token service has no TLS"));
        }
        let service = parameters.get("service").cloned().unwrap_or_default();
        let scope = format!("repository:{}:pull", reference.repository);
        let join = if realm.contains('?') { '&' } else { '?' };
        let token_url = Url {
            address: format!(
                "{realm}{join}service={}&scope={scope}",
                service.replace(' ', "%20")
            ),
            user: None,
        };
        let headers: Vec<_> = basic
            .map(|basic| ("Authorization", basic))
            .into_iter()
            .collect();
        let mut response = client.get(&token_url, &headers)?;
        if !response.status().is_success() {
            return Err(FetchError::Status {
                url: token_url.to_string(),
                status: response.status().as_u16(),
            });
        }
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 20)
            .read_to_string();
        let token: Option<Token> = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        let token = token.and_then(|token| token.token.or(token.access_token));
        let token = token.ok_or_else(|| refused("its token service gave no token"))?;
        self.header = Some(format!("Bearer {token}"));
        Ok(())
    }
}

/// `name="value"` pairs, separated by commas.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        found.insert(
            name.trim_matches([' ', ',']).to_ascii_lowercase(),
            value.to_owned(),
        );
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let found = parameters(r#"realm="https://a.io/token",service="a.io, b",scope=x"#);
        assert_eq!(found["realm"], "https://a.io/token");
        assert_eq!(found["service"], "a.io, b");
        assert_eq!(found["scope"], "x");
    }

    #[test]
    fn credentials_are_those_of_the_host() {
        let config = r#"{"auths": {"r.io": {"auth": "QQ=="}, "q.io": {}}, "credsStore": "x"}"#;
        assert_eq!(
            Credentials::new(Some(config), "r.io")
                .unwrap()
                .basic
                .unwrap(),
            "QQ=="
        );
        assert!(
            Credentials::new(Some(config), "q.io")
                .unwrap()
                .basic
                .is_none()
        );
        assert!(Credentials::new(Some("7"), "q.io").is_err());
    }
}
