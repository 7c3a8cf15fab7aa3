//! The control socket `<run-dir>/shim.sock`: how the other subcommands, and so
//! `kubectl exec`, reach the shim that runs a VM.
//!
//! One JSON request per connection, on one line, and one line back. After the
//! answer to `console` the connection carries the raw console. Who may connect
//! is decided by the socket's mode, 0600; nothing in a request says who asks.

mod client;
mod protocol;
mod server;
mod socket;

pub use client::{Client, ClientError};
pub use protocol::{Answer, Call, REQUEST_MAX, Signal};
pub use server::{Identity, Port, serve};
pub use socket::{Listener, SOCKET_NAME, SocketError, listen};
