//! The bytes of a model: memory-mapped files, or bytes that are already in memory.
//!
//! A [`ModelFile`] holds all shards of a split model; everything else borrows from it. The
//! map is private and read-only, and the weights are used where they lie, so the page cache
//! is all the memory they take. Shards are looked for in the folder of the file that was
//! named and nowhere else.
#![expect(unsafe_code, reason = "the memory map, `map` below, is the one place")]

use std::{
    borrow::Cow,
    fs::{self, File},
    hint::black_box,
    io,
    path::{Path, PathBuf},
};

use gguf_format::{
    Gguf, GgufError, GgufSet,
    split::{ShardName, SplitInfo},
};
use memmap2::Mmap;

use crate::ModelError;

/// The bytes of a model, in one file or several.
#[derive(Debug)]
pub struct ModelFile {
    /// In their order; never empty.
    shards: Vec<Shard>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Map(Mmap),
    Memory(Cow<'static, [u8]>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Map(_) => "mapped",
            Self::Memory(_) => "in memory",
        };
        write!(f, "{} bytes {kind}", self.as_slice().len())
    }
}

/// How the pages of a mapped file are brought into memory ahead of their use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefetch {
    /// Not at all: each page when it is first touched.
    #[default]
    None,
    /// Not at all, but where Linux has to read a page, it is asked for the 2 MiB around it as
    /// one huge page. Those stay huge for every program until they are dropped from memory.
    Huge,
    /// The system is asked to read ahead and does so beside the program.
    ReadAhead,
    /// All pages are read, huge as above, and mapped before the call returns; no page fault
    /// comes later.
    Populate,
}

impl ModelFile {
    /// Opens a file, and the other shards of its model if it is one of several.
    ///
    /// The files must not shrink or change while they are open: the system ends a program
    /// that reads a page which is no longer there.
    ///
    /// # Errors
    /// A file is missing, no regular file, empty, not readable or not mappable, or shards
    /// contradict their names; each naming the path. Whether the bytes are a model is checked
    /// by [`ModelFile::gguf`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let first = Shard::open(path.to_owned())?;
        let Some(names) = first.siblings()? else {
            return Ok(Self {
                shards: vec![first],
            });
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let shards = names.map(|name| Shard::open(folder.join(name)));
        Ok(Self {
            shards: shards.collect::<Result<_, _>>()?,
        })
    }

    /// Takes a whole model that is part of the program. `name` stands for its path in errors.
    #[must_use]
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Self {
        Self::in_memory(name, Cow::Borrowed(bytes))
    }

