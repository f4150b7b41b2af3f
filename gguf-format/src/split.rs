//! Models split over several files.
//!
//! llama.cpp's `gguf-split` writes `name-00001-of-00003.gguf` and so on. Each shard is a
//! GGUF file of its own; `split.no` (from 0), `split.count` and `split.tensors.count` in
//! the metadata say how they belong together, and the first shard carries the metadata of
//! the model. This crate opens no file: [`ShardName`] says what the files are called, the
//! caller opens them, and [`GgufSet`] puts the parsed shards together.

use std::fmt;

use crate::{Gguf, GgufError, Metadata, Tensor, error::quote};

/// The key of a shard's number, counted from 0.
pub const SPLIT_NO: &str = "split.no";
/// The key of the number of shards.
pub const SPLIT_COUNT: &str = "split.count";
/// The key of the number of tensors in all shards.
pub const SPLIT_TENSORS_COUNT: &str = "split.tensors.count";

/// What a shard says about its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitInfo {
    /// The shard's number, counted from 0.
    pub no: u32,
    /// The number of shards.
    pub count: u32,
    /// The number of tensors in all shards, where the file says it.
    pub n_tensors: Option<u64>,
}

impl SplitInfo {
    /// Reads the place of a file in a split model; `None` if the file is whole.
    ///
    /// # Errors
    /// A key is missing or has the wrong type, or the number is not below the count.
    pub fn of(metadata: &Metadata<'_>) -> Result<Option<Self>, GgufError> {
        let count: u32 = metadata.optional(SPLIT_COUNT)?.unwrap_or(0);
        if count <= 1 {
            return Ok(None);
        }
        let no: u32 = metadata.require(SPLIT_NO)?;
        if no >= count {
            return Err(GgufError::OutOfRange {
                key: SPLIT_NO.to_owned(),
                offset: metadata.offset_of(SPLIT_NO).unwrap_or_default(),
                expected: format!("a number below {count}"),
                found: no.to_string(),
            });
        }
        Ok(Some(Self {
            no,
            count,
            n_tensors: metadata.optional(SPLIT_TENSORS_COUNT)?,
        }))
    }
}

/// The file name of a shard, taken apart: `{prefix}-{number}-of-{count}.gguf`.
///
/// ```
/// use gguf_format::split::ShardName;
///
/// let shard = ShardName::parse("qwen3-00002-of-00003.gguf")?;
/// assert_eq!((shard.number(), shard.count()), (2, 3));
/// let all: Vec<String> = shard.siblings().collect();
/// assert_eq!(all[0], "qwen3-00001-of-00003.gguf");
/// # Ok::<(), gguf_format::GgufError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardName<'a> {
    prefix: &'a str,
    number: u32,
    count: u32,
}

impl<'a> ShardName<'a> {
    /// Takes a file name apart, which must be a bare name without a folder.
    ///
    /// # Errors
    /// [`GgufError::ShardName`] if the name leads to another folder or does not follow the
    /// pattern.
    pub fn parse(file_name: &'a str) -> Result<Self, GgufError> {
        let refuse = |expected: &str| GgufError::ShardName {
            name: quote(file_name),
            expected: expected.to_owned(),
        };
        if file_name.contains(['/', '\\', '\0']) {
            return Err(refuse("a bare file name without a folder"));
        }
        Self::split(file_name)
            .filter(|name| (1..=name.count).contains(&name.number))
            .ok_or_else(|| refuse("a name like `model-00001-of-00003.gguf`"))
    }

    fn split(file_name: &'a str) -> Option<Self> {
        let rest = file_name.strip_suffix(".gguf")?;
        let (rest, count) = rest.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        Some(Self {
            prefix,
            number: digits(number)?,
            count: digits(count)?,
        })
    }

    /// Returns what all shards' names begin with.
    #[must_use]
    pub const fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// Returns the shard's number, counted from 1 as in file names.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns the number of shards.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Refuses a name that contradicts what the shard's metadata says.
    ///
    /// # Errors
    /// [`GgufError::ShardName`] if number or count differ.
    pub fn check(&self, info: &SplitInfo) -> Result<(), GgufError> {
        if (self.number, self.count) == (info.no.saturating_add(1), info.count) {
            return Ok(());
        }
        let expected = Self {
            prefix: self.prefix,
            number: info.no + 1,
            count: info.count,
        };
        Err(GgufError::ShardName {
            name: quote(&self.to_string()),
            expected: format!("`{}`, as its metadata says", quote(&expected.to_string())),
        })
    }

