//! The logbook that the guest `logbook` keeps on its disk.
//!
//! | Sector | What |
//! |---|---|
//! | 0 | the guest |
//! | 1 | how many times a guest has booted from the disk |
//! | 2 | nothing; written by a guest that found that it is not the last to boot |
//! | 64 to 319 | a ring of records: number `n` is at 64 + `n` modulo 256 |
//!
//! A record is 128 little-endian words: a magic, its number, the number of the
//! boot that wrote it, 124 words that follow from those two, and the sum of all
//! before. So a lost, torn, misplaced or repeated write shows, and so does a
//! writer that another one has followed.

use thiserror::Error;

const SECTOR: usize = 512;
const BOOTS: usize = 1;
const STRAY: usize = 2;
const RING: usize = 64;
const RECORDS: u32 = 256;
const MAGIC: u32 = u32::from_le_bytes(*b"LOGB");

/// A logbook in which every record is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logbook {
    /// How many times a guest has booted.
    pub boots: u32,
    /// The number of the newest record; 0 when there is none.
    pub newest: u32,
}

/// What is wrong with a logbook.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LogbookError {
    /// The disk is no logbook's.
    #[error("the disk has {found} bytes and a logbook needs {}", (RING + RECORDS as usize) * SECTOR)]
    Short {
        /// Its size.
        found: usize,
    },
    /// Two guests were there at once.
    #[error("a guest found that another had booted from its disk")]
    NotAlone,
    /// A record that should be there is not, whole and in its place.
    #[error("record {number} is not there; in its place is record {found:?} of boot {boot:?}")]
    Lost {
        /// Its number.
        number: u32,
        /// What says the record in its place, if it is a record.
        found: Option<u32>,
        /// And who wrote that.
        boot: Option<u32>,
    },
    /// A guest wrote after a later one had begun.
    #[error("record {number} was written by boot {boot}, after boot {before} had written")]
    Interleaved {
        /// The record's number.
        number: u32,
        /// Who wrote it.
        boot: u32,
        /// Who wrote the one before it.
        before: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    number: u32,
    boot: u32,
}

impl Logbook {
    /// Checks every sector of a disk that nobody writes to.
    ///
    /// # Errors
    /// When one is not as the guests left it.
    pub fn read(disk: &[u8]) -> Result<Self, LogbookError> {
        let logbook = Self::glance(disk)?;
        if sector(disk, STRAY).iter().any(|byte| *byte != 0) {
            return Err(LogbookError::NotAlone);
        }
        let oldest = logbook.newest.saturating_sub(RECORDS - 1).max(1);
        let mut before = 0;
        for number in oldest..=logbook.newest {
            let place = sector(disk, slot(number));
            let found = Record::read(place);
            let Some(record) = found.filter(|record| record.number == number) else {
                return Err(LogbookError::Lost {
                    number,
                    found: found.map(|record| record.number),
                    boot: found.map(|record| record.boot),
                });
            };
            if record.boot < before || record.boot > logbook.boots {
                return Err(LogbookError::Interleaved {
                    number,
                    boot: record.boot,
                    before,
                });
            }
            before = record.boot;
        }
        Ok(logbook)
    }

    /// How far it is, of a disk that may be written to meanwhile.
    ///
    /// # Errors
    /// When the disk is too small for a logbook.
    pub fn glance(disk: &[u8]) -> Result<Self, LogbookError> {
        let end = slot(RECORDS - 1) + 1;
        if disk.len() < end * SECTOR {
            return Err(LogbookError::Short { found: disk.len() });
        }
        let records = (RING..end).filter_map(|place| Record::read(sector(disk, place)));
        Ok(Self {
            boots: word(sector(disk, BOOTS), 0),
            newest: records.map(|record| record.number).max().unwrap_or(0),
        })
    }
}

impl Record {
    /// The record in a sector, if every word of it is right.
    fn read(sector: &[u8]) -> Option<Self> {
        let record = Self {
            number: word(sector, 1),
            boot: word(sector, 2),
        };
        (sector == record.bytes()).then_some(record)
    }

    fn bytes(self) -> Vec<u8> {
        let mut words = vec![MAGIC, self.number, self.boot];
        let mut value = (self.boot << 16).wrapping_add(self.number);
        while words.len() < SECTOR / 4 - 1 {
            value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            words.push(value);
        }
        words.push(
            words
                .iter()
                .fold(0, |sum: u32, word| sum.wrapping_add(*word)),
        );
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

fn slot(number: u32) -> usize {
    RING + (number % RECORDS) as usize
}

fn sector(disk: &[u8], number: usize) -> &[u8] {
    &disk[number * SECTOR..(number + 1) * SECTOR]
}

fn word(sector: &[u8], index: usize) -> u32 {
    let bytes = &sector[index * 4..index * 4 + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Record = Record { number: 1, boot: 1 };

    fn disk(boots: u32, records: impl IntoIterator<Item = Record>) -> Vec<u8> {
        let mut disk = vec![0; 1 << 20];
        disk[SECTOR..SECTOR + 4].copy_from_slice(&boots.to_le_bytes());
        for record in records {
            let place = slot(record.number) * SECTOR;
            disk[place..place + SECTOR].copy_from_slice(&record.bytes());
        }
        disk
    }

    fn records(numbers: std::ops::RangeInclusive<u32>, boot: u32) -> impl Iterator<Item = Record> {
        numbers.map(move |number| Record { number, boot })
    }

    #[test]
    fn a_logbook_of_many_rounds_and_boots_is_right() {
        let disk = disk(2, records(1..=900, 1).chain(records(901..=1000, 2)));
        let found = Logbook::read(&disk);
        assert_eq!(
            found,
            Ok(Logbook {
                boots: 2,
                newest: 1000
            })
        );
        assert_eq!(Logbook::glance(&disk), found);
    }

    #[test]
    fn an_empty_disk_is_an_empty_logbook() {
        let empty = Logbook {
            boots: 0,
            newest: 0,
        };
        assert_eq!(Logbook::read(&disk(0, [])), Ok(empty));
        let short = Err(LogbookError::Short { found: 512 });
        assert_eq!(Logbook::read(&[0; 512]), short);
    }

    #[test]
    fn a_lost_write_shows() {
        let mut kept = disk(1, records(1..=1000, 1));
        let old = disk(1, records(1..=900, 1));
        let place = slot(950) * SECTOR..(slot(950) + 1) * SECTOR;
        kept[place.clone()].copy_from_slice(&old[place]);
        let lost = LogbookError::Lost {
            number: 950,
            found: Some(694),
            boot: Some(1),
        };
        assert_eq!(Logbook::read(&kept), Err(lost));
    }

    #[test]
    fn a_single_wrong_byte_shows() {
        let mut disk = disk(1, records(1..=200, 1));
        disk[slot(7) * SECTOR + 300] ^= 1;
        let lost = LogbookError::Lost {
            number: 7,
            found: None,
            boot: None,
        };
        assert_eq!(Logbook::read(&disk), Err(lost));
    }

    #[test]
    fn a_writer_that_another_has_followed_shows() {
        let late = Record { number: 3, boot: 1 };
        let mixed = disk(2, [ONE, Record { number: 2, boot: 2 }, late]);
        let interleaved = LogbookError::Interleaved {
            number: 3,
            boot: 1,
            before: 2,
        };
        assert_eq!(Logbook::read(&mixed), Err(interleaved));
        let mut marked = disk(1, [ONE]);
        marked[STRAY * SECTOR] = 2;
        assert_eq!(Logbook::read(&marked), Err(LogbookError::NotAlone));
    }
}
