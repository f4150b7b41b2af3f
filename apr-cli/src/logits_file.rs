//! Rows of logits in a safetensors file, written and read one row at a time.
//!
//! The safetensors library wants all of a tensor in memory; logits of a long text may be
//! larger than that. The format is simple: eight bytes with the length of a JSON header, the
//! header, the data. The library reads what is written here, which a test holds.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use model_tools::NewFile;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Headers longer than this are not ours.
const MAX_HEADER: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    logits: Entry,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: [usize; 2],
    data_offsets: [u64; 2],
}

impl Entry {
    fn new(n_rows: usize, n_vocab: usize) -> Self {
        let n_bytes = n_rows as u64 * n_vocab as u64 * 4;
        Self {
            dtype: "F32".to_owned(),
            shape: [n_rows, n_vocab],
            data_offsets: [0, n_bytes],
        }
    }
}

/// Writes rows to a [`NewFile`].
#[derive(Debug)]
pub(crate) struct LogitsWriter {
    target: PathBuf,
    file: NewFile,
}

impl LogitsWriter {
    /// Begins a file of `n_rows` rows.
    pub(crate) fn create(target: &Path, n_rows: usize, n_vocab: usize) -> Result<Self, Error> {
        let mut writer = Self {
            target: target.to_owned(),
            file: NewFile::create(target)?,
        };
        let header = serde_json::to_vec(&Header {
            logits: Entry::new(n_rows, n_vocab),
        });
        let mut header = header.map_err(|error| writer.failed(error.into()))?;
        // The data begins at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        writer.write(&(header.len() as u64).to_le_bytes())?;
        writer.write(&header)?;
        Ok(writer)
    }

    /// Writes the next row.
    pub(crate) fn row(&mut self, logits: &[f32]) -> Result<(), Error> {
        logits
            .iter()
            .try_for_each(|logit| self.write(&logit.to_le_bytes()))
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        Ok(self.file.finish()?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::io(&self.target, "written", source)
    }
}

/// Reads what [`LogitsWriter`] has written.
#[derive(Debug)]
pub(crate) struct LogitsReader {
    path: PathBuf,
    file: BufReader<File>,
    shape: [usize; 2],
    bytes: Vec<u8>,
    row: Vec<f32>,
}

impl LogitsReader {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::io(path, "opened", error))?;
        let about = file
            .metadata()
            .map_err(|error| Error::io(path, "opened", error))?;
        let mut file = BufReader::new(file);
        let mut len = [0; 8];
        let read = file.read_exact(&mut len);
        read.map_err(|error| read_error(path, error))?;
        let len = u64::from_le_bytes(len);
        let mut header = Vec::new();
        if len > MAX_HEADER.min(about.len()) {
            return Err(malformed(path, "no safetensors file of logits"));
        }
        let read = file.by_ref().take(len).read_to_end(&mut header);
        read.map_err(|error| read_error(path, error))?;
        let Header { logits } = serde_json::from_slice(&header)
            .map_err(|error| malformed(path, &format!("no safetensors file of logits: {error}")))?;
        let [n_rows, n_vocab] = logits.shape;
        let n_data = about.len().saturating_sub(8 + len);
        let expected = (n_rows as u64)
            .checked_mul(n_vocab as u64)
            .and_then(|n| n.checked_mul(4));
        if logits.dtype != "F32" || expected != Some(n_data) || n_vocab == 0 {
            return Err(malformed(
                path,
                "expected one F32 tensor `logits` that fills the file",
            ));
        }
        let (bytes, row) = (vec![0; n_vocab * 4], vec![0.0; n_vocab]);
        Ok(Self {
            path: path.to_owned(),
            file,
            shape: logits.shape,
            bytes,
            row,
        })
    }

    /// Rows and logits of a row.
    pub(crate) const fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Reads the next row.
    pub(crate) fn row(&mut self) -> Result<&[f32], Error> {
        let read = self.file.read_exact(&mut self.bytes);
        read.map_err(|error| read_error(&self.path, error))?;
        for (logit, bytes) in self.row.iter_mut().zip(self.bytes.as_chunks::<4>().0) {
            *logit = f32::from_le_bytes(*bytes);
        }
        Ok(&self.row)
    }
}

fn malformed(path: &Path, message: &str) -> Error {
    Error::input(&path.display().to_string(), message)
}

fn read_error(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => malformed(path, "the file ends too soon"),
        _ => Error::io(path, "read", error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn the_library_and_the_reader_read_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut writer = LogitsWriter::create(&path, 2, 3).unwrap();
        writer.row(&[1.0, -2.0, 0.5]).unwrap();
        assert!(
            !path.exists(),
            "a file that is not complete must not be there"
        );
        writer.row(&[0.0, f32::MIN, 7.0]).unwrap();
        writer.finish().unwrap();

        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let logits = tensors.tensor("logits").unwrap();
        assert_eq!(logits.shape(), [2, 3]);
        assert_eq!(&logits.data()[4..8], (-2.0f32).to_le_bytes());

        let mut reader = LogitsReader::open(&path).unwrap();
        assert_eq!(reader.shape(), [2, 3]);
        assert_eq!(reader.row().unwrap(), [1.0, -2.0, 0.5]);
        assert_eq!(reader.row().unwrap(), [0.0, f32::MIN, 7.0]);
        assert!(reader.row().is_err());
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let long = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
        let header = br#"{"logits":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}"#;
        let short = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        for bytes in [&b"abc"[..], &long, &short] {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(
                LogitsReader::open(&path),
                Err(Error::Input { .. })
            ));
        }
    }
}
