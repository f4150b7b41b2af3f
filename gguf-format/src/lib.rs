//! gguf-format
