//! What tells a model's answers from another's.
//!
//! The fingerprint is a hash of the beginning of each file, where metadata, vocabulary and the
//! list of tensors stand, and of places all over the rest; weights that differ at all differ
//! in most places. Reading all of a large file would take as long as loading it. Of a
//! checkpoint, what lies beside the weights counts in the same way: the tokenizer, the template
//! and the configuration. The version of the kernels follows, since another order of rounding
//! would be another answer.

use moe_model::ModelFile;

/// Bytes at the beginning of a file that all count.
const HEAD: usize = 16 << 20;
/// Places behind it, and bytes of each.
const N_PLACES: usize = 4096;
const PLACE: usize = 256;

/// Raised when the order of rounding changes, and answers with it.
const KERNELS: u32 = 1;

/// Returns the fingerprint of a model.
pub(super) fn of(file: &ModelFile) -> String {
    let mut hash = Fnv::new();
    for bytes in file.bytes().chain(file.documents()) {
        hash.number(bytes.len() as u64);
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD));
        hash.bytes(head);
        let n_places = N_PLACES.min(rest.len().div_ceil(PLACE));
        for idx in 0..n_places {
            let first = rest.len() / n_places * idx;
            let end = (first + PLACE).min(rest.len());
            hash.bytes(&rest[first..end]);
        }
    }
    format!("fp_{:016x}_k{KERNELS}", hash.0)
}

/// FNV-1a over words of eight bytes, then over what is left.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const fn number(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0100_0000_01b3);
        // Multiplication moves nothing down, so high bits would not spread.
        self.0 ^= self.0 >> 32;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words
            .iter()
            .for_each(|&word| self.number(u64::from_le_bytes(word)));
        rest.iter().for_each(|&byte| self.number(u64::from(byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bytes(bytes: Vec<u8>) -> String {
        of(&ModelFile::from_bytes("x", bytes))
    }

    #[test]
    fn any_byte_of_a_small_file_counts() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1001).collect();
        let whole = of_bytes(bytes.clone());
        for idx in [0, 7, 8, 500, 1000] {
            let mut other = bytes.clone();
            other[idx] ^= 0x80;
            assert_ne!(of_bytes(other), whole, "{idx}");
        }
        assert_ne!(of_bytes(bytes[..1000].to_vec()), whole);
    }

    #[test]
    fn every_document_of_a_checkpoint_counts() {
        let folder = tempfile::tempdir().unwrap();
        let documents = ["config.json", "tokenizer.json", "chat_template.jinja"];
        let of_folder = || of(&ModelFile::open(folder.path()).unwrap());
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        documents.iter().for_each(|name| write(name, "{}"));
        let whole = of_folder();
        assert_eq!(of_folder(), whole);
        for name in documents {
            write(name, "{ }");
            assert_ne!(of_folder(), whole, "{name}");
            write(name, "{}");
        }
        assert_eq!(of_folder(), whole);
    }

    #[test]
    fn weights_far_behind_the_head_count() {
        let bytes = vec![1; HEAD + (1 << 20)];
        let mut other = bytes.clone();
        other[HEAD..].fill(2);
        assert_ne!(of_bytes(bytes), of_bytes(other));
    }
}
