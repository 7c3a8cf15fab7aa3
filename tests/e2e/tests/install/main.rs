//! Coracle as it is installed: `kubectl apply -k deploy`, on a cluster of this
//! suite's own. Each test has the installation for itself, and begins by
//! applying the one that it needs.

mod leader;
mod memory_lock;
mod overlays;
mod parts;
mod uninstall;
mod upgrade;
