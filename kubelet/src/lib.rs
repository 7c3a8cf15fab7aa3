//! The kubelet's side of the device plugin protocol, for one machine and for tests.
