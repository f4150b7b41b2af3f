//! The bytes of a model: memory-mapped files, or bytes that are already in memory.
//!
//! A [`ModelFile`] holds all shards of a split model, or all files of a checkpoint's folder;
//! everything else borrows from it. The map is private and read-only, and the weights are used
//! where they lie, so the page cache is all the memory they take. Shards are looked for in the
//! folder of the file that was named, or in the one that was named itself, and nowhere else.
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

use crate::{
    Checkpoint, ModelError,
    checkpoint::{self, CONFIG, DOCUMENTS, INDEX, WEIGHTS},
};

/// The bytes of a model, in one file or several.
#[derive(Debug)]
pub struct ModelFile {
    /// The first shard, or the folder.
    path: PathBuf,
    /// In their order; empty only for a checkpoint without weights.
    shards: Vec<Shard>,
    /// Of a checkpoint, what lies beside the weights.
    documents: Option<Vec<Shard>>,
}

/// What a model's files hold, as far as their headers tell.
#[derive(Debug)]
pub enum Contents<'a> {
    /// GGUF, in one file or several.
    Gguf(GgufSet<'a>),
    /// A folder as Hugging Face lays it out.
    Checkpoint(Checkpoint<'a>),
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
    /// Opens a GGUF file, and the other shards of its model if it is one of several, or the
    /// folder of a checkpoint.
    ///
    /// The files must not shrink or change while they are open: the system ends a program
    /// that reads a page which is no longer there.
    ///
    /// # Errors
    /// A file is missing, no regular file, empty, not readable or not mappable, shards
    /// contradict their names, a folder has no `config.json`, or its index names files
    /// elsewhere; each naming the path. Whether the bytes are a model is checked by
    /// [`ModelFile::contents`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_dir() {
            return Self::open_folder(path);
        }
        let first = Shard::open(path.to_owned())?;
        let Some(names) = first.siblings()? else {
            return Ok(Self::of_shards(vec![first]));
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let shards = names.map(|name| Shard::open(folder.join(name)));
        Ok(Self::of_shards(shards.collect::<Result<_, _>>()?))
    }

    /// Weights may be missing: a tokenizer is of use without them.
    fn open_folder(folder: &Path) -> Result<Self, ModelError> {
        // A link that leads nowhere is no absence: half a download looks like that.
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
        let open = |name: &str| match Shard::open(folder.join(name)) {
            Err(ModelError::NotFound { path }) if !is_there(&path) => Ok(None),
            other => other.map(Some),
        };
        let documents = DOCUMENTS.iter().filter_map(|name| open(name).transpose());
        let documents: Vec<Shard> = documents.collect::<Result<_, _>>()?;
        let find = |name| documents.iter().find(|shard| shard.path.ends_with(name));
        if find(CONFIG).is_none() {
            let path = folder.to_owned();
            return Err(ModelError::IsDirectory { path });
        }
        let shards = match (open(WEIGHTS)?, find(INDEX)) {
            (Some(weights), _) => vec![weights],
            (None, None) => Vec::new(),
            (None, Some(index)) => {
                let names = checkpoint::shards(index.path_bytes())?.into_iter();
                let shards = names.map(|name| Shard::open(folder.join(name)));
                shards.collect::<Result<_, _>>()?
            }
        };
        Ok(Self {
            path: folder.to_owned(),
            shards,
            documents: Some(documents),
        })
    }

    fn of_shards(shards: Vec<Shard>) -> Self {
        Self {
            path: shards[0].path.clone(),
            shards,
            documents: None,
        }
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
        Self::of_shards(vec![shard])
    }

    /// Parses the headers of all files.
    ///
    /// # Errors
    /// A file is no valid GGUF or safetensors file, the files do not belong together, or a
    /// folder has no weights.
    pub fn contents(&self) -> Result<Contents<'_>, ModelError> {
        match &self.documents {
            None => self.gguf().map(Contents::Gguf),
            Some(documents) => {
                let shards: Vec<_> = self.shards.iter().map(Shard::path_bytes).collect();
                let documents = documents.iter().map(Shard::path_bytes).collect();
                Checkpoint::read(&self.path, &shards, documents).map(Contents::Checkpoint)
            }
        }
    }

    /// Parses the headers of all shards of a GGUF model.
    ///
    /// # Errors
    /// A shard is no valid GGUF file, the shards do not belong together, or it is a folder.
    pub fn gguf(&self) -> Result<GgufSet<'_>, ModelError> {
        if self.documents.is_some() {
            return Err(ModelError::Kind {
                path: self.path.clone(),
                expected: "a GGUF file",
                found: "a folder",
            });
        }
        let shards = self.shards.iter().map(Shard::parse);
        let shards = shards.collect::<Result<_, _>>()?;
        GgufSet::new(shards).map_err(|source| self.shards[0].error(source))
    }

    /// Returns the bytes of a document of a checkpoint, such as `tokenizer.json`; none where
    /// it is absent, and none of GGUF files.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<&[u8]> {
        let mut documents = self.documents.iter().flatten();
        let document = documents.find(|shard| shard.path.ends_with(name));
        document.map(|shard| shard.bytes.as_slice())
    }

    /// Returns whether it is the folder of a checkpoint.
    #[must_use]
    pub const fn is_checkpoint(&self) -> bool {
        self.documents.is_some()
    }

    /// Returns the path of the first shard or of the folder, or the name of a model in memory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the paths of all files with weights.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Returns the paths of all files that are read, those of a checkpoint's documents too.
    pub fn all_paths(&self) -> impl Iterator<Item = &Path> {
        let documents = self.documents.iter().flatten();
        let shards = self.shards.iter().chain(documents);
        shards.map(|shard| shard.path.as_path())
    }

    /// Returns the bytes of each file with weights.
    pub fn bytes(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.shards.iter().map(|shard| shard.bytes.as_slice())
    }

    /// Returns the bytes of each document of a checkpoint, in the order of their names in this
    /// crate; none of GGUF files.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        let documents = self.documents.iter().flatten();
        documents.map(|shard| shard.bytes.as_slice())
    }

    /// Returns the number of bytes of all files with weights together.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.bytes().map(|bytes| bytes.len() as u64).sum()
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

    fn path_bytes(&self) -> (&Path, &[u8]) {
        (&self.path, self.bytes.as_slice())
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
