//! The model that is always there.

use moe_model::ModelFile;

/// What stands for a path in messages.
pub(crate) const NAME: &str = "built-in model";

/// Gives bytes the alignment that kernels like best.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

/// `assets/README.md` says where it comes from.
static BARD: &Aligned<[u8]> = &Aligned(*include_bytes!("../assets/bard.gguf"));

/// Returns the built-in model.
pub(crate) fn file() -> ModelFile {
    ModelFile::from_static(NAME, &BARD.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_aligned_and_small() {
        assert_eq!(BARD.0.as_ptr().addr() % 64, 0);
        assert!(BARD.0.len() <= 12_000_000);
        assert!(file().gguf().is_ok());
    }
}
