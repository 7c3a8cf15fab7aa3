//! The server's side: a task per connection, each of which asks the VM's owner
//! and waits for the state that was asked for.

use std::time::Duration;

use coracle_api::report::State;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use super::{
    protocol::{Answer, Call, REQUEST_MAX, access},
    socket::Listener,
};
use crate::{
    console::Console,
    lifecycle::{Request, Verdict, Vm},
    supervisor::{Ask, Snapshot},
};

/// Version of the OCI runtime specification that the state's names are from.
const OCI_VERSION: &str = "1.0.2";

/// How many connections are served at a time. More wait in the socket's queue.
const CONNECTIONS: usize = 32;

/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// The way to a VM.
#[derive(Clone, Debug)]
pub struct Port {
    /// To its owner.
    pub asks: mpsc::Sender<Ask>,
    /// Its state.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Its serial console.
    pub console: Console,
    /// What it is called.
    pub identity: Identity,
}

/// What a VM is called.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `namespace/name`.
    pub id: String,
    /// The directory of its machine description.
    pub bundle: String,
}

/// Serves the socket until the VM's owner is gone and every client has got
/// what it is to get.
///
/// # Cancellation
/// Clients lose their connection.
pub async fn serve(listener: Listener, port: Port) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.socket.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, port.clone()));
                }
                // Out of descriptors, say; the ones in use come back.
                Err(error) => {
                    warn!(%error, "a control connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = port.asks.closed() => break,
        }
    }
    // Its own hold on the console goes, so that only clients are waited for.
    drop(port);
    while connections.join_next().await.is_some() {}
}

async fn connection(mut stream: UnixStream, port: Port) {
    let call = match timeout(REQUEST_TIME, read_call(&mut stream)).await {
        Ok(Ok(call)) => call,
        Ok(Err(message)) => {
            debug!(message, "a control request was refused");
            return answer(&mut stream, &Answer::refused(message)).await;
        }
        Err(_) => return,
    };
    match call {
        Call::State {} => {
            let state = Answer::State(Box::new(port.state()));
            answer(&mut stream, &state).await;
        }
        Call::Console { read_only } => {
            answer(&mut stream, &Answer::Done {}).await;
            port.console.serve(stream, access(read_only)).await;
        }
        Call::Delete { force } => {
            let said = port.delete(force).await;
            answer(&mut stream, &said).await;
            if said == (Answer::Done {}) {
                // Closed by the kernel when the shim is gone, which is what
                // the caller waits for.
                std::mem::forget(stream);
            }
        }
        Call::Start {} | Call::Pause {} | Call::Resume {} | Call::Kill { .. } => {
            if let Some(request) = call.request() {
                let said = port.change(request).await;
                answer(&mut stream, &said).await;
            }
        }
    }
}

/// Reads the request and not one byte more: what follows may be input for the
/// console.
async fn read_call(stream: &mut UnixStream) -> Result<Call, String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) if line.len() < REQUEST_MAX => line.push(byte),
            Ok(_) => {
                return Err(format!(
                    "a request is one line of at most {REQUEST_MAX} bytes"
                ));
            }
            Err(error) => return Err(format!("a request ends with a line end: {error}")),
        }
    }
    serde_json::from_slice(&line).map_err(|error| format!("the request cannot be read: {error}"))
}

async fn answer(stream: &mut UnixStream, answer: &Answer) {
    let Ok(mut line) = serde_json::to_vec(answer) else {
        return;
    };
    line.push(b'\n');
    if let Err(error) = stream.write_all(&line).await {
        debug!(%error, "a control client did not wait for its answer");
    }
}

impl Port {
    fn state(&self) -> State {
        let snapshot = self.snapshots.borrow();
        State {
            oci_version: OCI_VERSION.into(),
            id: self.identity.id.clone(),
            status: snapshot.vm.status(),
            pid: snapshot.pid,
            bundle: self.identity.bundle.clone(),
            termination: snapshot.vm.termination().cloned(),
            disks: snapshot.disks.to_vec(),
        }
    }

    /// Asks for a change and waits until it has come true or cannot any more.
    async fn change(mut self, request: Request) -> Answer {
        let (reply, verdict) = oneshot::channel();
        match ask(&self.asks, Ask::Change(request, reply), verdict).await {
            Verdict::Refused(why) => return Answer::refused(why),
            Verdict::Proceed | Verdict::Already => {}
        }
        let settled =
            |snapshot: &Snapshot| snapshot.vm.has_met(request) || is_settled(&snapshot.vm);
        // The owner may end first; what it said last is the outcome.
        let _ = self.snapshots.wait_for(settled).await;
        outcome(request, &self.snapshots.borrow().vm)
    }

    async fn delete(mut self, force: bool) -> Answer {
        if force {
            let (reply, verdict) = oneshot::channel();
            ask(&self.asks, Ask::Change(Request::Kill, reply), verdict).await;
            let _ = self
                .snapshots
                .wait_for(|snapshot| snapshot.vm.termination().is_some())
                .await;
        }
        let (reply, verdict) = oneshot::channel();
        match ask(&self.asks, Ask::Delete(reply), verdict).await {
            Verdict::Refused(why) if self.snapshots.borrow().vm.termination().is_none() => {
                Answer::refused(why)
            }
            // A shim that ends with its VM is gone without being told.
            Verdict::Refused(_) | Verdict::Proceed | Verdict::Already => Answer::Done {},
        }
    }
}

/// Asks the owner.
async fn ask(asks: &mpsc::Sender<Ask>, ask: Ask, verdict: oneshot::Receiver<Verdict>) -> Verdict {
    const ENDED: Verdict = Verdict::Refused("the VM has ended");
    match asks.send(ask).await {
        Ok(()) => verdict.await.unwrap_or(ENDED),
        Err(_) => ENDED,
    }
}

/// Whether the state stays as it is until something new happens.
fn is_settled(vm: &Vm) -> bool {
    match vm {
        Vm::Created { .. } | Vm::Running | Vm::Paused { .. } | Vm::Exited(_) => true,
        Vm::Creating { .. }
        | Vm::Starting
        | Vm::Pausing
        | Vm::Resuming
        | Vm::Stopping { .. }
        | Vm::Ending { .. } => false,
    }
}

/// What became of a request that was not refused.
fn outcome(request: Request, vm: &Vm) -> Answer {
    match vm {
        vm if vm.has_met(request) => Answer::Done {},
        // A short life, but it was started and ended well.
        Vm::Exited(termination)
            if request == Request::Start && termination.reason.exit_code() == 0 =>
        {
            Answer::Done {}
        }
        Vm::Exited(termination) => Answer::refused(&termination.message),
        vm => Answer::refused(format!("the VM is {} instead: its log says why", vm.name())),
    }
}
