//! What is not complete yet lies beside its target, under a name that nobody has.
//!
//! Whoever writes it holds a lock on it, which the system takes away when the process ends,
//! however it ends. So what lies there without a lock is left over from a process that was
//! killed, and whoever writes the same target next removes it. Where the system cannot lock,
//! it stays.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// What the names end with.
const END: &str = ".partial";

/// Creates a file of a name that nobody has, in the folder of `target`.
pub(crate) fn create_file(target: &Path) -> io::Result<(PathBuf, File)> {
    create(target, |partial| File::create_new(partial), lock)
}

/// Creates a folder of a name that nobody has, beside `target`; the file is what is locked, if
/// the system can open a folder.
pub(crate) fn create_folder(target: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let make = |partial: &Path| {
        fs::create_dir(partial)?;
        Ok(File::open(partial).ok())
    };
    create(target, make, |folder| folder.iter().for_each(lock))
}

fn create<T>(
    target: &Path,
    make: impl Fn(&Path) -> io::Result<T>,
    lock: impl Fn(&T),
) -> io::Result<(PathBuf, T)> {
    remove_abandoned(target);
    for attempt in 0..u32::MAX {
        let partial = name(target, attempt);
        match make(&partial) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(made) => {
                lock(&made);
                // Another process may have taken it for left over before it was locked.
                if partial.exists() {
                    return Ok((partial, made));
                }
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn lock(file: &File) {
    // Without a lock others cannot get one either, and leave the file alone.
    let _ = file.lock();
}

/// Returns a name beside `target`.
fn name(target: &Path, attempt: u32) -> PathBuf {
    let mut partial = target.as_os_str().to_owned();
    partial.push(format!(".{}-{attempt}{END}", std::process::id()));
    partial.into()
}

/// Returns whether a name is one that [`name`] gives, of whatever process.
fn is_name(name: &OsStr, target: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let rest = name.strip_prefix(target.as_encoded_bytes());
    let rest = rest.and_then(|rest| rest.strip_prefix(b"."));
    let rest = rest.and_then(|rest| rest.strip_suffix(END.as_bytes()));
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    rest.is_some_and(|rest| {
        let mut parts = rest.splitn(2, |&byte| byte == b'-');
        parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number)
    })
}

/// Removes what killed processes have left of earlier tries. That it cannot be removed is no
/// reason not to go on.
fn remove_abandoned(target: &Path) {
    let Some(name) = target.file_name() else {
        return;
    };
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_name(&entry.file_name(), name)) {
        let path = entry.path();
        // A link is nothing that was made here.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let opened = if kind.is_file() {
            OpenOptions::new().write(true).open(&path)
        } else if kind.is_dir() {
            File::open(&path)
        } else {
            continue;
        };
        let Ok(file) = opened else {
            continue;
        };
        // Held until it is gone: whoever has just made it waits, and makes another one.
        if file.try_lock().is_ok() {
            let _ = match kind.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised() {
        let is = |text: &str| is_name(OsStr::new(text), OsStr::new("a.gguf"));
        assert!(is("a.gguf.12-0.partial"));
        let own = name(Path::new("/x/a.gguf"), 3);
        assert!(is_name(own.file_name().unwrap(), OsStr::new("a.gguf")));
        for other in [
            "a.gguf",
            "a.gguf.partial",
            "a.gguf.12.partial",
            "a.gguf.x-0.partial",
            "a.gguf.12-.partial",
            "a.gguf.12-0-1.partial",
            "b.gguf.12-0.partial",
            "a.gguf.12-0.partial.gguf",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn what_nobody_writes_any_more_is_removed_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for name in ["a", "a.1-0.partial", "a.1-x.partial", "b.1-0.partial"] {
            fs::write(path(name), "old").unwrap();
        }
        fs::create_dir(path("a.1-1.partial")).unwrap();
        fs::write(path("a.1-1.partial/weights"), "old").unwrap();
        let (being_written, _file) = create_file(&path("a")).unwrap();
        let (other, _folder) = create_folder(&path("a")).unwrap();
        let (third, _) = create_file(&path("a")).unwrap();
        let names = fs::read_dir(temp.path()).unwrap();
        let mut found: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
        found.sort();
        let mut expected = vec![path("a"), path("a.1-x.partial"), path("b.1-0.partial")];
        // Where folders cannot be opened, they stay.
        expected.extend((!cfg!(unix)).then(|| path("a.1-1.partial")));
        expected.extend([being_written, other, third]);
        expected.sort();
        assert_eq!(found, expected);
    }
}
