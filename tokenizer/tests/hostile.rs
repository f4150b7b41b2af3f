//! A damaged tokenizer is one clear error, whichever kind of file it comes in.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use gguf_format::{Encode, Gguf, GgufWriter};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizer::{Tokenizer, TokenizerError};

const BARD: &str = include_str!("data/bard__tokenizer.json");

/// The parts of a small tokenizer in GGUF: 256 bytes, `he`, a control and an added token.
#[derive(Clone)]
struct Parts {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

fn parts() -> Parts {
    let bard: Value = serde_json::from_str(BARD).unwrap();
    let vocab = bard["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<String> = vocab
        .keys()
        .filter(|text| text.chars().count() == 1)
        .cloned()
        .collect();
    assert_eq!(tokens.len(), 256);
    tokens.extend(["he", "<|im_end|>", "<think>"].map(String::from));
    let mut types = vec![1; 257];
    types.extend([3, 4]);
    Parts {
        tokens,
        types,
        merges: vec!["h e".to_owned()],
    }
}

fn metadata(parts: &Parts) -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "gpt2").unwrap();
    writer.set("tokenizer.ggml.pre", "qwen2").unwrap();
    writer.set("tokenizer.ggml.tokens", &parts.tokens).unwrap();
    writer
        .set("tokenizer.ggml.token_type", &parts.types)
        .unwrap();
    writer.set("tokenizer.ggml.merges", &parts.merges).unwrap();
    writer
}

fn open(writer: &GgufWriter) -> Result<Tokenizer, TokenizerError> {
    let file = writer.to_bytes(&[]).unwrap();
    Tokenizer::from_gguf(Gguf::parse(&file).unwrap().metadata())
}

/// The error after a change of the parts.
fn after(change: impl FnOnce(&mut Parts)) -> TokenizerError {
    let mut parts = parts();
    change(&mut parts);
    open(&metadata(&parts)).unwrap_err()
}

/// The message, and that of its cause, after setting a key to another value.
fn after_set<V: Encode>(key: &str, value: V) -> String {
    let mut writer = metadata(&parts());
    writer.remove(key);
    writer.set(key, value).unwrap();
    chain(&open(&writer).unwrap_err())
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause)));
    error.to_string() + &cause.unwrap_or_default()
}

#[test]
fn the_small_tokenizer_is_sound() {
    let mut writer = metadata(&parts());
    writer.set("tokenizer.ggml.eos_token_id", 257_u32).unwrap();
    writer.set("tokenizer.ggml.add_bos_token", true).unwrap();
    writer.set("tokenizer.chat_template", "default").unwrap();
    writer
        .set("tokenizer.chat_template.tool_use", "tools")
        .unwrap();
    let tokenizer = open(&writer).unwrap();
    assert_eq!(tokenizer.encode("hehe", Default::default()), [256, 256]);
    assert_eq!((tokenizer.eos(), tokenizer.bos()), (Some(257), None));
    assert_eq!(tokenizer.end_of_generation(), [257]);
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.chat_template(), Some("default"));
    assert_eq!(tokenizer.named_chat_template("tool_use"), Some("tools"));
    assert_eq!(tokenizer.named_chat_template("rag"), None);
}

#[test]
fn each_missing_key_is_named() {
    for key in ["model", "pre", "tokens", "token_type", "merges"] {
        let key = format!("tokenizer.ggml.{key}");
        let mut writer = metadata(&parts());
        writer.remove(&key);
        let error = chain(&open(&writer).unwrap_err());
        assert!(error.contains(&key), "{key}: {error}");
    }
}

#[test]
fn each_key_of_the_wrong_type_is_named() {
    for key in [
        "ggml.model",
        "ggml.pre",
        "ggml.tokens",
        "ggml.token_type",
        "ggml.merges",
        "ggml.eos_token_id",
        "ggml.bos_token_id",
        "ggml.eot_token_id",
        "ggml.padding_token_id",
        "ggml.add_bos_token",
        "chat_template",
        "chat_template.rag",
    ] {
        let key = format!("tokenizer.{key}");
        let error = after_set(&key, 0.5_f32);
        assert!(
            error.contains(&key) && error.contains("expected"),
            "{key}: {error}"
        );
    }
}

