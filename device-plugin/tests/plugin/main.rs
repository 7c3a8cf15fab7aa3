//! The device plugin against a kubelet over real sockets, with a device node
//! that the test can take away.

mod binary;
mod device;
mod devices;
mod faults;
mod kit;
mod machine;
mod metrics;
mod nri;
mod prober;
mod registration;
mod scenarios;
mod tree;
