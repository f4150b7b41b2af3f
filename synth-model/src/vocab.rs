//! The vocabulary of a model: made up, or copied from a file.
//!
//! A made-up one is a byte-level BPE vocabulary that can encode any text: the 256 bytes in
//! GPT-2's printable alphabet, merges of two and then three bytes with common letters first,
//! and Qwen's three control tokens at the end.

use gguf_format::{Gguf, GgufWriter};

use crate::SynthError;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// llama.cpp's number for ordinary tokens (`LLAMA_TOKEN_TYPE_NORMAL`).
const NORMAL: i32 = 1;
/// llama.cpp's number for tokens that only templates write (`LLAMA_TOKEN_TYPE_CONTROL`).
const CONTROL: i32 = 3;

const CONTROL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The conversation format that Qwen models are trained on, without tools.
const CHATML: &str = "{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}";

/// Bytes that merge first: common English letters, then all others by value.
const COMMON: &[u8; 27] = b" etaoinshrdlcumwfgypbvkjxqz";

/// Where the vocabulary comes from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Vocab<'a> {
    /// A made-up byte-level vocabulary of the model's size.
    ByteLevel,
    /// The `tokenizer.*` metadata of a GGUF file, given by its bytes and padded with unused
    /// control tokens to the model's size.
    FromGguf(&'a [u8]),
}

impl Vocab<'_> {
    /// Sets the `tokenizer.*` metadata.
    pub(crate) fn describe(
        &self,
        n_vocab: usize,
        writer: &mut GgufWriter,
    ) -> Result<(), SynthError> {
        match self {
            Self::ByteLevel => describe_byte_level(n_vocab, writer),
            Self::FromGguf(bytes) => copy(&Gguf::parse(bytes)?, n_vocab, writer),
        }
    }
}

fn describe_byte_level(n_vocab: usize, writer: &mut GgufWriter) -> Result<(), SynthError> {
    let n_fixed = 256 + CONTROL_TOKENS.len();
    let max = n_fixed + 256 * 256 * 257;
    if !(n_fixed..=max).contains(&n_vocab) {
        return Err(SynthError::VocabSize {
            found: n_vocab,
            expected: format!("{n_fixed} to {max} for a byte-level vocabulary"),
        });
    }
    let mut tokens = byte_alphabet();
    tokens.sort_unstable();
    let merges: Vec<[String; 2]> = merges().take(n_vocab - n_fixed).collect();
    tokens.extend(merges.iter().map(|pair| pair.concat()));
    let first_control = tokens.len() as u32;
    tokens.extend(CONTROL_TOKENS.map(str::to_owned));
    let mut types = vec![NORMAL; n_vocab];
    types[first_control as usize..].fill(CONTROL);

    writer.set("tokenizer.ggml.model", "gpt2")?;
    writer.set("tokenizer.ggml.pre", "qwen2")?;
    writer.set(TOKENS, tokens)?;
    writer.set(TOKEN_TYPE, types)?;
    let merges: Vec<String> = merges.iter().map(|pair| pair.join(" ")).collect();
    writer.set("tokenizer.ggml.merges", merges)?;
    writer.set("tokenizer.ggml.eos_token_id", first_control + 2)?;
    writer.set("tokenizer.ggml.padding_token_id", first_control)?;
    writer.set("tokenizer.ggml.bos_token_id", first_control)?;
    writer.set("tokenizer.ggml.add_bos_token", false)?;
    writer.set(CHAT_TEMPLATE, CHATML)?;
    Ok(())
}

/// The 256 bytes, by value, each as the printable character that GPT-2 writes for it:
/// printable ones stay, the others follow from U+0100 on.
fn byte_alphabet() -> Vec<String> {
    let mut next = 0x100;
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    (0..256)
        .map(|byte| {
            let code = if printable(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code)
                .map(String::from)
                .expect("code points up to U+0143 exist")
        })
        .collect()
}

/// All merges of two bytes, those of common bytes first, then merges of these pairs with a
/// third byte. No two give the same token.
fn merges() -> impl Iterator<Item = [String; 2]> {
    let by_value = byte_alphabet();
    let rare = (0..=255).filter(|byte| !COMMON.contains(byte));
    let symbols: Vec<String> = COMMON
        .iter()
        .copied()
        .chain(rare)
        .map(|byte| by_value[usize::from(byte)].clone())
        .collect();
    // Square by growing square: (n, 0), (0, n), (n, 1), (1, n), …, (n, n).
    let pairs = (0..256).flat_map(|n| {
        let sides = (0..n).flat_map(move |i| [(n, i), (i, n)]);
        sides.chain([(n, n)])
    });
    let pairs: Vec<[String; 2]> = pairs
        .map(|(left, right)| [symbols[left].clone(), symbols[right].clone()])
        .collect();
    let triples = pairs.clone().into_iter().flat_map(move |pair| {
        let pair = pair.concat();
        symbols
            .clone()
            .into_iter()
            .map(move |symbol| [pair.clone(), symbol])
    });
    pairs.into_iter().chain(triples)
}

