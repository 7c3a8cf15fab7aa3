//! A disk's clusters into a qcow2 image, compressed or not.

use std::{fs::File, io};

use flate2::{Compress as Deflate, Compression, FlushCompress, Status};

use super::{CLUSTER, Clusters};
use crate::qcow2::{Cluster, Compressor, Writer};

/// qemu unpacks with a window of 4 KiB and refuses references beyond it.
const WINDOW_BITS: u8 = 12;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Deflate: every qemu reads it.
    Zlib,
    /// zstd: faster; qemu 5.1 and newer read it.
    Zstd,
}

/// An image that is being written.
pub(super) struct Image<'a> {
    writer: Writer<'a>,
    compress: Option<Compress>,
}

impl<'a> Image<'a> {
    pub(super) fn new(file: &'a File, size: u64, compress: Option<Compress>) -> io::Result<Self> {
        let compressor = match compress {
            Some(Compress::Zstd) => Compressor::Zstd,
            Some(Compress::Zlib) | None => Compressor::Zlib,
        };
        Ok(Self {
            writer: Writer::new(file, size, compressor)?,
            compress,
        })
    }
}

impl Clusters for Image<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let packed = match self.compress {
            Some(compress) => pack(compress, bytes)?,
            None => None,
        };
        match &packed {
            Some(packed) => self.writer.put(at, &Cluster::Packed(packed)),
            None => self.writer.put(at, &Cluster::Plain(bytes)),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.finish()
    }
}

/// A compressed cluster, when it is smaller; the disk's last one is filled up
/// with zeros.
fn pack(compress: Compress, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut full = bytes.to_vec();
    full.resize(CLUSTER, 0);
    let packed = match compress {
        Compress::Zstd => zstd::bulk::compress(&full, 0)?,
        Compress::Zlib => {
            let mut packed = Vec::with_capacity(CLUSTER);
            let mut deflate =
                Deflate::new_with_window_bits(Compression::default(), false, WINDOW_BITS);
            let status = deflate
                .compress_vec(&full, &mut packed, FlushCompress::Finish)
                .map_err(io::Error::other)?;
            if status != Status::StreamEnd {
                return Ok(None);
            }
            packed
        }
    };
    Ok((packed.len() < CLUSTER).then_some(packed))
}
