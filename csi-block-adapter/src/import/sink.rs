//! The writers: threads that unpack, tell zeros from data, and write, while
//! one other thread reads.
//!
//! Memory is bounded by construction: a fixed number of chunks exists, and who
//! wants to read waits until one is free.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::{
    buffer::{Buffer, CHUNK, is_zero, runs},
    error::ImportError,
    progress::Progress,
    qcow2::{Compressor, inflate::Inflater},
    target::Target,
};

/// Writers; more than this gains nothing on any device measured.
const MAX_WRITERS: usize = 4;

/// A compressed cluster.
pub(crate) struct Packed {
    /// Its bytes, or where they are in the file.
    pub(crate) bytes: PackedBytes,
    pub(crate) len: usize,
}

pub(crate) enum PackedBytes {
    Here(Vec<u8>),
    At(Arc<File>, u64),
}

/// What a writer does.
enum Job {
    Write {
        at: u64,
        chunk: Buffer,
    },
    Copy {
        from: Arc<File>,
        place: u64,
        at: u64,
        len: usize,
    },
    Inflate {
        kind: Compressor,
        cluster: usize,
        at: u64,
        /// Bytes of the disk; less than all clusters at its end.
        len: usize,
        parts: Vec<Packed>,
    },
    Zero {
        at: u64,
        len: u64,
    },
}

/// Where a reader leaves what it has.
pub(crate) struct Sink {
    jobs: Option<SyncSender<Job>>,
    free: Receiver<Buffer>,
    /// Chunks that were not handed on.
    spare: Vec<Buffer>,
    workers: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    hole: Option<(u64, u64)>,
    end: u64,
}

struct Shared {
    target: Target,
    progress: Arc<Progress>,
    failed: AtomicBool,
    failure: Mutex<Option<ImportError>>,
}

