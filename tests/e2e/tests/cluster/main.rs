//! Coracle on a real Kubernetes: API server, scheduler, kubelet, containerd.

mod assignments;
mod controller;
mod definition;
mod device_health;
mod device_plugin;
mod devices;
mod documents;
mod faults;
mod image_disks;
mod import;
mod kubectl_plugin;
mod memory_lock;
mod options_fail;
mod outages;
mod refused;
mod rights;
mod storage;
mod templates;
mod two_nodes;
mod vm_pod;
mod writes;
