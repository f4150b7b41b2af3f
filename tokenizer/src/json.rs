//! Reads a tokenizer from a `tokenizer.json` of the Hugging Face library.
//!
//! The file is read into our own types and built like one from GGUF, so both have the same
//! checks. Every setting that would change the ids (normalizer, pre-tokenizer, BPE options)
//! is compared with Qwen's; another value is an error, never ignored.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json};

use crate::{
    TokenizerError,
    bpe::Bpe,
    error::excerpt,
    gguf::split_merge,
    special_ids::SpecialIds,
    split::QWEN2_PATTERN,
    tokenizer::Parts,
    vocabulary::{Entry, TokenKind, Vocabulary},
};

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    added_tokens: Vec<AddedToken<'a>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct AddedToken<'a> {
    id: u64,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type", borrow, default = "bpe")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    vocab: Vocab<'a>,
    merges: MergeList,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

const BPE: &str = "BPE";

fn bpe() -> Cow<'static, str> {
    BPE.into()
}

/// Reads and checks everything.
pub(crate) fn read(json: &[u8]) -> Result<Parts, TokenizerError> {
    let file: File<'_> = serde_json::from_slice(json)?;
    check_settings(&file)?;
    let entries = by_id(&file)?;
    let vocabulary = Vocabulary::new(entries.into_iter())?;
    let merges = file.model.merges.0.iter();
    let merges = merges.map(|(left, right)| Ok((left.as_str(), right.as_str())));
    let bpe = Bpe::new(&vocabulary, merges)?;
    Ok(Parts {
        special_ids: SpecialIds::by_name(&vocabulary),
        adds_bos: false,
        chat_templates: Vec::new(),
        vocabulary,
        bpe,
    })
}

fn check_settings(file: &File<'_>) -> Result<(), TokenizerError> {
    let model = &file.model;
    if model.kind != BPE {
        return Err(TokenizerError::Model {
            field: "model.type",
            expected: BPE,
            found: excerpt(&model.kind),
        });
    }
    let is_empty = |value: &Value| value.is_null() || *value == json!("");
    let no_dropout = model.dropout.is_null() || model.dropout.as_f64() == Some(0.0);
    let settings = [
        (
            "normalizer",
            "NFC",
            file.normalizer == json!({"type": "NFC"}),
            &file.normalizer,
        ),
        ("model.dropout", "none", no_dropout, &model.dropout),
        (
            "model.unk_token",
            "none",
            model.unk_token.is_null(),
            &model.unk_token,
        ),
        (
            "model.continuing_subword_prefix",
            "none",
            is_empty(&model.continuing_subword_prefix),
            &model.continuing_subword_prefix,
        ),
        (
            "model.end_of_word_suffix",
            "none",
            is_empty(&model.end_of_word_suffix),
            &model.end_of_word_suffix,
        ),
        (
            "model.byte_fallback",
            "false",
            !model.byte_fallback,
            &json!(true),
        ),
        (
            "model.ignore_merges",
            "false",
            !model.ignore_merges,
            &json!(true),
        ),
    ];
    for (field, expected, holds, found) in settings {
        if !holds {
            return Err(TokenizerError::Setting {
                field,
                expected,
                found: excerpt(&found.to_string()),
            });
        }
    }
    check_pre_tokenizer(&file.pre_tokenizer)
}

/// Compares the parts that decide where text is cut; the rest concerns offsets alone.
fn check_pre_tokenizer(found: &Value) -> Result<(), TokenizerError> {
    let steps = &found["pretokenizers"];
    let (cut, spell) = (&steps[0], &steps[1]);
    let is_qwen2 = found["type"] == "Sequence"
        && steps.as_array().is_some_and(|steps| steps.len() == 2)
        && cut["type"] == "Split"
        && cut["pattern"]["Regex"] == QWEN2_PATTERN
        && cut["behavior"] == "Isolated"
        && cut["invert"] == false
        && spell["type"] == "ByteLevel"
        && spell["add_prefix_space"] == false
        && spell["use_regex"] == false;
    if is_qwen2 {
        return Ok(());
    }
    Err(TokenizerError::PreTokenizer {
        field: "pre_tokenizer",
        supported: "Qwen2's split and byte level",
        found: excerpt(&found.to_string()),
    })
}