    /// Iterates over the names of all shards, the first one first, this one included. All
    /// lie in the folder of this one.
    pub fn siblings(&self) -> impl Iterator<Item = String> + use<'a> {
        let Self { prefix, count, .. } = *self;
        (1..=count).map(move |number| {
            Self {
                prefix,
                number,
                count,
            }
            .to_string()
        })
    }
}

impl fmt::Display for ShardName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{:05}-of-{:05}.gguf",
            self.prefix, self.number, self.count
        )
    }
}

/// A number as `%05d` prints it: five digits, or more without a leading zero.
fn digits(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (format!("{number:05}") == text).then_some(number)
}

/// One model: a single file, or all shards of a split one.
///
/// It has the face of [`Gguf`], so callers need not know how many files there are.
#[derive(Clone, Debug)]
pub struct GgufSet<'a> {
    /// Never empty.
    shards: Vec<Gguf<'a>>,
    /// For each shard, the number of tensors up to its end.
    ends: Vec<usize>,
}

impl<'a> GgufSet<'a> {
    /// Puts the shards of a model together, in their order. A whole file is a set of one.
    ///
    /// # Errors
    /// Shards are missing, too many, out of order or not shards at all, the number of
    /// tensors is not the one announced, or a tensor occurs twice.
    pub fn new(shards: Vec<Gguf<'a>>) -> Result<Self, GgufError> {
        if shards.is_empty() {
            return Err(GgufError::NoShards);
        }
        for (index, shard) in shards.iter().enumerate() {
            check_place(shard.metadata(), index, shards.len())?;
        }
        let ends: Vec<usize> = shards
            .iter()
            .scan(0, |end, shard| {
                *end += shard.n_tensors();
                Some(*end)
            })
            .collect();
        let set = Self { shards, ends };
        set.check_tensor_counts()?;
        set.check_names()?;
        Ok(set)
    }

    /// Returns the shards.
    #[must_use]
    pub fn shards(&self) -> &[Gguf<'a>] {
        &self.shards
    }

    /// Returns the metadata of the model: that of the first shard.
    #[must_use]
    pub fn metadata(&self) -> &Metadata<'a> {
        self.shards[0].metadata()
    }

    /// Returns a tensor that must be there.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] if it is not.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'a>, GgufError> {
        let n_tensors = self.n_tensors();
        self.find(name).ok_or_else(|| GgufError::MissingTensor {
            name: quote(name),
            n_tensors,
        })
    }

    /// Returns a tensor that may be absent.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Tensor<'a>> {
        self.shards.iter().find_map(|shard| shard.find(name))
    }

    /// Iterates over the tensors of all shards in order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'a>> + '_ {
        (0..self.n_tensors()).map(|index| self.tensor_at(index))
    }

    fn n_tensors(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn tensor_at(&self, index: usize) -> Tensor<'a> {
        let shard = self.shard_of(index);
        let start = shard.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.shards[shard].tensor_at(index - start)
    }

    /// The shard that holds the tensor at a place in the order of all.
    fn shard_of(&self, index: usize) -> usize {
        self.ends.partition_point(|&end| end <= index)
    }

    fn check_tensor_counts(&self) -> Result<(), GgufError> {
        for (shard, gguf) in self.shards.iter().enumerate() {
            let announced: Option<u64> = gguf.metadata().optional(SPLIT_TENSORS_COUNT)?;
            let found = self.n_tensors();
            if let Some(expected) = announced.filter(|&n| n != found as u64) {
                return Err(GgufError::ShardTensorCount {
                    shard,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), GgufError> {
        if self.shards.len() == 1 {
            return Ok(());
        }
        let names = self.tensors().map(|tensor| tensor.info.name());
        let mut by_name: Vec<(&str, usize)> = names.zip(0..).collect();
        by_name.sort_unstable();
        for pair in by_name.windows(2) {
            let [(name, first), (other, second)] = [pair[0], pair[1]];
            if name == other {
                return Err(GgufError::DuplicateAcrossShards {
                    name: quote(name),
                    first: self.shard_of(first),
                    second: self.shard_of(second),
                });
            }
        }
        Ok(())
    }
}

/// Refuses a file that does not belong at `shard` among `n_shards`.
fn check_place(metadata: &Metadata<'_>, shard: usize, n_shards: usize) -> Result<(), GgufError> {
    let Some(info) = SplitInfo::of(metadata)? else {
        if n_shards == 1 {
            return Ok(());
        }
        return Err(GgufError::NotAShard {
            shard,
            key: SPLIT_COUNT,
        });
    };
    if info.count as usize != n_shards {
        return Err(GgufError::ShardCount {
            shard,
            expected: info.count.into(),
            found: n_shards,
        });
    }
    if info.no as usize != shard {
        return Err(GgufError::ShardOrder {
            shard,
            found: info.no.into(),
        });
    }
    Ok(())
}
