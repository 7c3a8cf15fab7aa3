//! `coracle-block import` and `export` on this machine: real loop devices,
//! images made by qemu-img, and servers that misbehave.

#[cfg(test)]
mod formats;
#[cfg(test)]
mod http;
#[cfg(test)]
mod https;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod server;
#[cfg(test)]
#[path = "../machine/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod support;
