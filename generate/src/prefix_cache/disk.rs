//! Blocks in files, so that what was computed outlives the process.
//!
//! A file holds one block and says which: its tokens, and the hash of all tokens before. Its
//! name is the hash of both, its last bytes are a checksum of all others. Files are written
//! behind, by a thread of their own, under a temporary name that becomes the real one when all
//! bytes are there. Whatever is wrong with a file makes it a file that is not there: the
//! positions are computed again.
//!
//! ```text
//! magic [8]   beginning u128   n_tokens u32   tokens [n_tokens] u32   block   xxh3 u128
//! ```
//!
//! Numbers are little-endian, the block is as it lies in memory. The folder has one folder for
//! each model, shape of blocks and version, so that they never meet.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::UNIX_EPOCH,
};

use quant_kernels::{KV_BLOCK, KvBlock, KvShape};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::tree::{Node, NodeId, Tree};
use crate::{DiskCacheOptions, GenerateError};

const MAGIC: &[u8; 8] = b"aprkv\0\0\x01";
/// Blocks that may wait to be written. More are not kept waiting for, they are not written.
const N_WAITING: usize = 64;

/// The files, and the thread that writes them.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    shape: KvShape,
    max_bytes: u64,
    n_bytes: u64,
    /// `None` only while it is dropped.
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    n_failed: Arc<AtomicU64>,
}

/// What the thread does, in this order: a file may be removed right after it was written.
#[derive(Debug)]
enum Job {
    Write {
        path: PathBuf,
        head: Vec<u8>,
        block: Arc<KvBlock>,
    },
    Remove(PathBuf),
}

