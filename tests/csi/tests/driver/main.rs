//! The driver as a process of its own.

mod kit;
mod restart;
mod sanity;
