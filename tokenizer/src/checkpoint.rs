//! Reads a tokenizer from the documents of a checkpoint, as Hugging Face lays it out.
//!
//! The vocabulary is that of `tokenizer.json`, or, in older checkpoints, `vocab.json` and
//! `merges.txt` with added tokens elsewhere. Which tokens have a role is looked up where
//! llama.cpp's conversion looks: by their text in `tokenizer_config.json`, then by id in
//! `config.json` and `generation_config.json`, so a GGUF file made from the checkpoint has the
//! same ones. `chat_template.jinja` comes before a template in `tokenizer_config.json`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    TokenizerError,
    bpe::Bpe,
    error::excerpt,
    gguf::split_merge,
    json,
    special_ids::{SpecialIds, known},
    tables::{self, AddedSettings, AddedToken, Pairs},
    tokenizer::Parts,
    vocabulary::Vocabulary,
};

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ADDED: &str = "added_tokens.json";

/// Tokenizers whose settings are those of `split.rs` where only tables are given.
const CLASSES: [&str; 2] = ["Qwen2Tokenizer", "Qwen2TokenizerFast"];

/// The fields of `config.json` and `generation_config.json` that concern tokens.
#[derive(Default, Deserialize)]
struct Config {
    vocab_size: Option<usize>,
    bos_token_id: Option<Ids>,
    eos_token_id: Option<Ids>,
    pad_token_id: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token id or a list of ids")]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// The fields of `tokenizer_config.json` that are used or would change the ids.
#[derive(Default, Deserialize)]
struct TokenizerConfig<'a> {
    tokenizer_class: Option<String>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    add_prefix_space: Option<bool>,
    bos_token: Option<Named>,
    eos_token: Option<Named>,
    pad_token: Option<Named>,
    #[serde(borrow, default)]
    added_tokens_decoder: Decoder<'a>,
    chat_template: Option<Templates>,
}

/// A token by its text, alone or with its settings.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected the text of a token, or an object with its `content`"
)]
enum Named {
    Text(String),
    Token { content: String },
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a chat template, or a list of them with `name` and `template`"
)]
enum Templates {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// Reads and checks everything; `document` gives a document's bytes by its name.
pub(crate) fn read<'a>(
    document: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Parts, TokenizerError> {
    let config: Config = parse(&document, CONFIG)?.unwrap_or_default();
    let generation: Config = parse(&document, GENERATION_CONFIG)?.unwrap_or_default();
    let settings: TokenizerConfig<'_> = parse(&document, TOKENIZER_CONFIG)?.unwrap_or_default();
    if settings.add_prefix_space == Some(true) {
        return Err(setting("add_prefix_space", "false", "true"));
    }
    if settings.add_eos_token == Some(true) {
        return Err(setting("add_eos_token", "false", "true"));
    }
    let n_vocab = config.vocab_size.unwrap_or(0);
    let tables = match (document(json::NAME), document(VOCAB), document(MERGES)) {
        (Some(bytes), ..) => json::read_padded(bytes, n_vocab)?,
        (None, Some(vocab), Some(merges)) => {
            let added = added_tokens(&document, &settings)?;
            check_class(&settings)?;
            let (vocabulary, bpe) = read_tables(vocab, merges, &added, n_vocab)?;
            json::Document {
                vocabulary,
                bpe,
                begin: None,
            }
        }
        (None, vocab, merges) => {
            return Err(TokenizerError::NoVocabulary {
                found: match (vocab, merges) {
                    (Some(_), _) => "vocab.json alone",
                    (_, Some(_)) => "merges.txt alone",
                    _ => "none of them",
                },
            });
        }
    };
    let json::Document {
        vocabulary,
        bpe,
        begin,
    } = tables;
    check_added(&settings, &vocabulary)?;
    let mut special_ids = special_ids(&settings, &[config, generation], &vocabulary)?;
    special_ids.bos = begin.or(special_ids.bos);
    Ok(Parts {
        adds_bos: adds_bos(&settings, begin, special_ids.bos)?,
        special_ids,
        chat_templates: chat_templates(document(CHAT_TEMPLATE), settings.chat_template)?,
        vocabulary,
        bpe,
    })
}

fn parse<'a, T: Deserialize<'a>>(
    document: &impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<Option<T>, TokenizerError> {
    let parse =
        |bytes| serde_json::from_slice(bytes).map_err(|error| TokenizerError::json(name, &error));
    document(name).map(parse).transpose()
}

fn text<'a>(name: &'static str, bytes: &'a [u8]) -> Result<&'a str, TokenizerError> {
    std::str::from_utf8(bytes).map_err(|error| TokenizerError::NotUtf8 {
        document: name,
        offset: error.valid_up_to(),
    })
}

fn setting(field: &'static str, expected: &'static str, found: &str) -> TokenizerError {
    TokenizerError::Setting {
        document: TOKENIZER_CONFIG,
        field,
        expected,
        found: excerpt(found),
    }
}

/// Tables say nothing of how text is cut; the class does.
fn check_class(settings: &TokenizerConfig<'_>) -> Result<(), TokenizerError> {
    let found = settings.tokenizer_class.as_deref().unwrap_or_default();
    if CLASSES.contains(&found) {
        return Ok(());
    }
    Err(setting("tokenizer_class", "Qwen2Tokenizer", found))
}

/// The added tokens of a checkpoint without `tokenizer.json`.
fn added_tokens<'a>(
    document: &impl Fn(&str) -> Option<&'a [u8]>,
    settings: &TokenizerConfig<'a>,
) -> Result<Vec<AddedToken<'a>>, TokenizerError> {
    if !settings.added_tokens_decoder.0.is_empty() {
        return Ok(settings.added_tokens_decoder.0.clone());
    }
    let Pairs(pairs) = parse(document, ADDED)?.unwrap_or(Pairs(Vec::new()));
    let token = |(content, id)| AddedSettings::of(content).with_id(id);
    Ok(pairs.into_iter().map(token).collect())
}

