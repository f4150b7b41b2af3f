//! The table of tensors: every rule about where their data may lie.
//!
//! As with the metadata, only the names and where the descriptions lie are stored, 28 bytes
//! a tensor; a description takes at least 24. Descriptions are decoded when asked for.

use crate::{
    GgufError, Tensor, TensorInfo,
    cursor::{Cursor, Field},
    error::quote,
};

/// Why decoding a description cannot fail.
const PROVEN: &str = "every tensor was checked once when the file was parsed";

#[derive(Clone)]
pub(crate) struct TensorTable<'a> {
    file: &'a [u8],
    /// The data section, from its first byte to the end of the file.
    data: &'a [u8],
    entries: Vec<Entry<'a>>,
    /// Indices into `entries`, sorted by name.
    by_name: Vec<u32>,
}

/// A name and where the rest of the description lies.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    at: usize,
}

impl Entry<'_> {
    /// Where the data offset lies in the file: behind dimensions and type.
    fn offset_field(&self, info: &TensorInfo<'_>) -> u64 {
        self.at as u64 + 4 + 8 * info.ne().len() as u64 + 4
    }
}

impl<'a> TensorTable<'a> {
    /// Reads and checks `n_tensors` descriptions, which [`Cursor::bound_count`] has bounded.
    pub(crate) fn read(
        file: &'a [u8],
        cursor: &mut Cursor<'a>,
        n_tensors: usize,
        alignment: u64,
    ) -> Result<Self, GgufError> {
        let mut entries = Vec::with_capacity(n_tensors);
        for _ in 0..n_tensors {
            let name = cursor.string(Field::header("tensor name"))?;
            entries.push(Entry {
                name,
                at: cursor.position(),
            });
            TensorInfo::read(cursor, name)?;
        }
        let mut table = Self {
            file,
            data: &[],
            entries,
            by_name: Vec::new(),
        };
        table.data = data_section(file, *cursor, alignment);
        table.by_name = table.sorted_by_name()?;
        table.check_extents(alignment)?;
        table.check_overlaps()?;
        Ok(table)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the data section starts in the file.
    pub(crate) fn data_offset(&self) -> u64 {
        (self.file.len() - self.data.len()) as u64
    }

    pub(crate) fn find(&self, name: &str) -> Option<Tensor<'a>> {
        let found = self
            .by_name
            .binary_search_by(|&i| self.entries[i as usize].name.cmp(name));
        found
            .ok()
            .map(|rank| self.tensor(self.by_name[rank] as usize))
    }

    /// The tensor at a place in the file's order.
    pub(crate) fn tensor(&self, index: usize) -> Tensor<'a> {
        let info = self.info(self.entries[index]);
        let range = extent(&info).expect(PROVEN);
        Tensor {
            info,
            data: &self.data[range],
        }
    }

    fn info(&self, entry: Entry<'a>) -> TensorInfo<'a> {
        TensorInfo::read(&mut Cursor::at(self.file, entry.at), entry.name).expect(PROVEN)
    }

    fn check_extents(&self, alignment: u64) -> Result<(), GgufError> {
        for &entry in &self.entries {
            let info = self.info(entry);
            if !info.offset().is_multiple_of(alignment) {
                return Err(GgufError::MisalignedTensor {
                    name: quote(info.name()),
                    offset: entry.offset_field(&info),
                    found: info.offset(),
                    alignment,
                });
            }
            if extent(&info).is_none_or(|range| range.end > self.data.len()) {
                return Err(GgufError::TensorOutOfFile {
                    name: quote(info.name()),
                    offset: entry.offset_field(&info),
                    data_offset: info.offset(),
                    n_bytes: info.n_bytes(),
                    available: self.data.len() as u64,
                });
            }
        }
        Ok(())
    }

    fn check_overlaps(&self) -> Result<(), GgufError> {
        let infos = self.entries.iter().map(|&entry| self.info(entry));
        let mut by_offset: Vec<(u64, u32)> = infos.map(|i| i.offset()).zip(0..).collect();
        by_offset.sort_unstable();
        for pair in by_offset.windows(2) {
            let [first, second] = [pair[0].1, pair[1].1].map(|i| self.entries[i as usize]);
            let first_info = self.info(first);
            let end = first_info.offset() + first_info.n_bytes();
            if end > pair[1].0 {
                return Err(GgufError::OverlappingTensors {
                    first: quote(first.name),
                    second: quote(second.name),
                    offset: second.offset_field(&self.info(second)),
                    overlap: end - pair[1].0,
                });
            }
        }
        Ok(())
    }

    fn sorted_by_name(&self) -> Result<Vec<u32>, GgufError> {
        let entry = |i: u32| self.entries[i as usize];
        let mut by_name: Vec<u32> = (0..).take(self.entries.len()).collect();
        by_name.sort_unstable_by(|&a, &b| entry(a).name.cmp(entry(b).name).then(a.cmp(&b)));
        for pair in by_name.windows(2) {
            let (first, second) = (entry(pair[0]), entry(pair[1]));
            if first.name == second.name {
                return Err(GgufError::DuplicateTensor {
                    name: quote(first.name),
                    first: first.at as u64,
                    offset: second.at as u64,
                });
            }
        }
        Ok(by_name)
    }
}

/// What follows the header, from the next multiple of the alignment on.
fn data_section<'a>(file: &'a [u8], header_end: Cursor<'_>, alignment: u64) -> &'a [u8] {
    let start = header_end.offset().checked_next_multiple_of(alignment);
    let start = start.and_then(|start| usize::try_from(start).ok());
    start
        .and_then(|start| file.get(start..))
        .unwrap_or_default()
}

/// The bytes of a tensor within the data section; `None` if their end wraps.
fn extent(info: &TensorInfo<'_>) -> Option<std::ops::Range<usize>> {
    let end = info.offset().checked_add(info.n_bytes())?;
    Some(usize::try_from(info.offset()).ok()?..usize::try_from(end).ok()?)
}
