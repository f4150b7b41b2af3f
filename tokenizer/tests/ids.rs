//! Ids equal those of the Hugging Face library and of llama.cpp, from either kind of file.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(clippy::print_stdout, reason = "a skipped check says so")]

use std::path::PathBuf;

use gguf_format::Gguf;
use serde::Deserialize;
use tokenizer::{SpecialTokens, Tokenizer};

const BARD: &[u8] = include_bytes!("data/bard__tokenizer.json");
const BARD_IDS: &str = include_str!("data/bard__ids.json");

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
}

/// A file of the reference collection beside the repository, or a line that says it is absent.
fn reference(path: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(path);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: {} is absent", path.display());
    }
    bytes
}

fn from_gguf(file: &[u8]) -> Tokenizer {
    Tokenizer::from_gguf(Gguf::parse(file).unwrap().metadata()).unwrap()
}

fn assert_goldens(tokenizer: &Tokenizer, goldens: &str) {
    let goldens: Vec<Golden> = serde_json::from_str(goldens).unwrap();
    assert!(goldens.len() > 100);
    for Golden { text, ids } in goldens {
        assert_eq!(
            tokenizer.encode(&text, SpecialTokens::Recognise),
            ids,
            "{text:?}"
        );
    }
}

#[test]
fn the_small_vocabulary_gives_the_ids_of_hugging_face() {
    assert_goldens(&Tokenizer::from_json(BARD).unwrap(), BARD_IDS);
}

#[test]
fn the_qwen_vocabulary_gives_the_ids_of_hugging_face() {
    let (Some(file), Some(goldens)) = (
        reference("reference/tokenizer/ggml-vocab-qwen2.gguf"),
        reference("reference/tokenizer/goldens.json"),
    ) else {
        return;
    };
    assert_goldens(&from_gguf(&file), std::str::from_utf8(&goldens).unwrap());
}

#[test]
fn the_qwen_vocabulary_gives_the_ids_of_llama_cpp() {
    let (Some(file), Some(texts), Some(ids)) = (
        reference("reference/tokenizer/ggml-vocab-qwen2.gguf"),
        reference("reference/tokenizer/ggml-vocab-qwen2.gguf.inp"),
        reference("reference/tokenizer/ggml-vocab-qwen2.gguf.out"),
    ) else {
        return;
    };
    let tokenizer = from_gguf(&file);
    let texts = String::from_utf8(texts).unwrap();
    let ids = String::from_utf8(ids).unwrap();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let lines: Vec<&str> = ids.lines().collect();
    assert_eq!(
        (texts.len(), lines.len()),
        (47, 46),
        "after the last text comes a separator"
    );
    for (text, line) in texts.iter().zip(&lines) {
        let expected: Vec<u32> = line
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        assert_eq!(
            tokenizer.encode(text, SpecialTokens::AsText),
            expected,
            "{text:?}"
        );
    }
}

#[test]
fn both_kinds_of_file_give_the_same_tokenizer() {
    let Some(file) = reference("models/bard/bard-q8_0.gguf") else {
        return;
    };
    let (gguf, json) = (from_gguf(&file), Tokenizer::from_json(BARD).unwrap());
    assert_goldens(&gguf, BARD_IDS);
    assert_eq!(gguf.n_vocab(), json.n_vocab());
    for id in (0..).take(gguf.n_vocab()) {
        assert_eq!(gguf.token_text(id), json.token_text(id));
        assert_eq!(gguf.token_bytes(id), json.token_bytes(id));
        assert_eq!(gguf.is_control(id), json.is_control(id));
    }
    assert_eq!(gguf.end_of_generation(), json.end_of_generation());
    assert_eq!(gguf.eos(), gguf.id("<|im_end|>"));
    assert!(
        gguf.chat_template()
            .is_some_and(|source| source.contains("<|im_start|>"))
    );
}
