//! Tells whether /dev/kvm can run what a guest needs.
