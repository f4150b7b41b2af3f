//! A folder that is there whole or not at all.
//!
//! Its files are written into a folder beside the target that nobody knows, and that one takes
//! the target's name when all of them are on the disk. A folder with files in it is never
//! replaced: of two folders the system cannot make one in a single step.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{
    ToolError,
    new_file::{io_error, link_target, sync_folder},
    partial,
};

/// A folder on its way. Dropped before [`NewFolder::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFolder {
    target: PathBuf,
    /// Where the files go until the folder is complete.
    partial: Option<PathBuf>,
    /// Says that somebody writes it.
    _lock: Option<File>,
}

impl NewFolder {
    /// Begins a folder that is to lie at `target`, where nothing or an empty folder is now. A
    /// link stays, and what it points to is made.
    ///
    /// # Errors
    /// [`ToolError::NotEmpty`] if there is a folder with something in it, [`ToolError::Io`] if it
    /// cannot be made there.
    pub fn create(target: &Path) -> Result<Self, ToolError> {
        let failed = |source| io_error(target, "made", source);
        let target = link_target(target).map_err(failed)?;
        match fs::read_dir(&target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(ToolError::NotEmpty { path: target });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // `a/b/` and `a/b/.` would name a place within the folder that is not there yet.
        let target: PathBuf = target.components().collect();
        let (partial, lock) = partial::create_folder(&target).map_err(failed)?;
        Ok(Self {
            target,
            partial: Some(partial),
            _lock: lock,
        })
    }

    /// Writes a file of the folder by what `write` does, and waits until it is on the disk.
    ///
    /// # Errors
    /// [`ToolError::Io`], and what `write` returns.
    pub(crate) fn file(
        &self,
        name: &str,
        write: impl FnOnce(&mut FolderFile) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        let Some(partial) = &self.partial else {
            return Ok(());
        };
        let path = self.target.join(name);
        let file = File::create_new(partial.join(name));
        let mut file = FolderFile {
            file: BufWriter::new(file.map_err(|source| io_error(&path, "written", source))?),
            path,
        };
        write(&mut file)?;
        file.finish()
    }

    /// Puts the folder in its place.
    ///
    /// # Errors
    /// [`ToolError::Io`]; nothing is left then.
    pub fn finish(mut self) -> Result<(), ToolError> {
        if let Some(partial) = &self.partial {
            let folder = File::open(partial).and_then(|folder| folder.sync_all());
            // Not every system can; the files are on the disk already.
            drop(folder);
            fs::rename(partial, &self.target)
                .map_err(|source| io_error(&self.target, "put in its place", source))?;
            self.partial = None;
            sync_folder(&self.target);
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing is left of what failed; that this fails too cannot be helped.
            let _ = fs::remove_dir_all(partial);
        }
    }
}

/// A file of a folder on its way.
pub(crate) struct FolderFile {
    /// Where it will lie.
    path: PathBuf,
    file: BufWriter<File>,
}

impl FolderFile {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        let written = self.file.write_all(bytes);
        written.map_err(|source| io_error(&self.path, "written", source))
    }

    fn finish(mut self) -> Result<(), ToolError> {
        let synced = self.file.flush();
        let synced = synced.and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|source| io_error(&self.path, "written", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_with_all_its_files() {
        let temp = tempfile::tempdir().unwrap();
        for target in [temp.path().join("new"), temp.path().join("empty")] {
            if target.ends_with("empty") {
                fs::create_dir(&target).unwrap();
            }
            let folder = NewFolder::create(&target).unwrap();
            folder.file("a", |file| file.write(b"one")).unwrap();
            assert!(!target.join("a").exists());
            folder.finish().unwrap();
            assert_eq!(fs::read(target.join("a")).unwrap(), b"one");
        }
        assert_eq!(names(temp.path()), ["empty", "new"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let folder = NewFolder::create(&temp.path().join("new/")).unwrap();
        folder.file("a", |file| file.write(b"one")).unwrap();
        assert_eq!(names(temp.path()).len(), 1);
        let failed = folder.file("b", |_| Err(ToolError::Interrupted));
        assert!(matches!(failed, Err(ToolError::Interrupted)));
        drop(folder);
        assert_eq!(names(temp.path()), [""; 0]);
    }

    #[test]
    fn a_folder_with_files_in_it_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("precious"), "old").unwrap();
        let error = NewFolder::create(temp.path()).unwrap_err();
        assert!(matches!(error, ToolError::NotEmpty { .. }), "{error}");
        let error = NewFolder::create(&temp.path().join("precious")).unwrap_err();
        assert!(matches!(error, ToolError::Io { .. }), "{error}");
        assert_eq!(names(temp.path()), ["precious"]);
    }
}
