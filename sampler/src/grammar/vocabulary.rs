//! The tokens of a model as grammars see them: bytes in a trie, made when first needed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use llguidance::{
    ParserFactory,
    earley::SlicedBiasComputer,
    toktrie::{
        INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
    },
};

use super::{compile, kept::Kept, worker::Worker};
use crate::SamplerError;

/// What a grammar must know of a tokenizer and of the model above it.
pub trait GrammarTokens: Send + Sync + 'static {
    /// Returns the number of logits; ids are smaller. Those that the tokenizer does not know
    /// never come next.
    fn n_vocab(&self) -> usize;

    /// Returns the bytes that a token stands for, or the name of one that is no text.
    fn bytes(&self, id: u32) -> &[u8];

    /// Returns whether a token steers the model and is no text.
    fn is_control(&self, id: u32) -> bool;

    /// Returns the tokens that end a text, the most usual one first.
    fn ends(&self) -> Vec<u32>;

    /// Returns the tokens of a text as the model has learned to read it, control tokens not
    /// among them.
    fn encode(&self, text: &str) -> Vec<u32>;
}

/// A vocabulary that grammars can be compiled for; one per model, shared.
pub struct GrammarVocabulary {
    tokens: Arc<dyn GrammarTokens>,
    n_vocab: usize,
    ends: Vec<u32>,
    factory: OnceLock<Result<ParserFactory, SamplerError>>,
    worker: OnceLock<Worker>,
    kept: Mutex<Kept>,
    /// Tokens with a byte before their last one, by that byte.
    inside: [OnceLock<Vec<u32>>; 256],
}

impl fmt::Debug for GrammarVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarVocabulary")
            .field("n_vocab", &self.n_vocab)
            .finish_non_exhaustive()
    }
}

impl GrammarVocabulary {
    /// Takes the tokens. Nothing is computed before a grammar is compiled.
    #[must_use]
    pub fn new(tokens: Arc<dyn GrammarTokens>) -> Self {
        let n_vocab = tokens.n_vocab();
        let mut ends = tokens.ends();
        ends.retain(|&id| (id as usize) < n_vocab);
        Self {
            tokens,
            n_vocab,
            ends,
            factory: OnceLock::new(),
            worker: OnceLock::new(),
            kept: Mutex::default(),
            inside: [const { OnceLock::new() }; 256],
        }
    }

    /// Returns the tokens that end a text, the most usual one first.
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Returns the bytes that a token stands for; none if it is no text.
    #[must_use]
    pub fn bytes(&self, id: u32) -> &[u8] {
        if id as usize >= self.n_vocab || self.tokens.is_control(id) {
            return &[];
        }
        self.tokens.bytes(id)
    }

    /// Returns the tokens of a text as the model has learned to read it.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokens.encode(text)
    }

    /// Returns the tokens that go on behind a byte, in ascending order.
    #[must_use]
    pub fn going_on_behind(&self, byte: u8) -> &[u32] {
        self.inside[usize::from(byte)].get_or_init(|| {
            let goes_on = |&id: &u32| {
                let bytes = self.bytes(id).split_last();
                bytes.is_some_and(|(_, before)| before.contains(&byte))
            };
            (0..self.n_vocab as u32).filter(goes_on).collect()
        })
    }

    /// Returns the number of logits.
    #[must_use]
    pub const fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Makes the tables that grammars are compiled with, unless they are made; otherwise the
    /// first grammar does.
    ///
    /// # Errors
    /// [`SamplerError::Grammar`] says what is wrong with the vocabulary.
    pub fn make_tables(&self) -> Result<(), SamplerError> {
        self.factory().map(|_| ())
    }

    /// Returns what makes parsers, after making it if this is the first call.
    pub(super) fn factory(&self) -> Result<&ParserFactory, SamplerError> {
        let factory = self.factory.get_or_init(|| self.build());
        factory.as_ref().map_err(Clone::clone)
    }

    /// Returns what was compiled before.
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the thread that computes ahead, after starting it if this is the first call.
    pub(super) fn worker(&self) -> &Worker {
        self.worker.get_or_init(Worker::start)
    }

    fn build(&self) -> Result<ParserFactory, SamplerError> {
        let words: Vec<Vec<u8>> = (0..self.n_vocab as u32).map(|id| self.word(id)).collect();
        let first_end = self.ends.first().copied().unwrap_or(INVALID_TOKEN);
        let info = TokRxInfo::new(self.n_vocab as u32, first_end);
        let mut trie = TokTrie::from(&info, &words);
        if !self.ends.is_empty() {
            trie = trie.with_eos_tokens(&self.ends);
        }
        let env: TokEnv = Arc::new(Env {
            trie,
            tokens: Arc::clone(&self.tokens),
        });
        let slices = SlicedBiasComputer::json_slices();
        let abilities = InferenceCapabilities {
            ff_tokens: true,
            ..InferenceCapabilities::default()
        };
        let factory = ParserFactory::new(&env, abilities, &slices);
        let mut factory =
            factory.map_err(|error| super::invalid("vocabulary", error.to_string()))?;
        factory.quiet();
        *factory.limits_mut() = compile::limits();
        Ok(factory)
    }

    /// Returns a token as the trie has it: those that are no text are marked, so that no text
    /// can lead to them.
    fn word(&self, id: u32) -> Vec<u8> {
        let bytes = self.tokens.bytes(id);
        match self.tokens.is_control(id) {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            false => bytes.to_vec(),
        }
    }
}

/// What llguidance asks of a tokenizer.
struct Env {
    trie: TokTrie,
    tokens: Arc<dyn GrammarTokens>,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// A text that tokens cut in the middle of a character, or that the tokenizer would bring
    /// into another normal form, is cut greedily instead: the bytes have to be these.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let mut ids = Vec::new();
        for chunk in bytes.utf8_chunks() {
            let text = chunk.valid();
            let encoded = self.tokens.encode(text);
            if self.trie.decode_raw(&encoded) == text.as_bytes() {
                ids.extend(encoded);
            } else {
                ids.extend(self.trie.greedy_tokenize(text.as_bytes()));
            }
            ids.extend(self.trie.greedy_tokenize(chunk.invalid()));
        }
        ids
    }
}
