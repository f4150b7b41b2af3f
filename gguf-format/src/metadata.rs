//! The metadata entries of a file, by key and in the file's order.
//!
//! Stored are only the keys and where the values lie: 28 bytes an entry, and an entry takes
//! at least 14 in the file. Values are decoded when they are asked for.

use std::fmt;

use crate::{
    FromValue, GgufError, Mismatch, Value, ValueType,
    cursor::{Cursor, Field},
    error::quote,
};

/// The fewest bytes of an entry: length of the key, one letter, type, one byte of value.
pub(crate) const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// Why decoding a value cannot fail.
const PROVEN: &str = "every value was read once when the file was parsed";

/// The metadata of a file: keys and typed values.
#[derive(Clone)]
pub struct Metadata<'a> {
    file: &'a [u8],
    entries: Vec<Entry<'a>>,
    /// Indices into `entries`, sorted by key.
    by_key: Vec<u32>,
}

/// A key and where its value's type lies.
#[derive(Clone, Copy)]
struct Entry<'a> {
    key: &'a str,
    at: usize,
}

impl<'a> Metadata<'a> {
    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the value of a key, whatever its type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.entry(key).map(|entry| self.value(entry))
    }

    /// Returns whether there is an entry with this key.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Returns the value of a key that must be there.
    ///
    /// ```
    /// # use gguf_format::{Gguf, GgufError, GgufWriter};
    /// # let mut writer = GgufWriter::new();
    /// # writer.set("qwen3moe.block_count", 48_u32)?;
    /// # let file = writer.to_bytes(&[])?;
    /// let gguf = Gguf::parse(&file)?;
    /// let n_layer: usize = gguf.metadata().require("qwen3moe.block_count")?;
    /// assert_eq!(n_layer, 48);
    /// # Ok::<(), GgufError>(())
    /// ```
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], [`GgufError::WrongType`] or [`GgufError::OutOfRange`],
    /// each naming the key and the type expected.
    pub fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, GgufError> {
        self.optional(key)?.ok_or_else(|| GgufError::MissingKey {
            key: quote(key),
            expected: T::expected(),
        })
    }

    /// Returns the value of a key that may be absent.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] or [`GgufError::OutOfRange`] if the key is there and its
    /// value is not a `T`.
    pub fn optional<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        let value = self.value(entry);
        let describe = || (quote(key), entry.at as u64, T::expected(), value.describe());
        match T::from_value(value) {
            Ok(converted) => Ok(Some(converted)),
            Err(Mismatch::Type) => {
                let (key, offset, expected, found) = describe();
                Err(GgufError::WrongType {
                    key,
                    offset,
                    expected,
                    found,
                })
            }
            Err(Mismatch::Range) => {
                let (key, offset, expected, found) = describe();
                Err(GgufError::OutOfRange {
                    key,
                    offset,
                    expected,
                    found,
                })
            }
        }
    }

    /// Iterates over keys and values in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, Value<'a>)> + '_ {
        self.entries
            .iter()
            .map(|entry| (entry.key, self.value(entry)))
    }

    /// Where the type of a key's value lies in the file.
    pub(crate) fn offset_of(&self, key: &str) -> Option<u64> {
        self.entry(key).map(|entry| entry.at as u64)
    }

    /// Reads and checks `n_entries` entries, which [`Cursor::count`] has bounded.
    pub(crate) fn read(
        file: &'a [u8],
        cursor: &mut Cursor<'a>,
        n_entries: usize,
    ) -> Result<Self, GgufError> {
        let mut entries = Vec::with_capacity(n_entries);
        for _ in 0..n_entries {
            let offset = cursor.offset();
            let key = cursor.string(Field::header("metadata key"))?;
            if key.is_empty() {
                return Err(GgufError::EmptyKey { offset });
            }
            let at = cursor.position();
            let ty = ValueType::read(cursor, Field::part("value type", key))?;
            Value::read_fully(cursor, ty, Field::part("value", key))?;
            entries.push(Entry { key, at });
        }
        let by_key = sorted_by_key(&entries)?;
        Ok(Self {
            file,
            entries,
            by_key,
        })
    }

    fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        let found = self
            .by_key
            .binary_search_by(|&i| self.entries[i as usize].key.cmp(key));
        found
            .ok()
            .map(|rank| &self.entries[self.by_key[rank] as usize])
    }

    fn value(&self, entry: &Entry<'a>) -> Value<'a> {
        let mut cursor = Cursor::at(self.file, entry.at);
        let field = Field::part("value", entry.key);
        let ty = ValueType::read(&mut cursor, field).expect(PROVEN);
        Value::read(&mut cursor, ty, field).expect(PROVEN)
    }
}

fn sorted_by_key(entries: &[Entry<'_>]) -> Result<Vec<u32>, GgufError> {
    let key = |i: u32| entries[i as usize].key;
    let mut by_key: Vec<u32> = (0..).take(entries.len()).collect();
    by_key.sort_unstable_by(|&a, &b| key(a).cmp(key(b)).then(a.cmp(&b)));
    for pair in by_key.windows(2) {
        if key(pair[0]) == key(pair[1]) {
            return Err(GgufError::DuplicateKey {
                key: quote(key(pair[0])),
                first: entries[pair[0] as usize].at as u64,
                offset: entries[pair[1] as usize].at as u64,
            });
        }
    }
    Ok(by_key)
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
