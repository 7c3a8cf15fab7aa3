//! Compressed clusters.

use flate2::{Decompress, FlushDecompress};
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

use super::{Compressor, Qcow2Error};

/// Unpacks clusters; keeps the decoders' memory from one to the next.
#[derive(Default)]
pub(crate) struct Inflater {
    zlib: Option<Decompress>,
    zstd: Option<Decoder<'static>>,
}

impl Inflater {
    /// Unpacks a cluster for byte `at` of the disk. What follows it in its
    /// last sector is not looked at.
    pub(crate) fn inflate(
        &mut self,
        kind: Compressor,
        packed: &[u8],
        out: &mut [u8],
        at: u64,
    ) -> Result<(), Qcow2Error> {
        let full = match kind {
            Compressor::Zlib => self.zlib(packed, out),
            Compressor::Zstd => self.zstd(packed, out),
        };
        full.filter(|full| *full)
            .map(|_| ())
            .ok_or(Qcow2Error::Cluster { at })
    }

    /// Whether the cluster was filled; `None` when the data is broken.
    fn zlib(&mut self, packed: &[u8], out: &mut [u8]) -> Option<bool> {
        let decoder = self.zlib.get_or_insert_with(|| Decompress::new(false));
        decoder.reset(false);
        decoder
            .decompress(packed, out, FlushDecompress::Finish)
            .ok()?;
        Some(decoder.total_out() == out.len() as u64)
    }

    fn zstd(&mut self, packed: &[u8], out: &mut [u8]) -> Option<bool> {
        if self.zstd.is_none() {
            self.zstd = Some(Decoder::new().ok()?);
        }
        let decoder = self.zstd.as_mut()?;
        decoder.reinit().ok()?;
        let mut input = InBuffer::around(packed);
        let room = out.len();
        let mut output = OutBuffer::around(out);
        while output.pos() < room {
            let before = (input.pos, output.pos());
            decoder.run(&mut input, &mut output).ok()?;
            if (input.pos, output.pos()) == before {
                return Some(false);
            }
        }
        Some(true)
    }
}
