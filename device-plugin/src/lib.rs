//! Device plugin: advertises /dev/kvm to the kubelet.
