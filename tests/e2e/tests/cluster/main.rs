//! Coracle on a real Kubernetes: API server, scheduler, kubelet, containerd.

mod definition;
mod device_plugin;
mod refused;
mod vm_pod;
