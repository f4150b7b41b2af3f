//! One hash of a whole model, to tell its answers from those of any other.

use std::num::NonZeroUsize;

use moe_model::ModelFile;
use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{ToolError, threads::threads};

/// Bytes that are hashed in one go.
const PIECE: usize = 16 << 20;

/// Returns the XXH3 hash of all bytes of all files, the documents of a checkpoint included,
/// and of where each file ends. It is the same for any number of threads.
///
/// # Errors
/// The threads could not be started.
pub fn fingerprint(file: &ModelFile, n_threads: NonZeroUsize) -> Result<u128, ToolError> {
    let threads = threads(n_threads)?;
    let mut whole = Xxh3::new();
    for bytes in file.all_bytes() {
        let pieces = bytes.par_chunks(PIECE).map(xxh3_128);
        let pieces: Vec<u128> = threads.install(|| pieces.collect());
        whole.update(&(bytes.len() as u64).to_le_bytes());
        for piece in pieces {
            whole.update(&piece.to_le_bytes());
        }
    }
    Ok(whole.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bytes(bytes: Vec<u8>, n_threads: usize) -> u128 {
        let n_threads = NonZeroUsize::new(n_threads).unwrap();
        fingerprint(&ModelFile::from_bytes("x", bytes), n_threads).unwrap()
    }

    #[test]
    fn any_byte_counts_and_no_thread() {
        let bytes: Vec<u8> = (0..=255).cycle().take(PIECE + 1001).collect();
        let whole = of_bytes(bytes.clone(), 1);
        assert_eq!(of_bytes(bytes.clone(), 3), whole);
        for idx in [0, PIECE - 1, PIECE, PIECE + 1000] {
            let mut other = bytes.clone();
            other[idx] ^= 0x80;
            assert_ne!(of_bytes(other, 1), whole, "{idx}");
        }
        assert_ne!(of_bytes(bytes[..PIECE + 1000].to_vec(), 1), whole);
    }

    #[test]
    fn every_document_of_a_checkpoint_counts() {
        let folder = tempfile::tempdir().unwrap();
        let of_folder = || {
            let file = ModelFile::open(folder.path()).unwrap();
            fingerprint(&file, NonZeroUsize::MIN).unwrap()
        };
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let documents = ["config.json", "tokenizer.json", "chat_template.jinja"];
        documents.iter().for_each(|name| write(name, "{}"));
        let whole = of_folder();
        for name in documents {
            write(name, "{ }");
            assert_ne!(of_folder(), whole, "{name}");
            write(name, "{}");
        }
        assert_eq!(of_folder(), whole);
    }
}
