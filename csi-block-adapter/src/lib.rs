//! Raw block claims: from PersistentVolumeClaim to qemu's block options.
