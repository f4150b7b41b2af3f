//! Blocks in files, so that what was computed outlives the process.
//!
//! A [file](block_file) holds one block and says which: its tokens, and the hash of all tokens
//! before. Its name is the hash of both, its last bytes are a checksum of all others. Whatever
//! is wrong with a file makes it a file that is not there: the positions are computed again.
//!
//! Who computes never waits for a disk. One thread writes and removes files, another reads
//! them; what is to be written is only pointed at, so it takes no memory beside that of the
//! tree, and if it leaves memory before its turn comes it is not written. The
//! [folder](folder) has one folder for each model, shape of blocks and version, so that they
//! never meet, and an engine has it alone.

mod block_file;
mod folder;

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use quant_kernels::{KvBlock, KvShape};
use xxhash_rust::xxh3::xxh3_128;

use super::tree::{Node, NodeId, Place, Tree};
use crate::{DiskCacheOptions, GenerateError};

/// Files that may wait to be written or removed before no more are written: a bound for what
/// a disk that hangs costs.
const N_WAITING: usize = 4096;

/// The files, and the threads that write and read them.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    shape: KvShape,
    max_bytes: u64,
    n_bytes: u64,
    /// `None` only while it is dropped.
    writes: Option<Sender<Write>>,
    writer: Option<JoinHandle<()>>,
    /// Jobs of the writer.
    n_waiting: Arc<AtomicUsize>,
    n_failed: Arc<AtomicU64>,
    reads: Sender<Read>,
    found: Receiver<Found>,
    /// Hashes of the blocks that are being read.
    reading: HashSet<u128>,
    /// Nobody else uses the folder as long as it is open.
    _lock: File,
}

/// What the writer does, in this order: a file may be removed right after it was written.
#[derive(Debug)]
enum Write {
    Block {
        path: PathBuf,
        head: Vec<u8>,
        block: Weak<KvBlock>,
        state: FileState,
    },
    Remove(PathBuf),
}

/// What the reader does.
#[derive(Debug)]
struct Read {
    node: NodeId,
    hash: u128,
    path: PathBuf,
    head: Vec<u8>,
}

/// What has become of it.
#[derive(Debug)]
pub(super) struct Found {
    /// The node that asked. It may be gone by now, and another one have its number.
    pub(super) node: NodeId,
    pub(super) hash: u128,
    /// `None` if the file is not what it should be.
    pub(super) block: Option<KvBlock>,
}

/// What has become of the file of a block.
#[derive(Clone, Debug)]
pub(super) struct FileState(Arc<AtomicU8>);

impl FileState {
    const WAITING: u8 = 0;
    const THERE: u8 = 1;
    const FAILED: u8 = 2;

    /// Returns that of a file that is there.
    pub(super) fn there() -> Self {
        Self(Arc::new(AtomicU8::new(Self::THERE)))
    }

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Acquire) == state
    }

    /// Whether the file is there.
    pub(super) fn is_there(&self) -> bool {
        self.is(Self::THERE)
    }

    /// Whether the file will be written in a moment.
    pub(super) fn is_waiting(&self) -> bool {
        self.is(Self::WAITING)
    }
}

impl Disk {
    /// Opens the folder and puts what lies in it into the tree; `None` if another engine has
    /// the folder.
    pub(super) fn open(
        options: &DiskCacheOptions,
        shape: KvShape,
        tree: &mut Tree,
    ) -> Result<Option<Self>, GenerateError> {
        let what = format!(
            "{}\0{shape:?}\0{}",
            options.model,
            env!("CARGO_PKG_VERSION")
        );
        let path = options
            .folder
            .join(format!("{:032x}", xxh3_128(what.as_bytes())));
        let failed = |source| GenerateError::CacheFolder {
            path: path.clone(),
            source,
        };
        folder::make(&path).map_err(failed)?;
        let Some(lock) = folder::lock(&path).map_err(failed)? else {
            return Ok(None);
        };
        let n_bytes = folder::index(&path, shape, tree).map_err(failed)?;
        let (n_waiting, n_failed) = (Arc::default(), Arc::default());
        let (writes, writer) =
            start_writer(&n_waiting, &n_failed, options.on_failure).map_err(failed)?;
        let (reads, found) = start_reader(shape).map_err(failed)?;
        Ok(Some(Self {
            path,
            shape,
            max_bytes: options.max_bytes,
            n_bytes,
            writes: Some(writes),
            writer: Some(writer),
            n_waiting,
            n_failed,
            reads,
            found,
            reading: HashSet::new(),
            _lock: lock,
        }))
    }

    /// Returns whether there is more than may be.
    pub(super) const fn is_over(&self) -> bool {
        self.n_bytes > self.max_bytes
    }

