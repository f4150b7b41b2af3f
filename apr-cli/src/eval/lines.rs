//! The lines of a file that is read more than once.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Cursor, Seek},
    path::Path,
};

use crate::{
    error::Error,
    input::{read_file, read_line, read_text},
};

/// A file, or what came through a pipe and is in memory since it comes only once.
pub(super) struct Lines {
    name: String,
    stem: String,
    input: Box<dyn Rewind>,
}

/// A line that is not blank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: usize,
    pub(super) text: &'a str,
}

/// What can be read from its beginning again.
trait Rewind: BufRead + Seek {}

impl<T: BufRead + Seek> Rewind for T {}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io(path, "read", error);
        let input: Box<dyn Rewind> = if path == Path::new("-") {
            Box::new(Cursor::new(read_text(path)?))
        } else if fs::metadata(path).map_err(failed)?.is_file() {
            Box::new(BufReader::new(File::open(path).map_err(failed)?))
        } else {
            Box::new(Cursor::new(read_file(path)?))
        };
        let (name, stem) = match (path.to_str(), path.file_stem()) {
            (Some("-"), _) | (_, None) => ("stdin".to_owned(), "stdin".to_owned()),
            (_, Some(stem)) => (
                path.display().to_string(),
                stem.to_string_lossy().into_owned(),
            ),
        };
        Ok(Self { name, stem, input })
    }

    /// Returns the file's name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name without folder and extension.
    pub(super) fn stem(&self) -> &str {
        &self.stem
    }

    /// Shows `visit` all lines from the first one on, as long as it returns true.
    pub(super) fn visit(
        &mut self,
        mut visit: impl FnMut(Line<'_>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let rewound = self.input.rewind();
        rewound.map_err(|error| Error::io(Path::new(&self.name), "read", error))?;
        for number in 1.. {
            let place = format!("{}: line {number}", self.name);
            let Some(line) = read_line(&place, &mut self.input)? else {
                break;
            };
            // Some editors begin files with a mark of their encoding.
            let text = match number {
                1 => line.trim_start_matches('\u{feff}'),
                _ => &line,
            };
            if !text.trim().is_empty() && !visit(Line { number, text })? {
                break;
            }
        }
        Ok(())
    }
}
