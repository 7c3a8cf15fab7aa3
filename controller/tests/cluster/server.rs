//! etcd and kube-apiserver, for as long as this process lives.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::config::AuthInfo;
use kube::{Client, Config};

/// Whom a request is from: a token of the server's token file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// May do everything.
    Admin,
    /// May do what deploy/controller/rbac.yaml says.
    Controller,
}

/// A running API server.
pub(crate) struct Server {
    url: String,
    dir: PathBuf,
    // Held for its standard input: when that closes, however this process
    // ends, the script kills what it started.
    keeper: Mutex<Child>,
}

/// Starts both programs, says so, and kills them once standard input closes,
/// which it does however the process ends.
const KEEPER: &str = r#"
set -u
cd "$DIR" || exit
openssl genrsa -out sa.key 2048 2>/dev/null
"$ETCD" --data-dir etcd --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$CLIENT" \
  --advertise-client-urls "http://127.0.0.1:$CLIENT" --listen-peer-urls "http://127.0.0.1:$PEER" \
  --initial-advertise-peer-urls "http://127.0.0.1:$PEER" \
  --initial-cluster "default=http://127.0.0.1:$PEER" >etcd.log 2>&1 </dev/null &
etcd=$!
# The address is one for documentation: nothing is reached by it.
"$APISERVER" --etcd-servers="http://127.0.0.1:$CLIENT" --secure-port="$PORT" --cert-dir=certs \
  --bind-address=127.0.0.1 --advertise-address=192.0.2.1 --endpoint-reconciler-type=none \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=sa.key \
  --service-account-signing-key-file=sa.key --service-cluster-ip-range=10.96.0.0/16 \
  --token-auth-file=tokens --authorization-mode=RBAC --audit-policy-file=audit.yaml \
  --audit-log-path=audit.log --audit-log-mode=blocking >apiserver.log 2>&1 </dev/null &
apiserver=$!
trap 'exec 2>/dev/null; kill -9 $etcd $apiserver; wait; rm -rf "$DIR"' EXIT
echo started
cat >/dev/null
"#;

/// Every write of the controller, one line each.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: [controller]
  verbs: [create, update, patch, delete]
- level: None
";

const TOKENS: &str =
    "admin-token,admin,admin,system:masters\ncontroller-token,controller,controller\n";

impl Server {
    /// Starts one, or says why it cannot.
    pub(crate) fn start() -> Result<Self, String> {
        let etcd = program("etcd")?;
        let apiserver = program("kube-apiserver")?;
        // The script removes it: a static is never dropped.
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let dir = dir.keep();
        for (name, text) in [("tokens", TOKENS), ("audit.yaml", AUDIT)] {
            std::fs::write(dir.join(name), text).expect("the directory is ours");
        }
        let [port, client, peer] = ports();
        let mut keeper = Command::new("bash")
            .args(["-c", KEEPER])
            .env("DIR", &dir)
            .env("ETCD", etcd)
            .env("APISERVER", apiserver)
            .env("PORT", &port)
            .env("CLIENT", client)
            .env("PEER", peer)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("bash: {error}"))?;
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the script says that it started");
        Ok(Self {
            url: format!("https://127.0.0.1:{port}"),
            dir,
            keeper: Mutex::new(keeper),
        })
    }

    /// Ends it before this process does.
    #[allow(dead_code, reason = "the tests share one to their end")]
    pub(crate) fn stop(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.stdin.take());
        let _ = keeper.wait();
    }

    /// A client; it belongs to the runtime it is made in.
    pub(crate) fn client(&self, who: Who) -> Client {
        let token = match who {
            Who::Admin => "admin-token",
            Who::Controller => "controller-token",
        };
        let mut config = Config::new(self.url.parse().expect("a URL"));
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo {
            token: Some(token.to_owned().into()),
            ..AuthInfo::default()
        };
        Client::try_from(config).expect("a client")
    }

    /// A file for the controller's program.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url,
                                                   "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": "controller-token"}}]
        });
        let path = self.dir.join("kubeconfig");
        std::fs::write(&path, config.to_string()).expect("the directory is ours");
        path
    }

    /// Waits until the server answers that everything in it is ready.
    pub(crate) async fn ready(&self) {
        let client = self.client(Who::Admin);
        let request = || {
            let request = axum::http::Request::get("/readyz").body(vec![]);
            request.expect("a request")
        };
        let ready = async {
            while client.request_text(request()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let log = self.dir.join("apiserver.log");
        if tokio::time::timeout(Duration::from_secs(120), ready)
            .await
            .is_err()
        {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("the API server did not become ready:\n{}", tail.join("\n"));
        }
    }

    /// The writes that the controller sent in a namespace before this one.
    pub(crate) async fn writes_before(&self, last: &str, namespace: &str) -> Vec<String> {
        // The server answers first and logs then.
        let logged = async {
            loop {
                let mut writes = self.writes(namespace);
                if let Some(end) = writes.iter().position(|write| write == last) {
                    writes.truncate(end);
                    return writes;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let logged = tokio::time::timeout(crate::fixture::PATIENCE, logged).await;
        logged.expect("the write is logged")
    }

    /// The writes that the controller sent in a namespace: verb, resource and
    /// subresource. Events are not counted.
    pub(crate) fn writes(&self, namespace: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.join("audit.log"));
        let log = log.unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|entry| entry["objectRef"]["namespace"] == namespace)
            .map(|entry| {
                let object = &entry["objectRef"];
                let word = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
                let resource = word(&object["resource"]);
                match word(&object["subresource"]).as_str() {
                    "" => format!("{} {resource}", word(&entry["verb"])),
                    sub => format!("{} {resource}/{sub}", word(&entry["verb"])),
                }
            })
            .filter(|write| !write.ends_with(" events"))
            .collect()
    }
}

/// Three ports that are free now.
fn ports() -> [String; 3] {
    // All bound before any is let go, so that they differ.
    let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("bound").port().to_string())
}

fn program(name: &str) -> Result<PathBuf, String> {
    let Some(list) = std::env::var_os("KUBE_BIN") else {
        return Err(format!(
            "no {name}: make e2e runs this; or set KUBE_BIN to where Kubernetes' programs and etcd \
             are"
        ));
    };
    std::env::split_paths(&list)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("there is no {name} in KUBE_BIN ({})", list.display()))
}
