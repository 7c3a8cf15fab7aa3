//! A client for QMP, the QEMU Machine Protocol, over a connected socket.
//!
//! The road to a usable connection is one-way and so a typestate:
//! [`Greeting`] → [`Connection`]. From then on the owner queues commands with
//! [`Connection::send`], which never waits, and takes replies and events from
//! [`Connection::next`], which may be cancelled at any time.
//!
//! It must never panic on what qemu sends, never buffer without a bound, and
//! never refuse an event that it does not know: newer versions of qemu have
//! more of them. Spec: qemu `docs/interop/qmp-spec.rst`, versions 7.2 to 10.x.

mod codec;
mod command;
mod connection;
mod event;

pub use codec::{CodecError, Decoder, LINE_MAX, Message};
pub use command::Command;
pub use connection::{Connection, Failure, Greeting, Incoming, QmpError};
pub use event::{Event, RunStatus, ShutdownCause};
