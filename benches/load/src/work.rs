//! One piece of work: so many blocks of this size, in this order, so many at a
//! time.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, bail, ensure};

/// What direct I/O wants memory to be aligned to.
const ALIGN: usize = 4096;

/// What is done to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    operation: Operation,
    order: Order,
    /// Bytes of one request.
    block: usize,
    /// Requests.
    count: u64,
    /// Requests under way at once.
    depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Sequential,
    Random,
}

impl FromStr for Work {
    type Err = anyhow::Error;

    /// `read|write sequential|random BLOCK COUNT DEPTH`
    fn from_str(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [operation, order, block, count, depth] = words[..] else {
            bail!("{line:?} has not five words");
        };
        let work = Self {
            operation: match operation {
                "read" => Operation::Read,
                "write" => Operation::Write,
                _ => bail!("{operation:?} is neither read nor write"),
            },
            order: match order {
                "sequential" => Order::Sequential,
                "random" => Order::Random,
                _ => bail!("{order:?} is neither sequential nor random"),
            },
            block: block.parse().context("block")?,
            count: count.parse().context("count")?,
            depth: depth.parse().context("depth")?,
        };
        ensure!(
            work.block > 0 && work.block.is_multiple_of(ALIGN),
            "a block is a multiple of {ALIGN}"
        );
        Ok(work)
    }
}

impl Work {
    /// Does it, and returns when the last request is answered.
    pub(crate) fn perform(self, file: &File) -> anyhow::Result<()> {
        // Of a device the metadata has no length.
        let bytes = { file }.seek(SeekFrom::End(0))?;
        let blocks = bytes / self.block as u64;
        ensure!(blocks > 0, "{bytes} bytes are less than one block");
        let next = AtomicU64::new(0);
        let results: Vec<io::Result<()>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.depth)
                .map(|_| scope.spawn(|| self.work(file, blocks, &next)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker
                        .join()
                        .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
                })
                .collect()
        });
        results.into_iter().collect::<io::Result<()>>()?;
        Ok(())
    }

    fn work(self, file: &File, blocks: u64, next: &AtomicU64) -> io::Result<()> {
        let mut memory = vec![0x5a; self.block + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        let memory = &mut memory[start..start + self.block];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return Ok(());
            }
            let block = match self.order {
                Order::Sequential => index,
                Order::Random => scatter(index),
            };
            let at = block % blocks * self.block as u64;
            match self.operation {
                Operation::Read => file.read_exact_at(memory, at)?,
                Operation::Write => file.write_all_at(memory, at)?,
            }
        }
    }
}

/// Numbers without a pattern that are the same every time (`SplitMix64`).
fn scatter(index: u64) -> u64 {
    let mut value = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_work_or_an_error() {
        let work: Work = "write random 4096 100 8".parse().expect("is work");
        assert_eq!(
            (work.operation, work.order),
            (Operation::Write, Order::Random)
        );
        assert_eq!((work.block, work.count, work.depth), (4096, 100, 8));
        for line in [
            "",
            "write random 4096 100",
            "trim random 4096 1 1",
            "read sequential 512 1 1",
        ] {
            assert!(line.parse::<Work>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn every_block_that_is_counted_is_written() {
        let file = tempfile();
        file.set_len(64 << 10).expect("takes a size");
        let work: Work = "write sequential 4096 16 4".parse().expect("is work");
        work.perform(&file).expect("writes");
        let mut bytes = vec![0; 64 << 10];
        file.read_exact_at(&mut bytes, 0).expect("reads");
        assert!(bytes.iter().all(|byte| *byte == 0x5a));
        let short: Work = "read random 131072 1 1".parse().expect("is work");
        assert!(short.perform(&file).is_err());
    }

    /// A file without a name; not opened for direct I/O, which not every file
    /// system has.
    fn tempfile() -> File {
        tempfile::tempfile().expect("makes a file")
    }
}
