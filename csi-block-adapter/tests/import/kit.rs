//! Disks with a known content, images of them, and the program.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::support::{Loop, MIB, run, spawn, text};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_coracle-block");
/// Size of the disk in the images.
pub(crate) const DISK: u64 = 12 * MIB;

/// Data, holes, written zeros, and data again that ends in no cluster.
pub(crate) fn content() -> Vec<u8> {
    let mut bytes = noise(DISK, 1);
    bytes[3 << 20..7 << 20].fill(0);
    bytes[(9 << 20) + 4096..(9 << 20) + 300_000].fill(0);
    // Compressible.
    bytes[10 << 20..11 << 20].fill(0x5a);
    bytes
}

/// Bytes without a pattern (xorshift), the same for the same seed.
pub(crate) fn noise(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap() + 8);
    while (bytes.len() as u64) < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

/// The disk as a raw file in `dir`, sparse.
pub(crate) fn raw(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("disk.raw");
    let file = File::create(&path).expect("creates a file");
    file.set_len(DISK).expect("gives it a size");
    for (index, part) in content().chunks(1 << 20).enumerate() {
        if part.iter().any(|byte| *byte != 0) {
            file.write_all_at(part, index as u64 * MIB).expect("writes");
        }
    }
    path
}

/// An image of the disk made by qemu-img with `options`.
pub(crate) fn qcow2(dir: &TempDir, name: &str, options: &[&str]) -> PathBuf {
    let source = raw(dir);
    let path = dir.path().join(name);
    let output = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args(options)
        .args([&source, &path])
        .output()
        .expect("runs qemu-img");
    assert!(output.status.success(), "{output:?}");
    path
}

/// A file packed by a program that writes to its standard output.
pub(crate) fn pack(path: &Path, command: &[&str]) -> PathBuf {
    let packed = PathBuf::from(format!("{}.{}", path.display(), command[0]));
    let status = Command::new(command[0])
        .args(&command[1..])
        .arg(path)
        .stdout(File::create(&packed).expect("creates a file"))
        .status()
        .expect("runs");
    assert!(status.success(), "{command:?}");
    packed
}

/// Runs `coracle-block import`.
pub(crate) fn import(arguments: &[&str]) -> Output {
    run(BINARY, &[&["import"], arguments].concat())
}

/// Runs `coracle-block import - TARGET` with a file on a pipe.
pub(crate) fn import_piped(source: &Path, arguments: &[&str]) -> Output {
    let mut child = spawn(
        Command::new(BINARY)
            .args(["import", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut stdin = child.stdin.take().expect("is piped");
    let bytes = fs::read(source).expect("reads the source");
    // The program may refuse and end before it has read everything.
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("waits");
    let _ = feeder.join().expect("feeds");
    output
}

/// Asserts success.
pub(crate) fn good(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Asserts a failure with this exit code; what was said.
pub(crate) fn bad(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a disk begins with `expected` and has nothing behind it.
pub(crate) fn holds(disk: &str, expected: &[u8], what: &str) {
    let mut bytes = Vec::new();
    let mut file = File::open(disk).expect("opens the disk");
    file.read_to_end(&mut bytes).expect("reads the disk");
    let differs = bytes.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{what}: first difference");
    assert!(bytes.len() >= expected.len(), "{what}: too short");
    let rest = bytes[expected.len()..].iter().position(|byte| *byte != 0);
    assert_eq!(rest, None, "{what}: data behind the image");
}

/// A loop device with old data in its middle, which an import must not leave.
pub(crate) fn used_device(bytes: u64) -> Option<Loop> {
    let device = Loop::new(bytes, &[])?;
    soil(&device.path, 2 * MIB, bytes - 4 * MIB);
    Some(device)
}

/// Writes old data.
pub(crate) fn soil(disk: &str, at: u64, len: u64) {
    let file = File::options()
        .write(true)
        .open(disk)
        .expect("opens the disk");
    file.write_all_at(&noise(len, 99), at).expect("writes");
    file.sync_all().expect("flushes");
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> String {
    text(path)
}
