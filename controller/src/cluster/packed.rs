//! Texts that are much alike, kept small: each is compressed against the first
//! one. Ten thousand VMs then take little more room than what tells them
//! apart.

use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Packs and unpacks texts of one kind.
#[derive(Debug)]
pub struct Packer(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The first text, which is there as long as any other.
    dictionary: Vec<u8>,
    // Kept, because making one takes longer than a text does.
    compress: Compress,
    decompress: Decompress,
}

/// A text, packed.
#[derive(Clone, Debug)]
pub struct Packed {
    bytes: Box<[u8]>,
    /// How long the text is; nothing when it was left as it is.
    length: Option<u32>,
}

impl Default for Packer {
    fn default() -> Self {
        Self(Mutex::new(State {
            dictionary: Vec::new(),
            compress: Compress::new(Compression::default(), false),
            decompress: Decompress::new(false),
        }))
    }
}

impl Packer {
    /// Packs a text.
    #[must_use]
    pub fn pack(&self, text: &[u8]) -> Packed {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.dictionary.is_empty() {
            state.dictionary = text.to_vec();
        }
        let packed = state.pack(text);
        packed.unwrap_or_else(|| Packed {
            bytes: text.into(),
            length: None,
        })
    }

    /// The text; `None` when it was packed by another.
    #[must_use]
    pub fn unpack(&self, packed: &Packed) -> Option<Vec<u8>> {
        let Some(length) = packed.length else {
            return Some(packed.bytes.to_vec());
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            dictionary,
            decompress,
            ..
        } = &mut *state;
        decompress.reset(false);
        decompress.set_dictionary(dictionary).ok()?;
        let length = usize::try_from(length).ok()?;
        let mut text = Vec::with_capacity(length);
        let end = FlushDecompress::Finish;
        let done = decompress.decompress_vec(&packed.bytes, &mut text, end);
        (done.ok()? == Status::StreamEnd && text.len() == length).then_some(text)
    }
}

impl State {
    /// `None` when the text does not get smaller.
    fn pack(&mut self, text: &[u8]) -> Option<Packed> {
        self.compress.reset();
        self.compress.set_dictionary(&self.dictionary).ok()?;
        let mut bytes = Vec::with_capacity(text.len());
        let done = self
            .compress
            .compress_vec(text, &mut bytes, FlushCompress::Finish);
        (done.ok()? == Status::StreamEnd).then_some(())?;
        Some(Packed {
            length: Some(u32::try_from(text.len()).ok()?),
            bytes: bytes.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Packer;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..8),
        ) {
            let packer = Packer::default();
            let packed: Vec<_> = texts.iter().map(|text| packer.pack(text)).collect();
            for (text, packed) in texts.iter().zip(&packed) {
                let unpacked = packer.unpack(packed);
                prop_assert_eq!(unpacked.as_ref(), Some(text));
            }
        }
    }

    #[test]
    fn a_text_like_the_first_takes_a_fraction() {
        let packer = Packer::default();
        let text = |n: u32| {
            let words = (0..200).map(|word| format!("word {word} of every text, "));
            format!("{}and {n}", words.collect::<String>())
        };
        let first = packer.pack(text(1).as_bytes());
        let second = packer.pack(text(2).as_bytes());
        let sizes = [first, second].map(|packed| packed.bytes.len());
        assert!(sizes.iter().all(|size| *size < 200), "{sizes:?}");
    }
}
