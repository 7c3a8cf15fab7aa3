//! The kit of the tests of the whole on one machine.
//!
//! A test gets a [`Node`]: a state directory, an image store and a pod subnet
//! of its own, so that tests run side by side and whatever one leaves behind
//! can be told from what belongs to others. It drives the built programs as a
//! user would, against real containerd, real qemu and real loop devices, and
//! waits for states, never for time.
//! The kit never touches what it did not make.

mod disk;
mod guest;
mod logbook;
mod manifest;
mod node;
mod procfs;
mod programs;
mod run;
mod wait;

pub use disk::{LoopDisk, Pattern};
pub use guest::guest;
pub use logbook::{Logbook, LogbookError};
pub use manifest::{Manifest, disk, vm};
pub use node::Node;
pub use procfs::{Process, processes};
pub use programs::program;
pub use run::{Finished, Run};
pub use wait::{PATIENCE, until};

/// Says something in the test's output.
#[expect(clippy::print_stderr, reason = "it is the test's output")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Says why a test does not run here, in the form that `make test` gathers.
pub fn skip(why: &str) {
    say(&format!("skipped: {why}"));
}
