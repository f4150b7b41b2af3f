//! The older form of importance files: a list without a magic.
//!
//! ```text
//! n_entries
//!   each: n_bytes of the name, name, n_calls, n_values, values
//! n_chunks, n_bytes of the text's name, name        (not in the oldest)
//! ```
//!
//! Counts are `i32` and values F32, little-endian. A value is the mean of squares times
//! `n_calls`; an expert that met nothing has ones.

use std::collections::BTreeMap;

use super::{Entry, Importance, refuse};
use crate::ToolError;

pub(super) fn parse(bytes: &[u8]) -> Result<Importance<'_>, ToolError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let n_entries = cursor.count("the number of matrices")?;
    let mut entries = BTreeMap::new();
    for _ in 0..n_entries {
        let name = cursor.text("the name of a matrix")?;
        cursor.count("the number of calls")?;
        let n_values = cursor.count("the number of values")?;
        let n_bytes = n_values.checked_mul(4);
        let n_bytes = n_bytes.ok_or_else(|| cursor.refuse("the values", "they are too many"))?;
        let values = cursor.take(n_bytes, "the values")?;
        let entry = Entry {
            values,
            unseen: Vec::new(),
            n_counts: None,
        };
        if entries.insert(name, entry).is_some() {
            return Err(refuse(name, "it is there twice"));
        }
    }
    let mut importance = Importance {
        entries,
        file_name: None,
        dataset: None,
        n_chunks: 0,
    };
    if cursor.at < bytes.len() {
        importance.n_chunks = u32::try_from(cursor.count("the number of chunks")?).unwrap_or(0);
        importance.dataset =
            Some(cursor.text("the name of the text")?).filter(|name| !name.is_empty());
    }
    match bytes.len() - cursor.at {
        0 => Ok(importance),
        n => Err(cursor.refuse("the end", &format!("{n} bytes follow"))),
    }
}

/// The bytes, and how far they are read.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], ToolError> {
        let left = &self.bytes[self.at..];
        if n > left.len() {
            let reason = format!("{n} bytes needed, {} left", left.len());
            return Err(self.refuse(what, &reason));
        }
        self.at += n;
        Ok(&left[..n])
    }

    fn count(&mut self, what: &str) -> Result<usize, ToolError> {
        let bytes = self.take(4, what)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_u32, |value, &byte| value << 8 | u32::from(byte));
        let count = usize::try_from(value.cast_signed());
        count.map_err(|_| self.refuse(what, &format!("{} is no count", value.cast_signed())))
    }

    fn text(&mut self, what: &str) -> Result<&'a str, ToolError> {
        let n = self.count(what)?;
        let bytes = self.take(n, what)?;
        std::str::from_utf8(bytes).map_err(|_| self.refuse(what, "it is no UTF-8"))
    }

    fn refuse(&self, what: &str, reason: &str) -> ToolError {
        ToolError::ImportanceFile {
            field: what.to_owned(),
            offset: self.at as u64,
            reason: reason.to_owned(),
        }
    }
}
