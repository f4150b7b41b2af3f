//! The folder of a model's blocks: nobody else's to read, one engine's to write, and a tree
//! again when it is opened.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, Metadata, TryLockError},
    io,
    path::Path,
    time::UNIX_EPOCH,
};

use quant_kernels::{KV_BLOCK, KvShape};

use super::block_file;
use crate::prefix_cache::tree::{NodeId, Tree, hash};

/// Makes a folder that only its owner may look into, if it is not there; and makes one that is
/// there so.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// Locks a folder for as long as the file is open, or until the process ends in whatever way;
/// `None` if another engine has done so.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::create(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Puts the blocks of a folder into the tree, and removes what was never finished or is not
/// what its name says. Returns the bytes of all files.
pub(super) fn index(folder: &Path, shape: KvShape, tree: &mut Tree) -> io::Result<u64> {
    let mut by_beginning: HashMap<u128, Vec<(Vec<u32>, u64)>> = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("kv" | "part")) {
            // Not ours.
            continue;
        }
        // What is no file is not ours either, and opening a pipe could take for ever.
        if !path.symlink_metadata().is_ok_and(|it| it.is_file()) {
            continue;
        }
        let head = block_file::read_head(&path)
            .ok()
            .filter(|_| extension == Some("kv"));
        let is_whole = |tokens: &[u32], metadata: &Metadata| {
            metadata.len() == block_file::len(tokens.len(), shape)
        };
        match (head, entry.metadata()) {
            (Some((beginning, tokens)), Ok(metadata)) if is_whole(&tokens, &metadata) => {
                let blocks = by_beginning.entry(beginning).or_default();
                blocks.push((tokens, written(&metadata)));
            }
            _ => clear_away(&path),
        }
    }
    let mut n_bytes = 0;
    let mut open: Vec<(Option<NodeId>, u128)> = vec![(None, 0)];
    while let Some((parent, beginning)) = open.pop() {
        for (tokens, written) in by_beginning.remove(&beginning).unwrap_or_default() {
            n_bytes += block_file::len(tokens.len(), shape);
            let node = tree.insert_on_disk(parent, &tokens, written);
            if tokens.len() == KV_BLOCK {
                open.push((Some(node), tree.get(node).hash));
            }
        }
    }
    // What hangs on nothing was left behind by a block that is gone.
    for (beginning, orphans) in by_beginning {
        for (tokens, _) in orphans {
            clear_away(&folder.join(block_file::name(hash(beginning, &tokens))));
        }
    }
    Ok(n_bytes)
}

/// Returns when a file was written, in nanoseconds.
fn written(metadata: &Metadata) -> u64 {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default().as_nanos() as u64
}

/// Removes a file. What cannot be removed, a folder for example, is in nobody's way: it is not
/// in the tree.
fn clear_away(path: &Path) {
    let _ = fs::remove_file(path);
}
