//! The pod's one process: boots the VM's qemu and answers for it.