/// Copies the vocabulary of a file and pads it.
fn copy(gguf: &Gguf<'_>, n_vocab: usize, writer: &mut GgufWriter) -> Result<(), SynthError> {
    let metadata = gguf.metadata();
    let mut tokens: Vec<String> = metadata
        .require::<Vec<&str>>(TOKENS)?
        .into_iter()
        .map(str::to_owned)
        .collect();
    let n_tokens = tokens.len();
    if n_tokens > n_vocab {
        return Err(SynthError::VocabSize {
            found: n_tokens,
            expected: format!("at most the {n_vocab} of the geometry"),
        });
    }
    let types = metadata.optional::<Vec<i32>>(TOKEN_TYPE)?;
    let mut types = types.unwrap_or_else(|| vec![NORMAL; n_tokens]);
    if types.len() != n_tokens {
        return Err(SynthError::VocabLists {
            key: TOKEN_TYPE,
            expected: n_tokens,
            found: types.len(),
        });
    }
    tokens.extend((n_tokens..n_vocab).map(|id| format!("[PAD{id}]")));
    types.resize(n_vocab, CONTROL);

    for (key, value) in metadata
        .iter()
        .filter(|(key, _)| key.starts_with("tokenizer."))
    {
        writer.set_value(key, &value)?;
    }
    writer.set(TOKENS, tokens)?;
    writer.set(TOKEN_TYPE, types)?;
    if !metadata.contains(CHAT_TEMPLATE) {
        writer.set(CHAT_TEMPLATE, CHATML)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn byte_level(n_vocab: usize) -> Result<Vec<u8>, SynthError> {
        let mut writer = GgufWriter::new();
        Vocab::ByteLevel.describe(n_vocab, &mut writer)?;
        Ok(writer.to_bytes(&[])?)
    }

    #[test]
    fn tokens_are_as_many_as_asked_for_and_unique() {
        for n_vocab in [259, 260, 512, 151_936] {
            let file = byte_level(n_vocab).unwrap();
            let gguf = Gguf::parse(&file).unwrap();
            let tokens: Vec<&str> = gguf.metadata().require(TOKENS).unwrap();
            assert_eq!(tokens.len(), n_vocab);
            assert_eq!(tokens[0], "!");
            assert_eq!(tokens[n_vocab - 1], "<|im_end|>");
            assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), n_vocab);
        }
        assert!(matches!(
            byte_level(258),
            Err(SynthError::VocabSize { found: 258, .. })
        ));
    }

    #[test]
    fn merges_join_tokens_that_came_before() {
        let file = byte_level(70_000).unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        let tokens: Vec<&str> = gguf.metadata().require(TOKENS).unwrap();
        let merges: Vec<&str> = gguf.metadata().require("tokenizer.ggml.merges").unwrap();
        assert_eq!(merges[..3], ["Ġ Ġ", "e Ġ", "Ġ e"]);
        let mut known: HashSet<&str> = tokens[..256].iter().copied().collect();
        for (merge, token) in merges.iter().zip(&tokens[256..]) {
            let (left, right) = merge.split_once(' ').unwrap();
            assert!(known.contains(left) && known.contains(right), "{merge}");
            assert_eq!([left, right].concat(), *token);
            known.insert(token);
        }
    }

    #[test]
    fn a_copied_vocabulary_is_padded_with_control_tokens() {
        let source = byte_level(300).unwrap();
        let mut writer = GgufWriter::new();
        Vocab::FromGguf(&source).describe(302, &mut writer).unwrap();
        let file = writer.to_bytes(&[]).unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        let tokens: Vec<&str> = gguf.metadata().require(TOKENS).unwrap();
        let types: Vec<i32> = gguf.metadata().require(TOKEN_TYPE).unwrap();
        assert_eq!(tokens[299..], ["<|im_end|>", "[PAD300]", "[PAD301]"]);
        assert_eq!(
            types[296..],
            [NORMAL, CONTROL, CONTROL, CONTROL, CONTROL, CONTROL]
        );
        assert_eq!(
            gguf.metadata()
                .require::<&str>("tokenizer.ggml.pre")
                .unwrap(),
            "qwen2"
        );
    }

    #[test]
    fn a_copied_vocabulary_must_fit() {
        let source = byte_level(300).unwrap();
        let error = Vocab::FromGguf(&source).describe(299, &mut GgufWriter::new());
        assert!(matches!(
            error,
            Err(SynthError::VocabSize { found: 300, .. })
        ));

        let mut writer = GgufWriter::new();
        writer
            .set(TOKENS, ["a", "b"])
            .unwrap()
            .set(TOKEN_TYPE, [1_i32])
            .unwrap();
        let source = writer.to_bytes(&[]).unwrap();
        let error = Vocab::FromGguf(&source).describe(300, &mut GgufWriter::new());
        assert!(matches!(
            error,
            Err(SynthError::VocabLists {
                expected: 2,
                found: 1,
                ..
            })
        ));
    }
}