#[test]
fn other_tokenizers_are_refused_with_what_is_supported() {
    assert_eq!(
        after_set("tokenizer.ggml.model", "llama"),
        "tokenizer.ggml.model: expected `gpt2`, found `llama`"
    );
    assert_eq!(
        after_set("tokenizer.ggml.pre", "llama-bpe"),
        "tokenizer.ggml.pre: expected one of qwen2, found `llama-bpe`"
    );
}

#[test]
fn ids_out_of_range_are_refused() {
    let error = after_set("tokenizer.ggml.eos_token_id", 259_u32);
    assert_eq!(
        error,
        "`tokenizer.ggml.eos_token_id`: token 259 is out of range, the vocabulary has 259 tokens"
    );
    assert!(after_set("tokenizer.ggml.bos_token_id", -1_i32).contains("bos_token_id"));
}

#[test]
fn unsound_vocabularies_are_refused() {
    assert!(matches!(
        after(|parts| {
            parts.tokens.clear();
            parts.types.clear();
        }),
        TokenizerError::EmptyVocabulary
    ));
    assert!(matches!(
        after(|parts| parts.types.truncate(3)),
        TokenizerError::TokenTypeCount {
            expected: 259,
            found: 3
        }
    ));
    assert!(matches!(
        after(|parts| parts.types[7] = 6),
        TokenizerError::TokenType { id: 7, found: 6 }
    ));
    assert!(matches!(
        after(|parts| parts.tokens[256].clear()),
        TokenizerError::EmptyToken { id: 256 }
    ));
    assert!(matches!(
        after(|parts| parts.tokens[258] = parts.tokens[3].clone()),
        TokenizerError::DuplicateToken {
            id: 258,
            first: 3,
            ..
        }
    ));
    assert!(matches!(
        after(|parts| parts.tokens[256] = "h e".to_owned()),
        TokenizerError::NotByteLevel {
            id: 256,
            found: ' ',
            ..
        }
    ));
    assert!(matches!(
        after(|parts| parts.tokens[0] = "hh".to_owned()),
        TokenizerError::MissingByte { .. }
    ));
    // A control token that is one byte would otherwise come out of plain text.
    assert!(matches!(
        after(|parts| parts.types[0] = 3),
        TokenizerError::MissingByte { .. }
    ));
}

#[test]
fn unsound_merges_are_refused() {
    for (merge, text) in [
        ("h q", "hq"),
        ("he he", "hehe"),
        ("zz e", "zze"),
        ("<think> e", "<think>e"),
    ] {
        match after(|parts| parts.merges.push(merge.to_owned())) {
            TokenizerError::MergeToken {
                rank: 1,
                text: found,
            } => assert_eq!(found, text),
            other => panic!("{merge}: {other}"),
        }
    }
    // Both sides are known only together.
    assert!(matches!(
        after(|parts| {
            parts.tokens[256] = "xyz".to_owned();
            parts.merges[0] = "xy z".to_owned();
        }),
        TokenizerError::MergeToken { rank: 0, .. }
    ));
    assert!(matches!(
        after(|parts| parts.merges.push("h e".to_owned())),
        TokenizerError::DuplicateMerge { rank: 1, .. }
    ));
    assert!(matches!(
        after(|parts| parts.merges.push("hello".to_owned())),
        TokenizerError::MergeSyntax { rank: 1, .. }
    ));
    assert!(matches!(
        after(|parts| parts.merges = vec!["h e".to_owned(); 64 * 260]),
        TokenizerError::TooManyMerges { n_vocab: 259, .. }
    ));
}

/// The error after a change of the `tokenizer.json`.
fn after_json(change: impl FnOnce(&mut Value)) -> String {
    let mut json: Value = serde_json::from_str(BARD).unwrap();
    change(&mut json);
    Tokenizer::from_json(json.to_string().as_bytes())
        .unwrap_err()
        .to_string()
}

