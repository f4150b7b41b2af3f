//! What metadata keys and tensors are called in a GGUF file.
//!
//! The names follow llama.cpp's `gguf-py/gguf/constants.py`.

/// The architecture that is implemented.
pub(crate) const ARCHITECTURE: &str = "qwen3moe";

/// Architectures that are implemented.
pub const SUPPORTED_ARCHITECTURES: [&str; 1] = [ARCHITECTURE];

/// The token embedding `[V, E]`.
pub(crate) const TOKEN_EMBD: &str = "token_embd.weight";
/// The norm before the head `[E]`.
pub(crate) const OUTPUT_NORM: &str = "output_norm.weight";
/// The head `[V, E]`; absent where the embedding serves as head.
pub(crate) const OUTPUT: &str = "output.weight";

/// Returns the metadata key of the architecture, as in `qwen3moe.block_count`.
pub(crate) fn key(name: &str) -> String {
    format!("{ARCHITECTURE}.{name}")
}

/// Returns the tensor of a layer, as in `blk.3.attn_q.weight`.
pub(crate) fn layer_tensor(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}.weight")
}
