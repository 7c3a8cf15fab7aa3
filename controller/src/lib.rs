//! Maps VirtualMachine objects to pods.