    /// Takes a whole model from memory. `name` stands for its path in errors.
    #[must_use]
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self::in_memory(name, Cow::Owned(bytes))
    }

    fn in_memory(name: &str, bytes: Cow<'static, [u8]>) -> Self {
        let shard = Shard {
            path: name.into(),
            bytes: Bytes::Memory(bytes),
        };
        Self {
            shards: vec![shard],
        }
    }

    /// Parses the headers of all shards.
    ///
    /// # Errors
    /// A shard is no valid GGUF file, or the shards do not belong together.
    pub fn gguf(&self) -> Result<GgufSet<'_>, ModelError> {
        let shards = self.shards.iter().map(Shard::parse);
        let shards = shards.collect::<Result<_, _>>()?;
        GgufSet::new(shards).map_err(|source| self.shards[0].error(source))
    }

    /// Returns the path of the first shard, or the name of a model in memory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shards[0].path
    }

    /// Returns the paths of all shards.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Returns the bytes of all shards together.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.bytes.as_slice().len() as u64)
            .sum()
    }

    /// Brings the pages of mapped files into memory. `progress` is told the bytes done so
    /// far, every 64 MiB while pages are populated. Returns whether the system agreed to
    /// all; if not, everything works all the same, only the first touch of a page is slower.
    pub fn prefetch(&self, how: Prefetch, mut progress: impl FnMut(u64)) -> bool {
        let mut done = 0;
        let mut agreed = true;
        for shard in &self.shards {
            if let Bytes::Map(map) = &shard.bytes {
                agreed &= advise(map, how, |n_bytes| progress(done + n_bytes));
            }
            done += shard.bytes.as_slice().len() as u64;
            progress(done);
        }
        agreed
    }

    /// Reads one byte at `n_places`, evenly spread over each mapped file. Where a page is not
    /// in memory the system has to wait for the disk, and counts it: so a program finds out
    /// whether it is worth its while to populate the map.
    pub fn touch(&self, n_places: usize) {
        for shard in &self.shards {
            if let Bytes::Map(map) = &shard.bytes {
                let step = map.len().div_ceil(n_places.max(1)).max(1);
                map.iter().step_by(step).for_each(|byte| {
                    black_box(*byte);
                });
            }
        }
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, ModelError> {
        // Asked before opening, which would wait for ever on a pipe without a writer.
        let about = fs::metadata(&path).map_err(|source| io_error(&path, "opened", source))?;
        if about.is_dir() {
            return Err(ModelError::IsDirectory { path });
        }
        if !about.is_file() {
            return Err(ModelError::NotRegular { path });
        }
        let file = File::open(&path).map_err(|source| io_error(&path, "opened", source))?;
        if about.len() == 0 {
            return Err(ModelError::Empty { path });
        }
        let map = map(&file).map_err(|source| io_error(&path, "mapped", source))?;
        Ok(Self {
            path,
            bytes: Bytes::Map(map),
        })
    }

    fn parse(&self) -> Result<Gguf<'_>, ModelError> {
        Gguf::parse(self.bytes.as_slice()).map_err(|source| self.error(source))
    }

    fn error(&self, source: GgufError) -> ModelError {
        ModelError::File {
            path: self.path.clone(),
            source: Box::new(source),
        }
    }

    /// The file names of all shards, if this file is one of several. Only a name like that of
    /// a shard leads to others; a shard under another name fails when it is put together.
    fn siblings(&self) -> Result<Option<impl Iterator<Item = String> + use<'_>>, ModelError> {
        let file_name = self.path.file_name().and_then(|name| name.to_str());
        let Some(Ok(name)) = file_name.map(ShardName::parse) else {
            return Ok(None);
        };
        let gguf = self.parse()?;
        let info = SplitInfo::of(gguf.metadata()).map_err(|source| self.error(source))?;
        let Some(info) = info else {
            return Ok(None);
        };
        name.check(&info).map_err(|source| self.error(source))?;
        Ok(Some(name.siblings()))
    }
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> ModelError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ModelError::NotFound { path },
        io::ErrorKind::PermissionDenied => ModelError::PermissionDenied { path },
        _ => ModelError::Io {
            path,
            action,
            source,
        },
    }
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private. That nobody truncates or rewrites the file
    // meanwhile cannot be had from the system; `ModelFile::open` asks it of its user.
    unsafe { Mmap::map(file) }
}

/// Asks the system for the pages of a map; returns whether it agreed.
#[cfg(unix)]
fn advise(map: &Mmap, how: Prefetch, progress: impl FnMut(u64)) -> bool {
    match how {
        Prefetch::None => true,
        Prefetch::Huge => ask_for_huge(map),
        Prefetch::ReadAhead => map.advise(memmap2::Advice::WillNeed).is_ok(),
        Prefetch::Populate => populate(map, progress),
    }
}

/// Asks the system for the pages of a map; returns whether it agreed.
#[cfg(not(unix))]
fn advise(_: &Mmap, how: Prefetch, _: impl FnMut(u64)) -> bool {
    how == Prefetch::None
}

#[cfg(target_os = "linux")]
fn ask_for_huge(map: &Mmap) -> bool {
    map.advise(memmap2::Advice::HugePage).is_ok()
}

#[cfg(all(unix, not(target_os = "linux")))]
fn ask_for_huge(_: &Mmap) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn populate(map: &Mmap, mut progress: impl FnMut(u64)) -> bool {
    const PIECE: usize = 64 << 20;
    // Without huge pages all is there all the same.
    ask_for_huge(map);
    (0..map.len()).step_by(PIECE).all(|start| {
        let len = PIECE.min(map.len() - start);
        let agreed = map
            .advise_range(memmap2::Advice::PopulateRead, start, len)
            .is_ok();
        progress((start + len) as u64);
        agreed
    })
}

#[cfg(all(unix, not(target_os = "linux")))]
fn populate(map: &Mmap, _: impl FnMut(u64)) -> bool {
    map.advise(memmap2::Advice::WillNeed).is_ok()
}
