//! coracle: run a VirtualMachine on one machine.