impl Sink {
    pub(crate) fn new(target: Target, progress: Arc<Progress>) -> Self {
        let writers = thread::available_parallelism().map_or(2, usize::from);
        let writers = writers.clamp(2, MAX_WRITERS);
        let chunks = writers + 2;
        let (jobs, queue) = sync_channel(writers);
        let (give_back, free) = sync_channel(chunks);
        for _ in 0..chunks {
            // There is room for all of them.
            let _ = give_back.try_send(Buffer::new());
        }
        let queue = Arc::new(Mutex::new(queue));
        let shared = Arc::new(Shared {
            target,
            progress,
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let workers = (0..writers)
            .map(|_| {
                let (queue, give_back) = (Arc::clone(&queue), give_back.clone());
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(&queue, &give_back, &shared))
            })
            .collect();
        Self {
            jobs: Some(jobs),
            free,
            spare: Vec::new(),
            workers,
            shared,
            hole: None,
            end: 0,
        }
    }

    /// A free chunk, as soon as there is one.
    pub(crate) fn chunk(&mut self) -> Result<Buffer, ImportError> {
        let mut chunk = match self.spare.pop() {
            Some(chunk) => chunk,
            None => self.free.recv().map_err(|_| ImportError::Worker)?,
        };
        chunk.set_len(CHUNK);
        Ok(chunk)
    }

    /// Writes a chunk.
    pub(crate) fn write(&mut self, at: u64, chunk: Buffer) -> Result<(), ImportError> {
        let len = chunk.bytes().len() as u64;
        if is_zero(chunk.bytes()) {
            self.spare.push(chunk);
            return self.zero(at, len);
        }
        self.flush_hole()?;
        self.grow(at, len)?;
        self.send(Job::Write { at, chunk })
    }

    /// Copies from a file; `len` is a chunk at most.
    pub(crate) fn copy(
        &mut self,
        from: &Arc<File>,
        place: u64,
        at: u64,
        len: usize,
    ) -> Result<(), ImportError> {
        self.grow(at, len as u64)?;
        let from = Arc::clone(from);
        self.send(Job::Copy {
            from,
            place,
            at,
            len,
        })
    }

    /// Unpacks compressed clusters that follow each other on the disk, a
    /// chunk at most unless it is one cluster.
    pub(crate) fn inflate(
        &mut self,
        kind: Compressor,
        cluster: u64,
        (at, len): (u64, u64),
        parts: Vec<Packed>,
    ) -> Result<(), ImportError> {
        self.grow(at, len)?;
        let small = |value: u64| usize::try_from(value).map_err(|_| ImportError::Worker);
        let (cluster, len) = (small(cluster)?, small(len)?);
        self.send(Job::Inflate {
            kind,
            cluster,
            at,
            len,
            parts,
        })
    }

    /// Makes a hole; holes that touch become one.
    pub(crate) fn zero(&mut self, at: u64, len: u64) -> Result<(), ImportError> {
        self.grow(at, len)?;
        match &mut self.hole {
            Some((_, end)) if *end == at => *end += len,
            _ => {
                self.flush_hole()?;
                self.hole = Some((at, at + len));
            }
        }
        Ok(())
    }

    /// Waits until all is done; the target is what it was given, with
    /// everything written but not flushed. The number is the image's end.
    pub(crate) fn finish(mut self) -> Result<(Target, u64), ImportError> {
        self.flush_hole()?;
        drop(self.jobs.take());
        let all_ended = self.workers.drain(..).all(|worker| worker.join().is_ok());
        self.take_failure()?;
        if !all_ended {
            return Err(ImportError::Worker);
        }
        let end = self.end;
        let shared = Arc::into_inner(self.shared).ok_or(ImportError::Worker)?;
        Ok((shared.target, end))
    }

    fn flush_hole(&mut self) -> Result<(), ImportError> {
        match self.hole.take() {
            Some((at, end)) => self.send(Job::Zero { at, len: end - at }),
            None => Ok(()),
        }
    }

    fn grow(&mut self, at: u64, len: u64) -> Result<(), ImportError> {
        let end = at.saturating_add(len);
        self.shared.target.fits(end)?;
        self.end = self.end.max(end);
        Ok(())
    }

    fn send(&mut self, job: Job) -> Result<(), ImportError> {
        if self.shared.failed.load(Ordering::Relaxed) {
            self.take_failure()?;
        }
        let jobs = self.jobs.as_ref().ok_or(ImportError::Worker)?;
        jobs.send(job).map_err(|_| ImportError::Worker)
    }

    fn take_failure(&self) -> Result<(), ImportError> {
        let mut failure = self
            .shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failure.take().map_or(Ok(()), Err)
    }
}

/// One writer's life. After a failure it goes on taking jobs, so that nobody
/// waits for ever, and does none.
fn work(queue: &Mutex<Receiver<Job>>, give_back: &SyncSender<Buffer>, shared: &Shared) {
    let mut worker = Worker {
        shared,
        own: Buffer::new(),
        packed: Vec::new(),
        inflater: Inflater::default(),
    };
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut chunk = None;
        if !shared.failed.load(Ordering::Relaxed)
            && let Err(error) = worker.perform(job, &mut chunk)
        {
            let failure = shared.failure.lock();
            failure
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
            shared.failed.store(true, Ordering::Relaxed);
        } else if chunk.is_none() && shared.failed.load(Ordering::Relaxed) {
            // The job's chunk went with the job; another takes its place.
            chunk = Some(Buffer::new());
        }
        if let Some(chunk) = chunk {
            let _ = give_back.try_send(chunk);
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    own: Buffer,
    packed: Vec<u8>,
    inflater: Inflater,
}

impl Worker<'_> {
    fn perform(&mut self, job: Job, chunk: &mut Option<Buffer>) -> Result<(), ImportError> {
        match job {
            Job::Write { at, chunk: full } => {
                let full = chunk.insert(full);
                put(self.shared, at, full.bytes())
            }
            Job::Copy {
                from,
                place,
                at,
                len,
            } => {
                self.own.set_len(len);
                from.read_exact_at(self.own.bytes_mut(), place)
                    .map_err(|source| ImportError::Read { source })?;
                put(self.shared, at, self.own.bytes())
            }
            Job::Inflate {
                kind,
                cluster,
                at,
                len,
                parts,
            } => self.inflate(kind, cluster, (at, len), &parts),
            Job::Zero { at, len } => {
                self.shared.target.zero(at, len)?;
                self.shared.progress.add_disk(len);
                Ok(())
            }
        }
    }

    fn inflate(
        &mut self,
        kind: Compressor,
        cluster: usize,
        (at, len): (u64, usize),
        parts: &[Packed],
    ) -> Result<(), ImportError> {
        let mut large = Vec::new();
        let room = parts.len() * cluster;
        let out = if room <= CHUNK {
            self.own.set_len(room);
            self.own.bytes_mut()
        } else {
            large.resize(room, 0);
            large.as_mut_slice()
        };
        for (index, part) in parts.iter().enumerate() {
            let bytes = match &part.bytes {
                PackedBytes::Here(bytes) => bytes.as_slice(),
                PackedBytes::At(file, place) => {
                    self.packed.resize(part.len, 0);
                    let read = read_up_to(file, &mut self.packed, *place)?;
                    &self.packed[..read]
                }
            };
            let out = &mut out[index * cluster..(index + 1) * cluster];
            let place = at + (index * cluster) as u64;
            self.inflater.inflate(kind, bytes, out, place)?;
        }
        let len = len.min(out.len());
        put(self.shared, at, &out[..len])
    }
}

/// Reads what is there: the last compressed cluster may end before the
/// sectors that its entry counts.
fn read_up_to(file: &File, bytes: &mut [u8], place: u64) -> Result<usize, ImportError> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], place + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ImportError::Read { source }),
        }
    }
    Ok(read)
}

fn put(shared: &Shared, at: u64, bytes: &[u8]) -> Result<(), ImportError> {
    for run in runs(bytes) {
        let (place, len) = (at + run.start as u64, (run.end - run.start) as u64);
        if run.zero {
            shared.target.zero(place, len)?;
        } else {
            shared.target.write(place, &bytes[run.start..run.end])?;
        }
    }
    shared.progress.add_disk(bytes.len() as u64);
    Ok(())
}
