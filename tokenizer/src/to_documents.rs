//! Writes a tokenizer as the documents of a checkpoint: the way back from `checkpoint.rs`, in
//! the forms that transformers writes.
//!
//! `config.json` and `generation_config.json` have ids of tokens too, among much else: they are
//! written by others, from [`Tokenizer::bos`] and its like.

use serde_json::{Map, Value, json};

use crate::{
    Tokenizer,
    json::NAME as TOKENIZER,
    split::QWEN2_PATTERN,
    tables::{fewest_listed, padding_text},
    vocabulary::TokenKind,
};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

impl Tokenizer {
    /// Returns `tokenizer.json`, `tokenizer_config.json` and, if there is a chat template,
    /// `chat_template.jinja`, by name, for a model of `n_ctx` positions. Unused tokens at the end
    /// of the vocabulary are left out where `vocab_size` in `config.json` brings them back.
    #[must_use]
    pub fn to_documents(&self, n_ctx: usize) -> Vec<(&'static str, Vec<u8>)> {
        let mut documents = vec![
            (TOKENIZER, pretty(&self.tokenizer_json())),
            (TOKENIZER_CONFIG, pretty(&self.tokenizer_config(n_ctx))),
        ];
        if let Some(template) = self.chat_template() {
            documents.push((CHAT_TEMPLATE, template.as_bytes().to_vec()));
        }
        documents
    }

    fn tokenizer_json(&self) -> Value {
        let mut added = Vec::new();
        let mut vocab = Map::new();
        for (id, text, kind) in self.vocabulary().iter().take(self.n_listed()) {
            if matches!(kind, TokenKind::Control | TokenKind::UserDefined) {
                added.push(added_token(id, text, kind));
            } else {
                vocab.insert(text.to_owned(), id.into());
            }
        }
        let merges = self.merges();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": QWEN2_PATTERN},
                        "behavior": "Isolated",
                        "invert": false,
                    },
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": false,
                        "trim_offsets": false,
                        "use_regex": false,
                    },
                ],
            },
            "post_processor": self.post_processor(),
            "decoder": byte_level(),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merges,
            },
        })
    }

    /// Returns the number of tokens up to the padding that reading the documents brings back.
    fn n_listed(&self) -> usize {
        let is_padding = |&(id, text, kind): &(u32, &str, TokenKind)| {
            kind == TokenKind::Unused && text == padding_text(id as usize)
        };
        let others = self.vocabulary().iter().filter(|token| !is_padding(token));
        let n_tokens = others.last().map_or(0, |(id, ..)| id as usize + 1);
        n_tokens.max(fewest_listed(self.n_vocab()))
    }

    /// The step that puts the beginning token before a text, if the model expects one.
    fn post_processor(&self) -> Value {
        let begin = self.bos().filter(|_| self.adds_bos());
        let Some((id, text)) = begin.and_then(|id| Some((id, self.token_text(id)?))) else {
            return byte_level();
        };
        let token = json!({"SpecialToken": {"id": text, "type_id": 0}});
        let sequence = |id: &str, ty: u32| json!({"Sequence": {"id": id, "type_id": ty}});
        let mut special = Map::new();
        let about = json!({"id": text, "ids": [id], "tokens": [text]});
        special.insert(text.to_owned(), about);
        json!({
            "type": "TemplateProcessing",
            "single": [token, sequence("A", 0)],
            "pair": [token, sequence("A", 0), sequence("B", 1)],
            "special_tokens": special,
        })
    }

    fn tokenizer_config(&self, n_ctx: usize) -> Value {
        let text = |id: Option<u32>| id.and_then(|id| self.token_text(id));
        let added = self.vocabulary().iter();
        let added =
            added.filter(|(.., kind)| matches!(kind, TokenKind::Control | TokenKind::UserDefined));
        let decoder: Map<String, Value> = added
            .map(|(id, text, kind)| {
                let mut token = added_token(id, text, kind);
                if let Some(fields) = token.as_object_mut() {
                    fields.shift_remove("id");
                }
                (id.to_string(), token)
            })
            .collect();
        let mut config = json!({
            "add_bos_token": self.adds_bos(),
            "add_prefix_space": false,
            "added_tokens_decoder": decoder,
            "bos_token": text(self.bos().filter(|_| self.adds_bos())),
            "clean_up_tokenization_spaces": false,
            "eos_token": text(self.eos()),
            "errors": "replace",
            "model_max_length": n_ctx,
            "pad_token": text(self.padding()),
            "split_special_tokens": false,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": null,
        });
        // The default one has a document of its own, which comes first.
        let named = self.chat_templates().filter(|(name, _)| !name.is_empty());
        let named: Vec<Value> = named
            .map(|(name, template)| json!({"name": name, "template": template}))
            .collect();
        if !named.is_empty() {
            config["chat_template"] = named.into();
        }
        config
    }
}

fn added_token(id: u32, text: &str, kind: TokenKind) -> Value {
    json!({
        "id": id,
        "content": text,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": kind == TokenKind::Control,
    })
}

fn byte_level() -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": false,
        "use_regex": false,
    })
}

fn pretty(document: &Value) -> Vec<u8> {
    format!("{document:#}\n").into_bytes()
}
