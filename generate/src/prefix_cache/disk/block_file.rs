//! What a file of the cache says, and how it is written whole and read checked.
//!
//! ```text
//! magic [8]   beginning u128   n_tokens u32   tokens [n_tokens] u32   block   xxh3 u128
//! ```
//!
//! Numbers are little-endian, the block is as it lies in memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    process,
};

use quant_kernels::{KV_BLOCK, KvBlock, KvShape};
use xxhash_rust::xxh3::Xxh3;

use crate::prefix_cache::tree::{self, Node};

const MAGIC: &[u8; 8] = b"aprkv\0\0\x01";

/// Returns the name of the file of a block, by the hash of all tokens up to its end.
pub(super) fn name(hash: u128) -> String {
    format!("{hash:032x}.kv")
}

/// Returns the bytes of the file of a block with so many tokens.
pub(super) fn len(n_tokens: usize, shape: KvShape) -> u64 {
    let head = MAGIC.len() + 16 + 4 + 4 * n_tokens;
    (head + shape.block_bytes() + 16) as u64
}

/// Returns the bytes before the block of a node.
pub(super) fn head(node: &Node) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(node.beginning.to_le_bytes());
    head.extend((node.tokens.len() as u32).to_le_bytes());
    head.extend(node.tokens.iter().flat_map(|token| token.to_le_bytes()));
    head
}

/// Writes a file under a temporary name, which becomes `path` when all bytes are there.
pub(super) fn write(path: &Path, head: &[u8], block: &KvBlock) -> io::Result<()> {
    let unfinished = path.with_extension(format!("{}.part", process::id()));
    let written = write_all(&unfinished, head, block).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_all(path: &Path, head: &[u8], block: &KvBlock) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(head)?;
    file.write_all(block.as_bytes())?;
    file.write_all(&checksum(head, block))
}

/// Reads the block of a file that should begin with `head`; `None` if it is not what it should
/// be.
pub(super) fn read(path: &Path, head: &[u8], shape: KvShape) -> Option<KvBlock> {
    let mut file = File::open(path).ok()?;
    let mut found = vec![0; head.len()];
    file.read_exact(&mut found).ok()?;
    if found != head {
        return None;
    }
    let mut block = KvBlock::new(shape);
    file.read_exact(block.as_bytes_mut()).ok()?;
    let mut sum = [0; 16];
    file.read_exact(&mut sum).ok()?;
    (checksum(head, &block) == sum).then_some(block)
}

/// Reads which block a file says that it holds: the hash of what comes before, and its tokens.
pub(super) fn read_head(path: &Path) -> io::Result<(u128, Vec<u32>)> {
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
    let name = name(tree::hash(beginning, &tokens));
    let is_named = path.file_name().is_some_and(|found| found == name.as_str());
    is_named.then_some((beginning, tokens)).ok_or_else(wrong)
}

fn checksum(head: &[u8], block: &KvBlock) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(block.as_bytes());
    hash.digest128().to_le_bytes()
}
