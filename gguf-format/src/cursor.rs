//! Bounds-checked little-endian reads that know their offset.
//!
//! Every byte the crate interprets passes through [`Cursor::take`] or [`Cursor::fixed`], so
//! a read past the end is one kind of error, made in one place. The types are public only
//! because sealed traits mention them; no path leads to them from outside.

use std::{fmt, str::Utf8Error};

use crate::{GgufError, error::quote};

/// What a read is about, for the error message; formatted only when the read fails.
#[derive(Clone, Copy, Debug)]
pub struct Field<'n> {
    part: &'static str,
    of: Option<&'n str>,
}

impl<'n> Field<'n> {
    /// A field of the file itself.
    pub(crate) const fn header(part: &'static str) -> Self {
        Self { part, of: None }
    }

    /// A part of the metadata entry or tensor called `of`.
    pub(crate) const fn part(part: &'static str, of: &'n str) -> Self {
        Self { part, of: Some(of) }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Some(of) => write!(f, "{} of `{}`", self.part, quote(of)),
            None => f.write_str(self.part),
        }
    }
}

/// A position in the file; `at` never exceeds the length.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The same file, at a position that an earlier cursor had.
    pub(crate) fn at(bytes: &'a [u8], at: usize) -> Self {
        debug_assert!(at <= bytes.len());
        Self { bytes, at }
    }

    pub(crate) const fn position(self) -> usize {
        self.at
    }

    pub(crate) const fn offset(self) -> u64 {
        self.at as u64
    }

    #[inline]
    pub(crate) fn rest(self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn remaining(self) -> u64 {
        self.rest().len() as u64
    }

    /// The next `needed` bytes.
    #[inline]
    pub(crate) fn take(&mut self, needed: u64, field: Field<'_>) -> Result<&'a [u8], GgufError> {
        let taken = usize::try_from(needed)
            .ok()
            .and_then(|n| self.rest().get(..n));
        let Some(taken) = taken else {
            return Err(self.truncated(needed, field));
        };
        self.at += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self, field: Field<'_>) -> Result<[u8; N], GgufError> {
        let Some(taken) = self.rest().first_chunk::<N>() else {
            return Err(self.truncated(N as u64, field));
        };
        self.at += N;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: Field<'_>) -> Result<u32, GgufError> {
        self.fixed(field).map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, field: Field<'_>) -> Result<u64, GgufError> {
        self.fixed(field).map(u64::from_le_bytes)
    }

    /// A length and that many bytes of UTF-8.
    #[inline]
    pub(crate) fn string(&mut self, field: Field<'_>) -> Result<&'a str, GgufError> {
        let len = self.u64(field)?;
        let offset = self.offset();
        let bytes = self.take(len, field)?;
        std::str::from_utf8(bytes).map_err(|fault| invalid_utf8(field, offset, fault))
    }

    /// A count of things that take at least `min_bytes` each, bounded by the bytes left.
    pub(crate) fn count(&mut self, min_bytes: u64, field: Field<'_>) -> Result<usize, GgufError> {
        let offset = self.offset();
        let count = self.u64(field)?;
        self.bound_count(count, min_bytes, offset, field)
    }

    /// Refuses a `count`, read at `offset`, that the rest of the file cannot hold.
    ///
    /// Counts are also kept within `u32`, the width of the sorted indices.
    pub(crate) fn bound_count(
        self,
        count: u64,
        min_bytes: u64,
        offset: u64,
        field: Field<'_>,
    ) -> Result<usize, GgufError> {
        let limit = (self.remaining() / min_bytes).min(u64::from(u32::MAX));
        usize::try_from(count)
            .ok()
            .filter(|_| count <= limit)
            .ok_or_else(|| GgufError::CountTooLarge {
                field: field.to_string(),
                offset,
                count,
                limit,
                available: self.remaining(),
            })
    }

    #[cold]
    fn truncated(self, needed: u64, field: Field<'_>) -> GgufError {
        GgufError::Truncated {
            field: field.to_string(),
            offset: self.offset(),
            needed,
            available: self.remaining(),
        }
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor(byte {} of {})", self.at, self.bytes.len())
    }
}

#[cold]
fn invalid_utf8(field: Field<'_>, offset: u64, fault: Utf8Error) -> GgufError {
    GgufError::InvalidUtf8 {
        field: field.to_string(),
        offset: offset + fault.valid_up_to() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: Field<'static> = Field::header("thing");

    #[test]
    fn reads_little_endian_and_counts_its_offset() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(cursor.u32(FIELD).unwrap(), 1);
        assert_eq!(cursor.u64(FIELD).unwrap(), 0x0100_0000_0000_0002);
        assert_eq!((cursor.offset(), cursor.remaining()), (12, 0));
    }

    #[test]
    fn a_read_past_the_end_names_field_offset_and_both_lengths() {
        let mut cursor = Cursor::at(&[0; 5], 2);
        assert!(matches!(
            cursor.take(u64::MAX, FIELD),
            Err(GgufError::Truncated { field, offset: 2, needed: u64::MAX, available: 3 })
                if field == "thing"
        ));
        assert_eq!(cursor.offset(), 2, "a failed read moves nothing");
    }

    #[test]
    fn a_count_is_bounded_by_the_bytes_that_are_left() {
        let mut bytes = 3_u64.to_le_bytes().to_vec();
        bytes.extend([0; 23]);
        let count = |bytes: &[u8]| Cursor::new(bytes).count(8, FIELD);
        assert!(matches!(
            count(&bytes),
            Err(GgufError::CountTooLarge {
                count: 3,
                limit: 2,
                ..
            })
        ));
        bytes.push(0);
        assert_eq!(count(&bytes).unwrap(), 3);
    }

    #[test]
    fn bad_utf8_is_located_to_the_byte() {
        let mut bytes = 4_u64.to_le_bytes().to_vec();
        bytes.extend(b"ab\xffd");
        assert!(matches!(
            Cursor::new(&bytes).string(FIELD),
            Err(GgufError::InvalidUtf8 { offset: 10, .. })
        ));
    }
}
