//! Compressed sources, unpacked with bounded memory.

use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;
use liblzma::{
    read::XzDecoder,
    stream::{CONCATENATED, Stream},
};

pub(crate) use crate::format::Compression;

/// Memory that the xz decoder may use: presets up to -8 need 32 MiB and some.
const XZ_MEMORY: u64 = 36 << 20;
/// Binary logarithm of zstd's largest window, 32 MiB: levels up to 19 need
/// 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 25;
/// Bytes that are read of the source at once.
const INPUT: usize = 256 << 10;

impl Compression {
    /// What is in `packed`.
    pub(crate) fn unpack<'a>(self, packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let packed = BufReader::with_capacity(INPUT, packed);
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(packed, stream))
            }
        })
    }
}
