//! The controller on a real API server.
//!
//! kube-apiserver and etcd are real; there is no kubelet, no scheduler and no
//! garbage collector: the test plays the node by writing pods' status. The
//! programs come from `KUBE_BIN` (directories, as in PATH; `make e2e` names
//! them); without them every test says that it was skipped, but those of an API
//! server that is too old, which is a fake one.

mod claims;
mod ends;
mod fixture;
mod images;
mod leaders;
mod life;
mod node;
mod program;
mod refusals;
mod server;
mod templates;
mod unreadable;