    /// Returns the bytes of all files, those that will be written in a moment too.
    pub(crate) const fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Returns how many files could not be written or removed.
    pub(crate) fn n_failed(&self) -> u64 {
        self.n_failed.load(Ordering::Relaxed)
    }

    /// Has the block of a node written. Returns nothing if it will not be: it does not lie in
    /// memory, or too many wait.
    pub(super) fn write(&mut self, node: &Node) -> Option<FileState> {
        let Place::Memory(block) = node.place() else {
            return None;
        };
        if self.n_waiting.load(Ordering::Relaxed) >= N_WAITING {
            return None;
        }
        let state = FileState(Arc::new(AtomicU8::new(FileState::WAITING)));
        self.n_bytes += self.file_bytes(node);
        self.give(Write::Block {
            path: self.path(node),
            head: block_file::head(node),
            block: Arc::downgrade(block),
            state: state.clone(),
        });
        Some(state)
    }

    /// Removes the file of a node.
    pub(super) fn remove(&mut self, node: &Node) {
        self.n_bytes = self.n_bytes.saturating_sub(self.file_bytes(node));
        self.give(Write::Remove(self.path(node)));
    }

    fn give(&self, job: Write) {
        if let Some(writes) = &self.writes {
            self.n_waiting.fetch_add(1, Ordering::Relaxed);
            // The thread is there as long as this is.
            let _ = writes.send(job);
        }
    }

    /// Has the block of a node read, unless it is being read.
    pub(super) fn read(&mut self, id: NodeId, node: &Node) {
        if self.reading.insert(node.hash) {
            // As above.
            let _ = self.reads.send(Read {
                node: id,
                hash: node.hash,
                path: self.path(node),
                head: block_file::head(node),
            });
        }
    }

    /// Returns what was read since, one by one, and waits so long for the next.
    pub(super) fn found(&mut self, at_most: Duration) -> Option<Found> {
        match self.found.recv_timeout(at_most) {
            Ok(found) => {
                self.reading.remove(&found.hash);
                Some(found)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn path(&self, node: &Node) -> PathBuf {
        self.path.join(block_file::name(node.hash))
    }

    fn file_bytes(&self, node: &Node) -> u64 {
        block_file::len(node.tokens.len(), self.shape)
    }
}

impl Drop for Disk {
    /// Waits until all is written. What is read nobody waits for any more.
    fn drop(&mut self) {
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            // It panics nowhere, and if it did there would be nobody to tell.
            let _ = writer.join();
        }
    }
}

fn start_writer(
    n_waiting: &Arc<AtomicUsize>,
    n_failed: &Arc<AtomicU64>,
    on_failure: fn(&io::Error),
) -> io::Result<(Sender<Write>, JoinHandle<()>)> {
    let (sender, jobs) = mpsc::channel::<Write>();
    let (n_waiting, n_failed) = (Arc::clone(n_waiting), Arc::clone(n_failed));
    let thread = thread::Builder::new().name("cache-writer".to_owned());
    let writer = thread.spawn(move || {
        let mut is_failing = false;
        for job in jobs {
            match job.run() {
                Ok(has_written) => is_failing &= !has_written,
                Err(error) => {
                    n_failed.fetch_add(1, Ordering::Relaxed);
                    if !is_failing {
                        on_failure(&error);
                    }
                    is_failing = true;
                }
            }
            n_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    })?;
    Ok((sender, writer))
}

fn start_reader(shape: KvShape) -> io::Result<(Sender<Read>, Receiver<Found>)> {
    let (sender, jobs) = mpsc::channel::<Read>();
    let (answers, found) = mpsc::channel();
    let thread = thread::Builder::new().name("cache-reader".to_owned());
    thread.spawn(move || {
        for Read {
            node,
            hash,
            path,
            head,
        } in jobs
        {
            let block = block_file::read(&path, &head, shape);
            if answers.send(Found { node, hash, block }).is_err() {
                return;
            }
        }
    })?;
    Ok((sender, found))
}

impl Write {
    /// Does it, and returns whether a file was written.
    fn run(self) -> io::Result<bool> {
        match self {
            Self::Remove(path) => match fs::remove_file(path) {
                // It was never written.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                done => done.map(|()| false),
            },
            Self::Block {
                path,
                head,
                block,
                state,
            } => {
                let Some(block) = block.upgrade() else {
                    return Ok(false);
                };
                let written = block_file::write(&path, &head, &block);
                let now = match written {
                    Ok(()) => FileState::THERE,
                    Err(_) => FileState::FAILED,
                };
                state.0.store(now, Ordering::Release);
                written.map(|()| true)
            }
        }
    }
}
