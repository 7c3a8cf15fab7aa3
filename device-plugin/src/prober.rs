//! The prober: a process that was given the device as a VM is, runs a guest on
//! it when the plugin asks, and says how that went.
//!
//! The plugin listens on a unix socket and asks; the prober connects and
//! answers. One line of JSON each, at most [`LINE_LIMIT`] bytes:
//!
//! ```text
//! plugin  {"id":7,"level":"kernel"}
//! prober  {"id":7,"outcome":{"passed":{"level":"kernel"}}}
//!         {"id":7,"outcome":{"failed":{"reason":"KVM did not answer"}}}
//! ```
//!
//! What it guarantees: whoever holds the other end of the socket can lie about
//! the health of this node's KVM, and nothing else. Lines are bounded, a
//! prober that speaks unasked, late or not to the point is disconnected, and
//! what it says is never more than text in a log.

mod answer;
mod link;
mod wire;

pub use answer::{Prober, prober};
pub(crate) use link::Link;
