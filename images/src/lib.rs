//! Puts Coracle's container images together from Debian packages and the
//! project's own programs, as OCI archives that containerd imports.
//!
//! - [`recipe`]: what each image is made of
//! - [`packages`], [`deb`]: Debian packages, fetched by name and read
//! - [`elf`], [`closure`]: which libraries belong to it
//! - [`tree`], [`oci`]: the root file system and the archive
//! - [`build`]: one image from its program; `store` keeps it
//!
//! Invariants: no file of the host gets into an image; the same inputs make
//! the same bytes; nothing of an image is executed while it is made.

pub mod build;
pub mod closure;
pub mod deb;
pub mod elf;
pub mod oci;
pub mod packages;
pub mod recipe;
mod store;
pub mod tree;

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