/// All tokens in the order of their ids, which must be 0, 1, 2 and so on.
fn by_id<'f>(file: &'f File<'_>) -> Result<Vec<Entry<'f>>, TokenizerError> {
    let model = &file.model.vocab.0;
    // A token of the model that is also listed as added is one token, of the added kind.
    let n_vocab = model.len() + added_beyond(model, &file.added_tokens);
    let mut entries: Vec<Option<Entry<'f>>> = vec![None; n_vocab];
    for (text, id) in model {
        place(&mut entries, *id, text, TokenKind::Normal)?;
    }
    for token in &file.added_tokens {
        if token.single_word || token.lstrip || token.rstrip {
            return Err(TokenizerError::Setting {
                field: "added_tokens",
                expected: "no single_word, lstrip or rstrip",
                found: excerpt(&token.content),
            });
        }
        place(&mut entries, token.id, &token.content, added_kind(token))?;
    }
    // As many places as tokens, and none taken twice: none is empty.
    Ok(entries.into_iter().flatten().collect())
}

/// The kind that a conversion to GGUF gives an added token.
fn added_kind(token: &AddedToken<'_>) -> TokenKind {
    let looks_special = token.content.starts_with("<|") && token.content.ends_with("|>");
    if token.special || looks_special {
        TokenKind::Control
    } else {
        TokenKind::UserDefined
    }
}

/// How many added tokens have an id that the model's vocabulary does not use.
fn added_beyond(model: &[(Cow<'_, str>, u64)], added: &[AddedToken<'_>]) -> usize {
    let used: std::collections::HashSet<u64> = model.iter().map(|(_, id)| *id).collect();
    added
        .iter()
        .filter(|token| !used.contains(&token.id))
        .count()
}

fn place<'f>(
    entries: &mut [Option<Entry<'f>>],
    id: u64,
    text: &'f str,
    kind: TokenKind,
) -> Result<(), TokenizerError> {
    let n_vocab = entries.len();
    let fault = |fault| TokenizerError::TokenId {
        text: excerpt(text),
        id,
        fault,
        n_vocab,
    };
    let place = usize::try_from(id).ok().and_then(|id| entries.get_mut(id));
    let place = place.ok_or_else(|| fault("out of range"))?;
    let repeats = kind != TokenKind::Normal
        && place.is_some_and(|before| before.kind == TokenKind::Normal && before.text == text);
    if place.is_some() && !repeats {
        return Err(fault("taken already"));
    }
    *place = Some(Entry { text, kind });
    Ok(())
}

/// Texts and ids as the file lists them; a map would hide a text that comes twice.
struct Vocab<'a>(Vec<(Cow<'a, str>, u64)>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from token to id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(text), id)) = map.next_entry()? {
                    entries.push((text, id));
                }
                Ok(Vocab(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A string borrowed from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Merges as pairs (`["a", "b"]`) or as lines (`"a b"`).
struct MergeList(Vec<(String, String)>);

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = MergeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut merges = Vec::new();
                while let Some(merge) = list.next_element::<Merge<'de>>()? {
                    merges.push(match merge {
                        Merge::Pair(left, right) => (left, right),
                        Merge::Line(line) => {
                            let (left, right) =
                                split_merge(merges.len(), &line).map_err(de::Error::custom)?;
                            (left.to_owned(), right.to_owned())
                        }
                    });
                }
                Ok(MergeList(merges))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(String, String),
    Line(#[serde(borrow)] Cow<'a, str>),
}
