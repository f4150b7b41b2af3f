//! A file that is there whole or not at all.
//!
//! Everything is written beside the target under a name that nobody has, and put in its place
//! when it is complete. Until then the target is what it was: a full disk, an error or the end
//! of the process changes nothing of it. What a killed process leaves, the next one removes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{ToolError, partial};

/// A file on its way. Dropped before [`NewFile::finish`], it leaves nothing behind.
///
/// An existing file is replaced, and who may read it stays as it was. A link stays, and what it
/// points to is replaced or, if it is not there yet, made. What is no regular file, such as a
/// pipe or a device, is written directly and stays what it is.
#[derive(Debug)]
pub struct NewFile {
    target: PathBuf,
    /// Where the bytes go until the file is complete.
    partial: Option<PathBuf>,
    file: BufWriter<File>,
}

impl NewFile {
    /// Begins a file that is to lie at `target`.
    ///
    /// # Errors
    /// [`ToolError::Io`] if it cannot be written there: the folder is missing or closed, or an
    /// existing file is read-only.
    pub fn create(target: &Path) -> Result<Self, ToolError> {
        let failed = |source| io_error(target, "written", source);
        let (target, partial, file) = match fs::metadata(target) {
            Ok(about) if about.is_file() => {
                if about.permissions().readonly() {
                    return Err(failed(io::ErrorKind::PermissionDenied.into()));
                }
                let target = fs::canonicalize(target).map_err(failed)?;
                let (partial, file) = partial::create_file(&target).map_err(failed)?;
                // Where permissions cannot be set, the file has those of a new one.
                let _ = file.set_permissions(about.permissions());
                (target, Some(partial), file)
            }
            Ok(_) => {
                let file = OpenOptions::new().write(true).open(target);
                (target.to_owned(), None, file.map_err(failed)?)
            }
            Err(_) => {
                let target = link_target(target).map_err(failed)?;
                let (partial, file) = partial::create_file(&target).map_err(failed)?;
                (target, Some(partial), file)
            }
        };
        Ok(Self {
            target,
            partial,
            file: BufWriter::new(file),
        })
    }

    /// Waits until the bytes are on the disk, and puts the file in its place.
    ///
    /// # Errors
    /// [`ToolError::Io`]; the target is then what it was.
    pub fn finish(mut self) -> Result<(), ToolError> {
        let failed = |source| io_error(&self.target, "written", source);
        self.file.flush().map_err(failed)?;
        let Some(partial) = &self.partial else {
            return Ok(());
        };
        self.file.get_ref().sync_all().map_err(failed)?;
        fs::rename(partial, &self.target)
            .map_err(|source| io_error(&self.target, "put in its place", source))?;
        self.partial = None;
        sync_folder(&self.target);
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing is left of what failed; that this fails too cannot be helped.
            let _ = fs::remove_file(partial);
        }
    }
}

/// Follows links to what they point to, which need not be there.
pub(crate) fn link_target(path: &Path) -> io::Result<PathBuf> {
    /// Links after which Linux gives up too.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match fs::read_link(&path) {
            // A relative one counts from the link's own folder.
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

/// Lets the new name outlast a power failure, where the system has a way to. The file is in
/// its place already, so where it has none nothing is lost.
pub(crate) fn sync_folder(target: &Path) {
    let folder = match target.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return,
    };
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

pub(crate) fn io_error(path: &Path, action: &'static str, source: io::Error) -> ToolError {
    ToolError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "old").unwrap();
        let mut file = NewFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let mut file = NewFile::create(&target).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn two_that_write_the_same_file_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let [mut one, mut other] = [(); 2].map(|()| NewFile::create(&target).unwrap());
        one.write_all(b"one").unwrap();
        other.write_all(b"other").unwrap();
        other.finish().unwrap();
        one.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_stays_secret() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        NewFile::create(&target).unwrap().finish().unwrap();
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_leads_to_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let [target, link] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut file = NewFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_a_link_points_to_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let [link, other, circle] = ["a", "b", "c"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink("b", &link).unwrap();
        std::os::unix::fs::symlink("there/d", &other).unwrap();
        std::os::unix::fs::symlink("c", &circle).unwrap();
        let error = NewFile::create(&link).unwrap_err();
        assert!(matches!(error, ToolError::Io { .. }), "{error}");
        assert!(NewFile::create(&circle).is_err());
        fs::create_dir(folder.path().join("there")).unwrap();
        let mut file = NewFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(folder.path().join("there/d")).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a", "b", "c", "there"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_device_stays_a_device() {
        // The null device by another name: a mistake here must not harm the real one.
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        let mut file = NewFile::create(&device).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert!(!fs::metadata(&device).unwrap().is_file());
        assert_eq!(names(folder.path()), ["device"]);
    }

    #[test]
    fn a_read_only_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "precious").unwrap();
        let mut permissions = fs::metadata(&target).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&target, permissions).unwrap();
        assert!(NewFile::create(&target).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = NewFile::create(Path::new("/no/such/folder/a")).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/a"), "{error}");
    }
}
