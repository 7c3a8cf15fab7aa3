//! What a disk's size means for its guest. Pure.

/// The unit in which guests address a disk, in bytes.
const SECTOR: u64 = 512;

/// The size that the guest has been told, and what was said about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    size: u64,
    read_only: bool,
    /// The smaller size that was reported already.
    shrunk: Option<u64>,
    lost: bool,
}

/// What became of a disk's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing, or nothing that was not said before.
    None,
    /// It grew, and the guest is to be told.
    Grown {
        /// What the guest knows.
        from: u64,
        /// What it is.
        to: u64,
    },
    /// It grew, and qemu cannot tell the guest of a disk that is read-only.
    GrownReadOnly {
        /// What the guest knows.
        from: u64,
        /// What it is.
        to: u64,
    },
    /// It is smaller than what the guest knows.
    Shrunk {
        /// What the guest knows.
        from: u64,
        /// What it is.
        to: u64,
    },
}

impl Known {
    pub(super) fn new(size: u64, read_only: bool) -> Self {
        Self {
            size,
            read_only,
            shrunk: None,
            lost: false,
        }
    }

    /// Judges the size that the disk has now.
    pub(super) fn see(&mut self, size: u64) -> Change {
        self.lost = false;
        // A file may end in the middle of a sector.
        let to = size - size % SECTOR;
        let from = self.size;
        if to < from {
            let said = self.shrunk.replace(to) == Some(to);
            return if said {
                Change::None
            } else {
                Change::Shrunk { from, to }
            };
        }
        self.shrunk = None;
        if to == from {
            return Change::None;
        }
        self.size = to;
        if self.read_only {
            Change::GrownReadOnly { from, to }
        } else {
            Change::Grown { from, to }
        }
    }

    /// What is wrong with the size, as the end of a sentence.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.lost {
            return Some("is gone: its size could not be read any more".into());
        }
        let (from, to) = (self.size, self.shrunk?);
        Some(format!(
            "shrank from {from} to {to} bytes while the guest ran, which was kept from it: make \
             it as large again"
        ))
    }

    /// The size cannot be read; whether that is new.
    pub(super) fn lose(&mut self) -> bool {
        !std::mem::replace(&mut self.lost, true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn growth_is_told_once_and_shrinking_is_said_once() {
        let mut known = Known::new(1024, false);
        assert_eq!(known.see(1024), Change::None);
        let (from, to) = (1024, 4096);
        assert_eq!(known.see(4096), Change::Grown { from, to });
        assert_eq!(known.see(4100), Change::None);
        let (from, to) = (4096, 512);
        assert_eq!(known.see(1000), Change::Shrunk { from, to });
        assert!(
            known
                .trouble()
                .is_some_and(|said| said.contains("from 4096 to 512 bytes"))
        );
        assert_eq!(known.see(512), Change::None);
        let to = 0;
        assert_eq!(known.see(0), Change::Shrunk { from, to });
        // As large again, and then smaller again, is news.
        assert_eq!(known.see(4096), Change::None);
        assert_eq!(known.trouble(), None);
        assert_eq!(known.see(0), Change::Shrunk { from, to });
    }

    #[test]
    fn a_size_that_cannot_be_read_is_said_once() {
        let mut known = Known::new(1024, true);
        assert!(known.lose() && !known.lose());
        assert!(known.trouble().is_some_and(|said| said.contains("is gone")));
        let (from, to) = (1024, 2048);
        assert_eq!(known.see(2048), Change::GrownReadOnly { from, to });
        assert!(known.lose());
    }

    proptest! {
        #[test]
        fn the_guest_is_told_larger_sizes_only(
            start in 1..1_u64 << 50,
            sizes in prop::collection::vec(any::<u64>(), 0..40),
        ) {
            let mut known = Known::new(start, false);
            let mut told = start;
            for size in sizes {
                if let Change::Grown { from, to } = known.see(size) {
                    prop_assert_eq!(from, told);
                    prop_assert!(to > told && to <= size && to % SECTOR == 0);
                    told = to;
                }
            }
        }
    }
}
