//! What can be wrong with a tokenizer or a chat template, and where.

use gguf_format::GgufError;
use thiserror::Error;

/// How many characters of a file's own text a message repeats.
const EXCERPT_CHARS: usize = 48;

/// Why a tokenizer was refused or ids could not be decoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata key is missing or holds another type.
    #[error("tokenizer metadata")]
    Metadata(#[from] GgufError),

    /// The kind of tokenizer is not byte-level BPE.
    #[error("{field}: expected `{expected}`, found `{found}`")]
    Model {
        /// The metadata key or JSON field.
        field: &'static str,
        /// The only value supported.
        expected: &'static str,
        /// The value in the file.
        found: String,
    },

    /// The way text is cut before merging is not one we know.
    #[error("{field}: expected one of {supported}, found `{found}`")]
    PreTokenizer {
        /// The metadata key or JSON field.
        field: &'static str,
        /// The supported ones, separated by commas.
        supported: &'static str,
        /// The value in the file.
        found: String,
    },

    /// A document is not JSON, or a field has the wrong type.
    #[error("{document}, line {line}, column {column}: {message}")]
    Json {
        /// Its name, such as `tokenizer.json`.
        document: &'static str,
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault.
        column: usize,
        /// What the JSON reader expected and found.
        message: String,
    },

    /// A document is not UTF-8.
    #[error("{document}, byte {offset}: expected UTF-8")]
    NotUtf8 {
        /// Its name, such as `merges.txt`.
        document: &'static str,
        /// The first byte that is none.
        offset: usize,
    },

    /// A checkpoint holds no vocabulary.
    #[error("expected tokenizer.json, or vocab.json and merges.txt, found {found}")]
    NoVocabulary {
        /// What is there of them.
        found: &'static str,
    },

    /// A model has fewer tokens than its tokenizer, or so many more that its documents do not
    /// justify them.
    #[error(
        "config.json, vocab_size: expected {found} to {most} for a tokenizer of {found} tokens, found {expected}"
    )]
    VocabularySize {
        /// The tokens of the model.
        expected: usize,
        /// The tokens of the tokenizer.
        found: usize,
        /// The most tokens that the model may have.
        most: usize,
    },

    /// A setting would change the ids and is not supported.
    #[error("{document}, {field}: expected {expected}, found `{found}`")]
    Setting {
        /// The document, such as `tokenizer.json`.
        document: &'static str,
        /// The field.
        field: &'static str,
        /// What is supported.
        expected: &'static str,
        /// The value in the file.
        found: String,
    },

    /// There is no token at all.
    #[error("the vocabulary holds no tokens")]
    EmptyVocabulary,

    /// The vocabulary is larger than ids or offsets of 32 bits reach.
    #[error("the vocabulary has {found} {unit}, the limit is {limit}")]
    VocabularyTooLarge {
        /// How many there are.
        found: usize,
        /// Tokens or bytes of text.
        unit: &'static str,
        /// How many are accepted.
        limit: usize,
    },

    /// A token has no text.
    #[error("token {id}: expected a text, found an empty string")]
    EmptyToken {
        /// The token.
        id: u32,
    },

    /// Two tokens have the same text.
    #[error("token {id}: `{text}` is already token {first}")]
    DuplicateToken {
        /// The second token.
        id: u32,
        /// The token that had the text before.
        first: u32,
        /// The text.
        text: String,
    },

    /// Two texts claim the same id, or an id lies beyond the number of tokens.
    #[error("token `{text}`: id {id} is {fault} in a vocabulary of {n_vocab} tokens")]
    TokenId {
        /// The token.
        text: String,
        /// The id it claims.
        id: u64,
        /// Taken or out of range.
        fault: &'static str,
        /// How many tokens the file lists.
        n_vocab: usize,
    },

    /// The table of token types is of another length than the vocabulary.
    #[error("`tokenizer.ggml.token_type`: expected {expected} entries, found {found}")]
    TokenTypeCount {
        /// The number of tokens.
        expected: usize,
        /// The number of types.
        found: usize,
    },

    /// A token type is none of those in byte-level vocabularies.
    #[error("`tokenizer.ggml.token_type` of token {id}: expected 1 to 5, found {found}")]
    TokenType {
        /// The token.
        id: u32,
        /// Its type.
        found: i32,
    },

    /// A normal token holds a character that stands for no byte.
    #[error("token {id} `{text}`: `{}` is not a character of the byte-level alphabet", found.escape_debug())]
    NotByteLevel {
        /// The token.
        id: u32,
        /// Its text.
        text: String,
        /// The character.
        found: char,
    },

    /// A byte has no token, so some texts could not be encoded.
    #[error("the vocabulary has no token for the byte {byte:#04x} (`{text}`)")]
    MissingByte {
        /// The byte.
        byte: u8,
        /// The spelling that its token would have.
        text: char,
    },

    /// A merge is not two texts separated by a space.
    #[error("merge {rank} `{text}`: expected two texts separated by one space")]
    MergeSyntax {
        /// The merge, counted from 0.
        rank: usize,
        /// Its text.
        text: String,
    },

    /// A merge takes or makes a text that is not in the vocabulary.
    #[error("merge {rank}: `{text}` is not a token of the vocabulary")]
    MergeToken {
        /// The merge, counted from 0.
        rank: usize,
        /// The text.
        text: String,
    },

    /// Two merges join the same pair.
    #[error("merge {rank}: the pair `{left}`, `{right}` has a rank already")]
    DuplicateMerge {
        /// The second merge, counted from 0.
        rank: usize,
        /// The left text.
        left: String,
        /// The right text.
        right: String,
    },

    /// There are more merges than the vocabulary can have.
    #[error("{found} merges, but a vocabulary of {n_vocab} tokens has fewer")]
    TooManyMerges {
        /// The number of merges.
        found: usize,
        /// The number of tokens.
        n_vocab: usize,
    },

    /// The control and added tokens together are too much to search for.
    #[error("{n_tokens} added tokens with {n_bytes} bytes of text, the limit is {limit} bytes")]
    AddedTokens {
        /// How many there are.
        n_tokens: usize,
        /// The length of their texts.
        n_bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// A key names a token that does not exist.
    #[error("`{key}`: token {id} is out of range, the vocabulary has {n_vocab} tokens")]
    SpecialId {
        /// The metadata key.
        key: String,
        /// The id it names.
        id: u32,
        /// The number of tokens.
        n_vocab: usize,
    },

    /// An id to decode is not in the vocabulary.
    #[error("id {id} at position {position}: the vocabulary has {n_vocab} tokens")]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Its place among the ids given.
        position: usize,
        /// The number of tokens.
        n_vocab: usize,
    },
}