fn read_tables(
    vocab: &[u8],
    merges: &[u8],
    added: &[AddedToken<'_>],
    n_vocab: usize,
) -> Result<(Vocabulary, Bpe), TokenizerError> {
    let model: Pairs<'_> =
        serde_json::from_slice(vocab).map_err(|error| TokenizerError::json(VOCAB, &error))?;
    let vocabulary = tables::vocabulary(&model, added, n_vocab)?;
    let mut lines: Vec<&str> = text(MERGES, merges)?.lines().collect();
    if lines
        .first()
        .is_some_and(|line| line.starts_with("#version"))
    {
        lines.remove(0);
    }
    lines.retain(|line| !line.is_empty());
    let merges = lines.iter().enumerate();
    let merges = merges.map(|(rank, line)| split_merge(rank, line));
    let bpe = Bpe::new(&vocabulary, merges)?;
    Ok((vocabulary, bpe))
}

/// Checks that both documents mean the same by the ids of added tokens.
fn check_added(
    settings: &TokenizerConfig<'_>,
    vocabulary: &Vocabulary,
) -> Result<(), TokenizerError> {
    let is_known = |token: &&AddedToken<'_>| {
        let id = u32::try_from(token.id).ok();
        id.and_then(|id| vocabulary.text(id)) == Some(&*token.content)
    };
    match settings
        .added_tokens_decoder
        .0
        .iter()
        .find(|token| !is_known(token))
    {
        None => Ok(()),
        Some(token) => {
            let found = format!("{}: {}", token.id, token.content);
            Err(setting(
                "added_tokens_decoder",
                "tokens of the vocabulary",
                &found,
            ))
        }
    }
}

/// Returns whether a beginning token is put before every text, where `begin` is the one that
/// `tokenizer.json` puts there and `bos` the one that there is.
fn adds_bos(
    settings: &TokenizerConfig<'_>,
    begin: Option<u32>,
    bos: Option<u32>,
) -> Result<bool, TokenizerError> {
    const FIELD: &str = "add_bos_token";
    match (settings.add_bos_token, begin, bos) {
        (Some(false), Some(_), _) => {
            let expected = "true, as the post_processor of tokenizer.json has it";
            Err(setting(FIELD, expected, "false"))
        }
        (Some(true), _, None) => Err(setting(FIELD, "false where no token is named", "true")),
        (said, begin, _) => Ok(said == Some(true) || begin.is_some()),
    }
}

fn special_ids(
    settings: &TokenizerConfig<'_>,
    [config, generation]: &[Config; 2],
    vocabulary: &Vocabulary,
) -> Result<SpecialIds, TokenizerError> {
    let by_text = |field, name: &Option<Named>| {
        let Some(Named::Text(text) | Named::Token { content: text }) = name else {
            return Ok(None);
        };
        match vocabulary.id(text) {
            Some(id) => Ok(Some(id)),
            None => Err(setting(field, "a token of the vocabulary", text)),
        }
    };
    let by_id = |ids: [&Option<Ids>; 2], key: &str| -> Result<Vec<u32>, TokenizerError> {
        let ids = ids.into_iter().flatten().flat_map(Ids::as_slice);
        ids.map(|&id| known(id, key, vocabulary)).collect()
    };
    let bos = by_id(
        [&config.bos_token_id, &generation.bos_token_id],
        "bos_token_id",
    )?;
    let eos = by_id(
        [&config.eos_token_id, &generation.eos_token_id],
        "eos_token_id",
    )?;
    let padding = by_id(
        [&config.pad_token_id, &generation.pad_token_id],
        "pad_token_id",
    )?;
    let first = |field, name: &Option<Named>, ids: &[u32]| -> Result<_, TokenizerError> {
        Ok(by_text(field, name)?.or(ids.first().copied()))
    };
    let ids = SpecialIds {
        bos: first("bos_token", &settings.bos_token, &bos)?,
        eos: first("eos_token", &settings.eos_token, &eos)?,
        eot: None,
        padding: first("pad_token", &settings.pad_token, &padding)?,
        end_of_generation: eos,
    };
    Ok(ids.complete(vocabulary))
}

impl Ids {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// The default template under the empty name, and the named ones.
fn chat_templates(
    file: Option<&[u8]>,
    setting: Option<Templates>,
) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut templates = match setting {
        None => Vec::new(),
        Some(Templates::One(template)) => vec![(String::new(), template)],
        Some(Templates::Several(templates)) => {
            let default = |name: String| {
                if name == "default" {
                    String::new()
                } else {
                    name
                }
            };
            let named = templates.into_iter();
            named
                .map(|named| (default(named.name), named.template))
                .collect()
        }
    };
    if let Some(file) = file {
        templates.retain(|(name, _)| !name.is_empty());
        templates.push((String::new(), text(CHAT_TEMPLATE, file)?.to_owned()));
    }
    Ok(templates)
}

/// Added tokens by their ids, which are written as strings.
#[derive(Default)]
struct Decoder<'a>(Vec<AddedToken<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Decoder<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Decoder<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from id to added token")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some((id, token)) = map.next_entry::<String, AddedSettings<'de>>()? {
                    let id = id.parse().map_err(|_| {
                        A::Error::custom(format!("expected a token id, found `{}`", excerpt(&id)))
                    })?;
                    tokens.push(token.with_id(id));
                }
                Ok(Decoder(tokens))
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}