impl Disk {
    /// Opens the folder and puts what lies in it into the tree.
    pub(super) fn open(
        options: &DiskCacheOptions,
        shape: KvShape,
        tree: &mut Tree,
    ) -> Result<Self, GenerateError> {
        let what = format!(
            "{}\0{shape:?}\0{}",
            options.model,
            env!("CARGO_PKG_VERSION")
        );
        let name = format!("{:032x}", xxh3_128(what.as_bytes()));
        let folder = options.folder.join(name);
        let failed = |source| GenerateError::CacheFolder {
            path: folder.clone(),
            source,
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let n_bytes = index(&folder, shape, tree).map_err(failed)?;
        let n_failed = Arc::new(AtomicU64::new(0));
        let (queue, jobs) = mpsc::sync_channel::<Job>(N_WAITING);
        let failures = Arc::clone(&n_failed);
        let writer = thread::Builder::new()
            .name("cache-writer".to_owned())
            .spawn(move || {
                for job in jobs {
                    if job.run().is_err() {
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self {
            folder,
            shape,
            max_bytes: options.max_bytes,
            n_bytes,
            queue: Some(queue),
            writer: Some(writer),
            n_failed,
        })
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

    /// Has a block written, and says whether it will be.
    pub(super) fn write(&mut self, node: &Node, block: &Arc<KvBlock>) -> bool {
        let job = Job::Write {
            path: self.path(node),
            head: head(node),
            block: Arc::clone(block),
        };
        let Some(queue) = &self.queue else {
            return false;
        };
        match queue.try_send(job) {
            Ok(()) => {
                self.n_bytes += self.file_bytes(node);
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Reads the block of a node; `None` if it is not what it should be.
    pub(super) fn read(&self, node: &Node) -> Option<Arc<KvBlock>> {
        let mut file = File::open(self.path(node)).ok()?;
        let mut found = vec![0; head(node).len()];
        file.read_exact(&mut found).ok()?;
        let mut block = KvBlock::new(self.shape);
        file.read_exact(block.as_bytes_mut()).ok()?;
        let mut sum = [0; 16];
        file.read_exact(&mut sum).ok()?;
        let is_whole = found == head(node) && checksum(&found, &block) == sum;
        is_whole.then(|| Arc::new(block))
    }

    /// Removes the file of a node.
    pub(super) fn remove(&mut self, node: &Node) {
        self.n_bytes = self.n_bytes.saturating_sub(self.file_bytes(node));
        if let Some(queue) = &self.queue {
            // The thread is there as long as this is, and its queue moves on.
            let _ = queue.send(Job::Remove(self.path(node)));
        }
    }

    fn path(&self, node: &Node) -> PathBuf {
        self.folder.join(format!("{:032x}.kv", node.hash))
    }

    fn file_bytes(&self, node: &Node) -> u64 {
        (head_len(node.tokens.len()) + self.shape.block_bytes() + 16) as u64
    }
}

impl Drop for Disk {
    /// Waits until all is written.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // It panics nowhere, and if it did there would be nobody to tell.
            let _ = writer.join();
        }
    }
}

impl Job {
    fn run(self) -> io::Result<()> {
        match self {
            Self::Remove(path) => fs::remove_file(path),
            Self::Write { path, head, block } => {
                let unfinished = path.with_extension(format!("{}.part", process::id()));
                let written = write_file(&unfinished, &head, &block)
                    .and_then(|()| fs::rename(&unfinished, &path));
                if written.is_err() {
                    let _ = fs::remove_file(&unfinished);
                }
                written
            }
        }
    }
}

fn write_file(path: &Path, head: &[u8], block: &KvBlock) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(head)?;
    file.write_all(block.as_bytes())?;
    file.write_all(&checksum(head, block))
}

/// Bytes before the block.
const fn head_len(n_tokens: usize) -> usize {
    MAGIC.len() + 16 + 4 + 4 * n_tokens
}

fn head(node: &Node) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(node.beginning.to_le_bytes());
    head.extend((node.tokens.len() as u32).to_le_bytes());
    head.extend(node.tokens.iter().flat_map(|token| token.to_le_bytes()));
    head
}

fn checksum(head: &[u8], block: &KvBlock) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(block.as_bytes());
    hash.digest128().to_le_bytes()
}

/// Puts the blocks of a folder into the tree, and removes what was never finished. Returns the
/// bytes of all files.
fn index(folder: &Path, shape: KvShape, tree: &mut Tree) -> io::Result<u64> {
    let mut by_beginning: HashMap<u128, Vec<(Vec<u32>, u64)>> = HashMap::new();
    let mut n_bytes = 0;
    for entry in fs::read_dir(folder)? {
        let (metadata, path) = entry.map(|entry| (entry.metadata(), entry.path()))?;
        // What is no file is not ours, and opening a pipe could take for ever. What another
        // server has removed meanwhile is nothing at all.
        let Some(metadata) = metadata.ok().filter(fs::Metadata::is_file) else {
            continue;
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (extension, read_head(&path)) {
            (Some("kv"), Ok((beginning, tokens))) => {
                let expected = (head_len(tokens.len()) + shape.block_bytes() + 16) as u64;
                if metadata.len() == expected {
                    n_bytes += expected;
                    let written = metadata.modified()?.duration_since(UNIX_EPOCH);
                    let written = written.unwrap_or_default().as_nanos() as u64;
                    let blocks = by_beginning.entry(beginning).or_default();
                    blocks.push((tokens, written));
                } else {
                    clear_away(&path)?;
                }
            }
            (Some("kv" | "part"), _) => clear_away(&path)?,
            // Not ours.
            _ => {}
        }
    }
    let mut open: Vec<(Option<NodeId>, u128)> = vec![(None, 0)];
    while let Some((parent, beginning)) = open.pop() {
        for (tokens, written) in by_beginning.remove(&beginning).unwrap_or_default() {
            let node = tree.insert_on_disk(parent, &tokens, written);
            if tokens.len() == KV_BLOCK {
                open.push((Some(node), tree.get(node).hash));
            }
        }
    }
    // What hangs on nothing was left behind by a block that is gone.
    for (beginning, orphans) in by_beginning {
        for (tokens, _) in orphans {
            let name = format!("{:032x}.kv", super::tree::hash(beginning, &tokens));
            n_bytes -= (head_len(tokens.len()) + shape.block_bytes() + 16) as u64;
            clear_away(&folder.join(name))?;
        }
    }
    Ok(n_bytes)
}

/// Removes a file, unless another server that has the same folder did it first.
fn clear_away(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Reads which block a file says that it holds.
fn read_head(path: &Path) -> io::Result<(u128, Vec<u32>)> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut file = File::open(path)?;
    let mut start = [0; 8 + 16 + 4];
    file.read_exact(&mut start)?;
    let (magic, rest) = start.split_at(8);
    let (beginning, n_tokens) = rest.split_at(16);
    let n_tokens = u32::from_le_bytes(n_tokens.try_into().map_err(|_| wrong())?) as usize;
    if magic != MAGIC || !(1..=KV_BLOCK).contains(&n_tokens) {
        return Err(wrong());
    }
    let mut bytes = vec![0; 4 * n_tokens];
    file.read_exact(&mut bytes)?;
    let (chunks, _) = bytes.as_chunks::<4>();
    let tokens: Vec<u32> = chunks
        .iter()
        .map(|&chunk| u32::from_le_bytes(chunk))
        .collect();
    let beginning = u128::from_le_bytes(beginning.try_into().map_err(|_| wrong())?);
    let name = format!("{:032x}", super::tree::hash(beginning, &tokens));
    let is_named = path.file_stem().is_some_and(|stem| stem == name.as_str());
    is_named.then_some((beginning, tokens)).ok_or_else(wrong)
}