/// Why a chat template was refused or did not render.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is longer than any real template.
    #[error("chat template: {found} bytes, the limit is {limit}")]
    SourceTooLong {
        /// The length of the source.
        found: usize,
        /// The limit.
        limit: usize,
    },

    /// The source is not a template.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },

    /// The template stopped with `raise_exception`.
    #[error("chat template refused the conversation: {message}")]
    Raised {
        /// The template's own words.
        message: String,
    },

    /// The template did something it cannot do, such as reading an undefined value.
    #[error("chat template, line {line}: {message}")]
    Render {
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },

    /// The template worked longer than a conversation of this size justifies.
    #[error("chat template: stopped after {limit} steps")]
    TooManySteps {
        /// The limit, which grows with the conversation.
        limit: u64,
    },

    /// Macros, loops, branches or the terms of an expression lie too deep inside each other.
    #[error("chat template, line {line}: nested deeper than {limit} levels")]
    TooDeep {
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// The limit.
        limit: usize,
    },

    /// The text is longer than any model's context.
    #[error("chat template: the text exceeds {limit} bytes")]
    OutputTooLong {
        /// The limit.
        limit: usize,
    },

    /// A value built by the template would be too large when written out.
    #[error(
        "chat template, line {line}: a list or map of more than {parts} parts or {bytes} bytes"
    )]
    ValueTooLarge {
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// How many values it may hold, at all levels.
        parts: usize,
        /// How long all its strings may be together.
        bytes: usize,
    },

    /// An option has the name of something that the template is given anyway.
    #[error("chat template option `{name}`: the name is reserved")]
    ReservedOption {
        /// The option.
        name: String,
    },

    /// The conversation uses every marker that could shield its text.
    #[error("the conversation holds all of the noncharacters U+FDD0 to U+FDEF")]
    NoMarkerLeft,

    /// No thread could be started to render in.
    #[error("chat template: no thread to render in: {message}")]
    Thread {
        /// The system's words.
        message: String,
    },
}

impl TokenizerError {
    /// The error about a document that is no JSON of the right kind.
    pub(crate) fn json(document: &'static str, error: &serde_json::Error) -> Self {
        Self::Json {
            document,
            line: error.line(),
            column: error.column(),
            message: excerpt_of(&error.to_string(), 4 * EXCERPT_CHARS),
        }
    }
}

/// A file's own text, escaped and shortened for a message.
pub(crate) fn excerpt(text: &str) -> String {
    excerpt_of(text, EXCERPT_CHARS)
}

fn excerpt_of(text: &str, limit: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(limit)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(limit).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_escaped_and_short() {
        assert_eq!(excerpt("a\u{1b}[2J"), "a\\u{1b}[2J");
        assert_eq!(
            excerpt(&"x".repeat(1000)).chars().count(),
            EXCERPT_CHARS + 1
        );
    }
}
