//! Writes a tokenizer as the metadata of a GGUF file: the way back from `gguf.rs`, with the keys
//! and types that llama.cpp's conversion writes for Qwen.

use gguf_format::{GgufError, GgufWriter};

use crate::{
    Tokenizer,
    gguf::{CHAT_TEMPLATE_KEY, MODEL, MODEL_KEY, PRE, PRE_KEY, number},
};

/// The names of all chat templates but the default one.
const TEMPLATE_NAMES_KEY: &str = "tokenizer.chat_templates";

impl Tokenizer {
    /// Sets the keys `tokenizer.*` of a GGUF file that [`Tokenizer::from_gguf`] reads.
    ///
    /// # Errors
    /// The name of a chat template makes a key that cannot be written.
    pub fn write_gguf(&self, writer: &mut GgufWriter) -> Result<(), GgufError> {
        let vocabulary = self.vocabulary();
        let texts: Vec<&str> = vocabulary.iter().map(|(_, text, _)| text).collect();
        let kinds: Vec<i32> = vocabulary.iter().map(|(.., kind)| number(kind)).collect();
        writer.set(MODEL_KEY, MODEL)?;
        writer.set(PRE_KEY, PRE)?;
        writer.set("tokenizer.ggml.tokens", texts)?;
        writer.set("tokenizer.ggml.token_type", kinds)?;
        let merges = self.merges().into_iter();
        let lines: Vec<String> = merges
            .map(|(left, right)| format!("{left} {right}"))
            .collect();
        writer.set("tokenizer.ggml.merges", lines)?;
        let roles = [
            ("tokenizer.ggml.eos_token_id", self.eos()),
            ("tokenizer.ggml.padding_token_id", self.padding()),
            ("tokenizer.ggml.bos_token_id", self.bos()),
        ];
        for (key, id) in roles {
            if let Some(id) = id {
                writer.set(key, id)?;
            }
        }
        writer.set("tokenizer.ggml.add_bos_token", self.adds_bos())?;
        for (name, template) in self.chat_templates() {
            let key = match name {
                "" => CHAT_TEMPLATE_KEY.to_owned(),
                name => format!("{CHAT_TEMPLATE_KEY}.{name}"),
            };
            writer.set(&key, template)?;
        }
        let names = self.chat_templates().map(|(name, _)| name);
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        if !names.is_empty() {
            writer.set(TEMPLATE_NAMES_KEY, names)?;
        }
        Ok(())
    }
}