#[test]
fn settings_that_would_change_ids_are_refused() {
    for (pointer, value) in [
        ("/normalizer", json!(null)),
        ("/normalizer", json!({"type": "NFKC"})),
        ("/pre_tokenizer", json!(null)),
        (
            "/pre_tokenizer/pretokenizers/0/pattern/Regex",
            json!("\\s+"),
        ),
        ("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed")),
        (
            "/pre_tokenizer/pretokenizers/1/add_prefix_space",
            json!(true),
        ),
        ("/model/type", json!("WordPiece")),
        ("/model/dropout", json!(0.1)),
        ("/model/unk_token", json!("<unk>")),
        ("/model/continuing_subword_prefix", json!("##")),
        ("/model/end_of_word_suffix", json!("</w>")),
        ("/model/byte_fallback", json!(true)),
        ("/model/ignore_merges", json!(true)),
        ("/added_tokens/0/lstrip", json!(true)),
    ] {
        let error = after_json(|json| *json.pointer_mut(pointer).unwrap() = value);
        let field = pointer.split('/').nth(1).unwrap();
        assert!(
            error.contains(field) && error.contains("expected"),
            "{pointer}: {error}"
        );
    }
}

#[test]
fn unsound_json_is_refused_with_its_place() {
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"{\"model\": 1}",
        b"\xff\xfe",
        b"<!DOCTYPE html>",
    ] {
        let error = Tokenizer::from_json(bytes).unwrap_err();
        assert!(
            matches!(error, TokenizerError::Json { .. }),
            "{bytes:?}: {error}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(Tokenizer::from_json(deep.as_bytes()).is_err());
    let error = after_json(|json| json["model"]["vocab"]["!"] = json!(1));
    assert_eq!(
        error,
        "token `\\\"`: id 1 is taken already in a vocabulary of 2048 tokens"
    );
    let error = after_json(|json| json["model"]["vocab"]["!"] = json!(1_u64 << 60));
    assert!(error.contains("out of range"), "{error}");
    let error = after_json(|json| json["model"]["vocab"]["!"] = json!(-1));
    assert!(error.contains("line"), "{error}");
    let error = after_json(|json| json["added_tokens"][0]["id"] = json!(2048));
    assert!(error.contains("out of range"), "{error}");
    let error = after_json(|json| json["model"]["merges"][0] = json!("Ġt"));
    assert!(error.contains("merge 0"), "{error}");
    let error = after_json(|json| json["model"]["merges"][0] = json!(["Ġ", "nope"]));
    assert!(error.contains("merge 0"), "{error}");
    let error = after_json(|json| json["model"]["merges"] = json!("Ġ t"));
    assert!(error.contains("a list of merges"), "{error}");
}

#[test]
fn a_text_that_comes_twice_in_json_is_refused() {
    let twice = BARD.replacen("\"vocab\":{", "\"vocab\":{\"!\":2048,", 1);
    let error = Tokenizer::from_json(twice.as_bytes()).unwrap_err();
    assert!(
        matches!(
            error,
            TokenizerError::DuplicateToken {
                id: 2048,
                first: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn merges_as_lines_are_the_same_as_pairs() {
    let mut json: Value = serde_json::from_str(BARD).unwrap();
    for merge in json["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!(
            "{} {}",
            merge[0].as_str().unwrap(),
            merge[1].as_str().unwrap()
        ));
    }
    let lines = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
    let pairs = Tokenizer::from_json(BARD.as_bytes()).unwrap();
    let text = "Now is the winter of our discontent";
    assert_eq!(
        lines.encode(text, Default::default()),
        pairs.encode(text, Default::default())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_flipped_byte_gives_a_tokenizer_or_an_error(at in 0..BARD.len(), bit in 0_u8..8) {
        let mut json = BARD.as_bytes().to_vec();
        json[at] ^= 1 << bit;
        if let Ok(tokenizer) = Tokenizer::from_json(&json) {
            let ids = tokenizer.encode("he said", Default::default());
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), b"he said");
        }
    }

    #[test]
    fn a_prefix_of_a_file_is_an_error(len in 0..BARD.len() - 2) {
        prop_assert!(Tokenizer::from_json(&BARD.as_bytes()[..len]).is_err());
    }
}
