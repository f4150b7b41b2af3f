//! Reads a tokenizer from a `tokenizer.json` of the Hugging Face library.
//!
//! The file is read into our own types and built like one from GGUF, so both have the same
//! checks. Every setting that would change the ids (normalizer, pre-tokenizer, BPE options)
//! is compared with Qwen's; another value is an error, never ignored.

mod post_processor;

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::{Value, json};

use crate::{
    TokenizerError,
    bpe::Bpe,
    error::excerpt,
    gguf::split_merge,
    special_ids::SpecialIds,
    split::QWEN2_PATTERN,
    tables::{self, AddedToken, Pairs},
    tokenizer::Parts,
    vocabulary::Vocabulary,
};

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    added_tokens: Vec<AddedToken<'a>>,
    #[serde(default)]
    truncation: Value,
    #[serde(default)]
    padding: Value,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type", borrow, default = "bpe")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    vocab: Pairs<'a>,
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

/// The name of the document.
pub(crate) const NAME: &str = "tokenizer.json";

/// What the document says.
pub(crate) struct Document {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) bpe: Bpe,
    /// The token that is put before every text.
    pub(crate) begin: Option<u32>,
}

/// Reads and checks everything.
pub(crate) fn read(json: &[u8]) -> Result<Parts, TokenizerError> {
    let Document {
        vocabulary,
        bpe,
        begin,
    } = read_padded(json, 0)?;
    let special_ids = SpecialIds {
        bos: begin,
        ..SpecialIds::default()
    };
    Ok(Parts {
        special_ids: special_ids.complete(&vocabulary),
        adds_bos: begin.is_some(),
        chat_templates: Vec::new(),
        vocabulary,
        bpe,
    })
}

/// Reads and checks the tokens, padded to `n_vocab`, and the merges.
pub(crate) fn read_padded(json: &[u8], n_vocab: usize) -> Result<Document, TokenizerError> {
    let file: File<'_> =
        serde_json::from_slice(json).map_err(|error| TokenizerError::json(NAME, &error))?;
    check_settings(&file)?;
    let vocabulary = tables::vocabulary(&file.model.vocab, &file.added_tokens, n_vocab)?;
    let merges = file.model.merges.0.iter();
    let merges = merges.map(|(left, right)| Ok((left.as_str(), right.as_str())));
    let bpe = Bpe::new(&vocabulary, merges)?;
    let begin = post_processor::begin(&file.post_processor)?;
    let begin = begin.map(|text| post_processor::token(text, &vocabulary));
    Ok(Document {
        begin: begin.transpose()?,
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
            "truncation",
            "null: a text is never cut",
            file.truncation.is_null(),
            &file.truncation,
        ),
        (
            "padding",
            "null, or to the longest of several texts",
            is_padding_of_batches(&file.padding),
            &file.padding,
        ),
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
                document: NAME,
                field,
                expected,
                found: excerpt(&found.to_string()),
            });
        }
    }
    check_pre_tokenizer(&file.pre_tokenizer)
}

/// Whether a text that is alone is not padded.
fn is_padding_of_batches(padding: &Value) -> bool {
    padding.is_null()
        || (padding["strategy"] == "BatchLongest" && padding["pad_to_multiple_of"].is_null())
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
#[serde(
    untagged,
    expecting = "expected a merge: two texts in a list, or one with a space in it"
)]
enum Merge<'a> {
    Pair(String, String),
    Line(#[serde(borrow)] Cow<'a, str>),
}
