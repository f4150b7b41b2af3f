//! A checkpoint's documents give the tokenizer that a GGUF file made from it has.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{collections::BTreeMap, fs, path::Path};

use gguf_format::{Gguf, GgufWriter};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokenizer::{SpecialTokens, Tokenizer};

const BARD: &[u8] = include_bytes!("data/bard__tokenizer.json");
const BARD_IDS: &str = include_str!("data/bard__ids.json");

/// Documents by name.
type Documents = BTreeMap<&'static str, Vec<u8>>;

fn read(documents: &Documents) -> Tokenizer {
    from(documents).unwrap()
}

fn from(documents: &Documents) -> Result<Tokenizer, tokenizer::TokenizerError> {
    Tokenizer::from_checkpoint(|name| documents.get(name).map(Vec::as_slice))
}

fn error(documents: &Documents) -> String {
    from(documents).unwrap_err().to_string()
}

fn set(documents: &mut Documents, name: &'static str, value: &Value) {
    documents.insert(name, value.to_string().into_bytes());
}

/// The documents of the small model.
fn bard() -> Documents {
    let mut documents = Documents::new();
    documents.insert("tokenizer.json", BARD.to_vec());
    let ids = json!({"vocab_size": 2048, "bos_token_id": 2039, "eos_token_id": 2041});
    set(&mut documents, "config.json", &ids);
    let names = json!({"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}});
    set(&mut documents, "tokenizer_config.json", &names);
    documents
}

/// The same with vocabulary, merges and added tokens in documents of their own.
fn bard_in_tables() -> Documents {
    let mut documents = bard();
    documents.remove("tokenizer.json");
    let file: Value = serde_json::from_slice(BARD).unwrap();
    let mut vocab = file["model"]["vocab"].clone();
    let mut decoder = Map::new();
    for token in file["added_tokens"].as_array().unwrap() {
        vocab
            .as_object_mut()
            .unwrap()
            .shift_remove(token["content"].as_str().unwrap());
        decoder.insert(token["id"].to_string(), token.clone());
    }
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let lines = merges.map(|merge| match merge {
        Value::String(line) => format!("{line}\n"),
        pair => format!(
            "{} {}\n",
            pair[0].as_str().unwrap(),
            pair[1].as_str().unwrap()
        ),
    });
    let merges = format!("#version: 0.2\n{}\n", lines.collect::<String>());
    documents.insert("merges.txt", merges.into_bytes());
    set(&mut documents, "vocab.json", &vocab);
    let mut config: Value = serde_json::from_slice(&documents["tokenizer_config.json"]).unwrap();
    config["tokenizer_class"] = json!("Qwen2Tokenizer");
    config["added_tokens_decoder"] = decoder.into();
    set(&mut documents, "tokenizer_config.json", &config);
    documents
}

fn assert_same(found: &Tokenizer, expected: &Tokenizer) {
    assert_eq!(found.n_vocab(), expected.n_vocab());
    for id in (0..).take(expected.n_vocab()) {
        assert_eq!(found.token_text(id), expected.token_text(id), "{id}");
        assert_eq!(found.token_bytes(id), expected.token_bytes(id), "{id}");
        assert_eq!(found.is_control(id), expected.is_control(id), "{id}");
    }
    let roles = |t: &Tokenizer| (t.bos(), t.eos(), t.eot(), t.padding(), t.adds_bos());
    assert_eq!(roles(found), roles(expected));
    assert_eq!(found.end_of_generation(), expected.end_of_generation());
    assert_eq!(found.chat_template(), expected.chat_template());
    let goldens: Value = serde_json::from_str(BARD_IDS).unwrap();
    for golden in goldens.as_array().unwrap() {
        let ids =
            |t: &Tokenizer| t.encode(golden["text"].as_str().unwrap(), SpecialTokens::Recognise);
        assert_eq!(ids(found), ids(expected));
        assert_eq!(json!(ids(found)), golden["ids"]);
    }
}

#[test]
fn tables_give_the_tokenizer_of_the_whole_document() {
    let expected = read(&bard());
    assert_same(&read(&bard_in_tables()), &expected);

    let mut older = bard_in_tables();
    let file: Value = serde_json::from_slice(BARD).unwrap();
    let added = file["added_tokens"].as_array().unwrap().iter();
    let added = added.map(|token| {
        (
            token["content"].as_str().unwrap().to_owned(),
            token["id"].clone(),
        )
    });
    set(
        &mut older,
        "added_tokens.json",
        &Value::Object(added.collect()),
    );
    let config = json!({
        "tokenizer_class": "Qwen2TokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    });
    set(&mut older, "tokenizer_config.json", &config);
    assert_same(&read(&older), &expected);
}

#[test]
fn the_folder_gives_the_tokenizer_of_the_gguf_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models/bard");
    let Ok(file) = fs::read(folder.join("bard-bf16.gguf")) else {
        println!("skipped: {} is absent", folder.display());
        return;
    };
    let expected = Tokenizer::from_gguf(Gguf::parse(&file).unwrap().metadata()).unwrap();
    let names = ["tokenizer.json", "config.json", "generation_config.json"];
    let mut documents: Documents = names
        .into_iter()
        .chain(["tokenizer_config.json", "chat_template.jinja"])
        .map(|name| (name, fs::read(folder.join(name)).unwrap()))
        .collect();
    assert!(expected.chat_template().is_some());
    assert_same(&read(&documents), &expected);
    let tables = bard_in_tables();
    documents.remove("tokenizer.json");
    documents.extend(
        tables
            .into_iter()
            .filter(|(name, _)| !name.ends_with("config.json")),
    );
    documents.insert(
        "tokenizer_config.json",
        bard_in_tables()["tokenizer_config.json"].clone(),
    );
    assert_same(&read(&documents), &expected);
}

#[test]
fn tokens_have_roles_by_text_then_by_id() {
    let tokenizer = read(&bard());
    let roles = (tokenizer.bos(), tokenizer.eos(), tokenizer.padding());
    assert_eq!(roles, (Some(2039), Some(2041), Some(2039)));
    assert_eq!(tokenizer.end_of_generation(), [2039, 2041]);
    assert!(!tokenizer.adds_bos());

    let mut documents = bard();
    let config = json!({"add_bos_token": true, "bos_token": "<|im_start|>", "eos_token": null});
    set(&mut documents, "tokenizer_config.json", &config);
    set(
        &mut documents,
        "generation_config.json",
        &json!({"eos_token_id": [2041, 7]}),
    );
    let tokenizer = read(&documents);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(2040), Some(2041)));
    assert_eq!(tokenizer.end_of_generation(), [7, 2039, 2041]);
    assert!(tokenizer.adds_bos());
    set(
        &mut documents,
        "generation_config.json",
        &json!({"eos_token_id": 2048}),
    );
    assert!(
        error(&documents).contains("eos_token_id"),
        "{}",
        error(&documents)
    );
}

#[test]
fn the_template_document_comes_before_the_setting() {
    let mut documents = bard();
    assert_eq!(read(&documents).chat_template(), None);
    set(
        &mut documents,
        "tokenizer_config.json",
        &json!({"chat_template": "one"}),
    );
    assert_eq!(read(&documents).chat_template(), Some("one"));
    let several = json!({"chat_template": [
        {"name": "default", "template": "usual"},
        {"name": "tool_use", "template": "tools"},
    ]});
    set(&mut documents, "tokenizer_config.json", &several);
    assert_eq!(read(&documents).chat_template(), Some("usual"));
    documents.insert("chat_template.jinja", b"file".to_vec());
    let tokenizer = read(&documents);
    assert_eq!(tokenizer.chat_template(), Some("file"));
    assert_eq!(tokenizer.named_chat_template("tool_use"), Some("tools"));
    documents.insert("chat_template.jinja", b"ab\xff".to_vec());
    assert_eq!(
        error(&documents),
        "chat_template.jinja, byte 2: expected UTF-8"
    );
}

#[test]
fn a_vocabulary_is_padded_to_the_rows_of_the_model() {
    let mut documents = bard();
    let mut with = |n: u64| {
        set(&mut documents, "config.json", &json!({"vocab_size": n}));
        from(&documents)
    };
    let padded = with(2100).unwrap();
    assert_eq!(padded.n_vocab(), 2100);
    assert_eq!(padded.token_text(2099), Some("[PAD2099]"));
    assert!(!padded.is_control(2099));
    let ids = padded.encode("[PAD2099]", SpecialTokens::Recognise);
    assert!(!ids.contains(&2099));
    for n in [2047, 1_000_000_000] {
        let error = with(n).unwrap_err().to_string();
        let says = format!(
            "config.json, vocab_size: expected 2048 to 5120 for a tokenizer of 2048 tokens, found {n}"
        );
        assert_eq!(error, says);
    }
}

#[test]
fn documents_that_are_missing_or_wrong_are_named() {
    let without = |names: &[&str]| {
        let mut documents = bard_in_tables();
        documents.retain(|name, _| !names.contains(name));
        error(&documents)
    };
    let expected = "expected tokenizer.json, or vocab.json and merges.txt, found ";
    assert_eq!(
        without(&["vocab.json"]),
        format!("{expected}merges.txt alone")
    );
    assert_eq!(
        without(&["merges.txt"]),
        format!("{expected}vocab.json alone")
    );
    assert_eq!(
        without(&["vocab.json", "merges.txt"]),
        format!("{expected}none of them")
    );
    let class = without(&["tokenizer_config.json"]);
    assert!(
        class.contains("tokenizer_class: expected Qwen2Tokenizer"),
        "{class}"
    );

    let with = |name: &'static str, bytes: &[u8]| {
        let mut documents = bard_in_tables();
        documents.insert(name, bytes.to_vec());
        error(&documents)
    };
    let cases: [(&'static str, &[u8], &str); 8] = [
        ("vocab.json", b"[", "vocab.json, line 1"),
        (
            "merges.txt",
            b"a b\n\xff",
            "merges.txt, byte 4: expected UTF-8",
        ),
        ("merges.txt", b"#version: 0.2\nab\n", "merge 0"),
        (
            "config.json",
            b"{\"vocab_size\": -1}",
            "config.json, line 1, column 17",
        ),
        (
            "config.json",
            b"{\"vocab_size\": 1, \"vocab_size\": 2}",
            "duplicate field",
        ),
        (
            "tokenizer_config.json",
            b"{\"add_prefix_space\": true}",
            "add_prefix_space: expected false",
        ),
        (
            "tokenizer_config.json",
            b"{\"added_tokens_decoder\": {\"x\": {}}}",
            "tokenizer_config.json",
        ),
        (
            "generation_config.json",
            b"{\"eos_token_id\": \"x\"}",
            "generation_config.json, line 1",
        ),
    ];
    for (name, bytes, says) in cases {
        let error = with(name, bytes);
        assert!(error.contains(says), "{name}: {error}");
    }
    let mut documents = bard();
    let decoder = json!({"added_tokens_decoder": {"2041": {"content": "<|im_start|>"}}});
    set(&mut documents, "tokenizer_config.json", &decoder);
    let says = "tokenizer_config.json, added_tokens_decoder: expected tokens of the vocabulary, \
                found `2041: <|im_start|>`";
    assert_eq!(error(&documents), says);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_document_with_a_wrong_byte_gives_a_tokenizer_or_an_error(
        which in 0_usize..8,
        place in 0_usize..30_000,
        byte: u8,
    ) {
        let mut documents = bard_in_tables();
        let idx = which % documents.len();
        let bytes = documents.values_mut().nth(idx).unwrap();
        let place = place % bytes.len();
        bytes[place] = byte;
        match from(&documents) {
            Ok(tokenizer) => prop_assert!(tokenizer.n_vocab() >= 2048),
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
}

/// Reads a tokenizer from what [`Tokenizer::write_gguf`] writes.
fn through_gguf(tokenizer: &Tokenizer) -> Tokenizer {
    let mut writer = GgufWriter::new();
    tokenizer.write_gguf(&mut writer).unwrap();
    let file = writer.to_bytes(&[]).unwrap();
    Tokenizer::from_gguf(Gguf::parse(&file).unwrap().metadata()).unwrap()
}

/// Reads a tokenizer from what [`Tokenizer::to_documents`] writes.
fn through_documents(tokenizer: &Tokenizer) -> Tokenizer {
    let mut documents: Documents = tokenizer.to_documents(4096).into_iter().collect();
    let ids = json!({
        "vocab_size": tokenizer.n_vocab(),
        "bos_token_id": tokenizer.bos(),
        "pad_token_id": tokenizer.padding(),
    });
    set(&mut documents, "config.json", &ids);
    read(&documents)
}

#[test]
fn a_tokenizer_that_is_written_is_read_back() {
    let plain = read(&bard());
    let mut documents = bard();
    let several = json!({
        "add_bos_token": true,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "chat_template": [
            {"name": "default", "template": "usual"},
            {"name": "tool_use", "template": "tools"},
        ],
    });
    set(&mut documents, "tokenizer_config.json", &several);
    set(&mut documents, "config.json", &json!({"vocab_size": 2100}));
    let rich = read(&documents);
    assert!(rich.adds_bos() && rich.n_vocab() == 2100);
    for tokenizer in [plain, rich] {
        for again in [through_gguf(&tokenizer), through_documents(&tokenizer)] {
            assert_same(&again, &tokenizer);
            let named = |t: &Tokenizer| t.named_chat_template("tool_use").map(str::to_owned);
            assert_eq!(named(&again), named(&tokenizer));
        }
    }
}

#[test]
fn a_document_that_is_written_is_one_of_the_hugging_face_library() {
    let documents = read(&bard()).to_documents(4096);
    let (_, bytes) = documents
        .iter()
        .find(|(name, _)| *name == "tokenizer.json")
        .unwrap();
    let library = tokenizers::Tokenizer::from_bytes(bytes).unwrap();
    let goldens: Value = serde_json::from_str(BARD_IDS).unwrap();
    for golden in goldens.as_array().unwrap() {
        let text = golden["text"].as_str().unwrap();
        let ids = library.encode(text, true).unwrap();
        assert_eq!(json!(ids.get_ids()), golden["ids"]);
    }
}

/// The small model's `tokenizer.json` with one field changed.
fn with_field(field: &str, value: &Value) -> Documents {
    let mut documents = bard();
    let mut file: Value = serde_json::from_slice(BARD).unwrap();
    file[field] = value.clone();
    set(&mut documents, "tokenizer.json", &file);
    documents
}

#[test]
fn a_token_that_the_document_puts_before_a_text_is_followed() {
    let processor = |id: u64, text: &str| {
        json!({
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": text, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [],
            "special_tokens": {text: {"id": text, "ids": [id], "tokens": [text]}},
        })
    };
    let mut documents = with_field("post_processor", &processor(2040, "<|im_start|>"));
    let tokenizer = read(&documents);
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(2040), true));
    let alone = Tokenizer::from_json(&documents["tokenizer.json"]).unwrap();
    assert_eq!((alone.bos(), alone.adds_bos()), (Some(2040), true));
    set(
        &mut documents,
        "tokenizer_config.json",
        &json!({"add_bos_token": false}),
    );
    let says = "tokenizer_config.json, add_bos_token: expected true, as the post_processor";
    assert!(error(&documents).starts_with(says), "{}", error(&documents));
    let unknown = with_field("post_processor", &processor(0, "<|begin|>"));
    let says = "tokenizer.json, post_processor: expected a token of the vocabulary, \
                found `<|begin|>`";
    assert_eq!(error(&unknown), says);
}

#[test]
fn settings_that_would_change_the_ids_are_refused() {
    let batches = json!({"strategy": "BatchLongest", "pad_to_multiple_of": null});
    read(&with_field("padding", &batches));
    let refused = [
        ("truncation", json!({"max_length": 512})),
        ("padding", json!({"strategy": {"Fixed": 512}})),
        ("post_processor", json!({"type": "BertProcessing"})),
    ];
    for (field, value) in refused {
        let error = error(&with_field(field, &value));
        assert!(
            error.starts_with(&format!("tokenizer.json, {field}: ")),
            "{error}"
        );
    }
    let with = |settings: &Value| {
        let mut documents = bard();
        set(&mut documents, "config.json", &json!({"vocab_size": 2048}));
        set(&mut documents, "tokenizer_config.json", settings);
        error(&documents)
    };
    let says = |field: &str, expected: &str, found: &str| {
        format!("tokenizer_config.json, {field}: expected {expected}, found `{found}`")
    };
    assert_eq!(
        with(&json!({"add_eos_token": true})),
        says("add_eos_token", "false", "true")
    );
    assert_eq!(
        with(&json!({"add_bos_token": true})),
        says("add_bos_token", "false where no token is named", "true")
    );
    for field in ["bos_token", "eos_token", "pad_token"] {
        let error = with(&json!({field: "<|nothing|>"}));
        assert_eq!(
            error,
            says(field, "a token of the vocabulary", "<|nothing|>")
        );
    }
}

#[test]
fn errors_of_documents_say_what_was_expected() {
    let with = |name: &'static str, value: &Value| {
        let mut documents = bard();
        set(&mut documents, name, value);
        error(&documents)
    };
    let mut merges: Value = serde_json::from_slice(BARD).unwrap();
    merges["model"]["merges"] = json!([3]);
    let cases = [
        (
            "config.json",
            json!({"eos_token_id": "x"}),
            "expected a token id or a list of ids",
        ),
        (
            "tokenizer_config.json",
            json!({"eos_token": 3}),
            "expected the text of a token",
        ),
        (
            "tokenizer_config.json",
            json!({"chat_template": 3}),
            "expected a chat template",
        ),
        ("tokenizer.json", merges, "expected a merge"),
    ];
    for (name, value, says) in cases {
        let error = with(name, &value);
        assert!(
            error.contains(says) && !error.contains("untagged"),
            "{error}"
        );
    }
}
