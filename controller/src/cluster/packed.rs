//! What is much alike, kept small: each object is JSON, compressed against a
//! whole one of its kind. Ten thousand VMs then take little more room than what
//! tells them apart.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many texts share a dictionary before another may take its place.
const SHARED: u32 = 100;
/// A text of which more than this part is left is not like the dictionary.
const ALIKE: usize = 5;

/// One for all kinds, and kept: it takes a third of a mebibyte, and making it
/// takes longer than packing a text.
static ENGINE: LazyLock<Mutex<Engine>> = LazyLock::new(|| {
    Mutex::new(Engine {
        compress: Compress::new(Compression::default(), false),
        decompress: Decompress::new(false),
    })
});

struct Engine {
    compress: Compress,
    decompress: Decompress,
}

/// Packs objects of one kind.
#[derive(Debug, Default)]
pub struct Packer(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What texts are packed against. The first VM that is seen may have no
    /// status yet, and the others have one: when texts are not like it any
    /// more, it is replaced.
    dictionary: Arc<Vec<u8>>,
    /// How many texts were packed against it.
    shared: u32,
}

/// An object, packed.
#[derive(Clone, Debug)]
pub struct Packed {
    bytes: Box<[u8]>,
    /// Nothing when the text was left as it is.
    unpacked: Option<Unpacked>,
}

/// What it takes to unpack.
#[derive(Clone, Debug)]
struct Unpacked {
    dictionary: Arc<Vec<u8>>,
    /// How long the text is.
    length: u32,
}

impl Packer {
    /// Packs an object.
    #[must_use]
    pub fn freeze(&self, object: &impl Serialize) -> Packed {
        let json = serde_json::to_vec(object).expect("an object of the API is JSON");
        self.pack(&json)
    }

    fn pack(&self, text: &[u8]) -> Packed {
        let mut state = lock(&self.0);
        let mut packed = state.pack(text);
        let alike = |packed: &Packed| packed.bytes.len() < text.len() / ALIKE;
        let first = state.dictionary.is_empty();
        if first || state.shared >= SHARED && !packed.as_ref().is_some_and(alike) {
            state.dictionary = Arc::new(text.to_vec());
            state.shared = 0;
            packed = state.pack(text);
        }
        state.shared = state.shared.saturating_add(1);
        packed.unwrap_or_else(|| Packed {
            bytes: text.into(),
            unpacked: None,
        })
    }
}

impl Packed {
    /// The object; `None` when it cannot be read as one of this type.
    #[must_use]
    pub fn thaw<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.unpack()?).ok()
    }

    fn unpack(&self) -> Option<Vec<u8>> {
        let Some(Unpacked { dictionary, length }) = &self.unpacked else {
            return Some(self.bytes.to_vec());
        };
        let decompress = &mut lock(&ENGINE).decompress;
        decompress.reset(false);
        decompress.set_dictionary(dictionary).ok()?;
        let length = usize::try_from(*length).ok()?;
        let mut text = Vec::with_capacity(length);
        let end = FlushDecompress::Finish;
        let done = decompress.decompress_vec(&self.bytes, &mut text, end);
        (done.ok()? == Status::StreamEnd && text.len() == length).then_some(text)
    }
}

impl State {
    /// `None` when the text does not get smaller.
    fn pack(&self, text: &[u8]) -> Option<Packed> {
        let compress = &mut lock(&ENGINE).compress;
        compress.reset();
        compress.set_dictionary(&self.dictionary).ok()?;
        let mut bytes = Vec::with_capacity(text.len());
        let done = compress.compress_vec(text, &mut bytes, FlushCompress::Finish);
        (done.ok()? == Status::StreamEnd).then_some(())?;
        let unpacked = Unpacked {
            dictionary: self.dictionary.clone(),
            length: u32::try_from(text.len()).ok()?,
        };
        Some(Packed {
            bytes: bytes.into(),
            unpacked: Some(unpacked),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Packer, SHARED};
    use crate::digest::fnv1a;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..8),
            others in 0..2 * SHARED,
        ) {
            let packer = Packer::default();
            let mut packed: Vec<_> = texts.iter().map(|text| packer.pack(text)).collect();
            for other in 0..others {
                let _ = packer.pack(&other.to_le_bytes());
            }
            packed.extend(texts.iter().map(|text| packer.pack(text)));
            for (text, packed) in texts.iter().chain(&texts).zip(&packed) {
                let unpacked = packed.unpack();
                prop_assert_eq!(unpacked.as_ref(), Some(text));
            }
        }
    }

    /// Two hundred words that all texts of a kind have, and a number.
    fn text(kind: u64, number: u32) -> String {
        let word = |word: u64| format!("{:016x} ", fnv1a(&(kind << 32 | word).to_le_bytes()));
        format!("{}and {number}", (0..200).map(word).collect::<String>())
    }

    #[test]
    fn a_text_like_the_first_takes_a_fraction() {
        let packer = Packer::default();
        let sizes = [1, 2].map(|number| packer.pack(text(1, number).as_bytes()).bytes.len());
        assert!(sizes.iter().all(|size| *size < 200), "{sizes:?}");
    }

    #[test]
    fn texts_that_are_not_like_the_first_get_one_that_is_like_them() {
        let packer = Packer::default();
        let first = packer.pack(text(1, 1).as_bytes());
        let size = |number| {
            let text = text(2, number);
            packer.pack(text.as_bytes()).bytes.len()
        };
        let sizes: Vec<usize> = (0..2 * SHARED).map(size).collect();
        let last = sizes.last().copied().unwrap_or_default();
        assert!(sizes[0] > 1000 && last < 200, "{sizes:?}");
        let unpacked = first.unpack();
        assert_eq!(unpacked, Some(text(1, 1).into_bytes()));
    }
}
