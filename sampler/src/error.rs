//! Everything that can be wrong with a configuration, with logits or with stop rules.
//!
//! Each variant names the field or the token, what was expected and what was found.

use thiserror::Error;

/// Why a sampler could not be built or could not choose a token.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// There are no logits at all.
    #[error("logits: expected at least one, found none")]
    EmptyLogits,
    /// The number of logits is not the vocabulary the chain was built for.
    #[error("logits: expected one for each of {expected} tokens, found {found}")]
    LogitsLen {
        /// Size of the vocabulary.
        expected: usize,
        /// Length of the slice.
        found: usize,
    },
    /// A logit is not a number.
    #[error("logit of token {token}: expected a number, found NaN")]
    NanLogit {
        /// Index of the first such logit.
        token: usize,
    },
    /// A logit is plus infinity; minus infinity is allowed and means "never this token".
    #[error("logit of token {token}: expected a finite number or -inf, found +inf")]
    InfiniteLogit {
        /// Index of the first such logit.
        token: usize,
    },
    /// Every logit is minus infinity, so no token may be chosen.
    #[error("logits: expected at least one token above -inf, found all {n_vocab} masked")]
    AllMasked {
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// The vocabulary is empty or larger than 32-bit ids can name.
    #[error("n_vocab: expected 1 to 4294967295, found {found}")]
    VocabLen {
        /// The size that was given.
        found: usize,
    },
    /// A token id lies outside the vocabulary.
    #[error("{field}: expected token ids below {n_vocab}, found {token}")]
    TokenOutOfVocab {
        /// Configuration field that names the token.
        field: &'static str,
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// `temp` is out of range.
    #[error("temp: expected a finite number, found {found}")]
    Temp {
        /// The value that was given.
        found: f32,
    },
    /// `dynatemp_range` is out of range.
    #[error("dynatemp_range: expected a finite number of at least 0, found {found}")]
    DynatempRange {
        /// The value that was given.
        found: f32,
    },
    /// `dynatemp_exponent` is out of range.
    #[error("dynatemp_exponent: expected a finite number of at least 0, found {found}")]
    DynatempExponent {
        /// The value that was given.
        found: f32,
    },
    /// `top_p` is out of range.
    #[error("top_p: expected 0 to 1, found {found}")]
    TopP {
        /// The value that was given.
        found: f32,
    },
    /// `min_p` is out of range.
    #[error("min_p: expected 0 to 1, found {found}")]
    MinP {
        /// The value that was given.
        found: f32,
    },
    /// `typical_p` is out of range.
    #[error("typical_p: expected 0 to 1, found {found}")]
    TypicalP {
        /// The value that was given.
        found: f32,
    },
    /// `top_n_sigma` is out of range.
    #[error("top_n_sigma: expected a finite number, found {found}")]
    TopNSigma {
        /// The value that was given.
        found: f32,
    },
    /// `xtc_probability` is out of range.
    #[error("xtc_probability: expected 0 to 1, found {found}")]
    XtcProbability {
        /// The value that was given.
        found: f32,
    },
    /// `xtc_threshold` is out of range.
    #[error("xtc_threshold: expected 0 to 1, found {found}")]
    XtcThreshold {
        /// The value that was given.
        found: f32,
    },
    /// `repeat_penalty` is out of range.
    #[error("repeat_penalty: expected a finite number above 0, found {found}")]
    RepeatPenalty {
        /// The value that was given.
        found: f32,
    },
    /// `frequency_penalty` is out of range.
    #[error("frequency_penalty: expected a finite number, found {found}")]
    FrequencyPenalty {
        /// The value that was given.
        found: f32,
    },
    /// `presence_penalty` is out of range.
    #[error("presence_penalty: expected a finite number, found {found}")]
    PresencePenalty {
        /// The value that was given.
        found: f32,
    },
    /// `repeat_last_n` is out of range.
    #[error("repeat_last_n: expected -1 (all) or a count, found {found}")]
    RepeatLastN {
        /// The value that was given.
        found: i32,
    },
    /// `dry_multiplier` is out of range.
    #[error("dry_multiplier: expected a finite number of at least 0, found {found}")]
    DryMultiplier {
        /// The value that was given.
        found: f32,
    },
    /// `dry_base` is out of range.
    #[error("dry_base: expected a finite number of at least 1, found {found}")]
    DryBase {
        /// The value that was given.
        found: f32,
    },
    /// `dry_penalty_last_n` is out of range.
    #[error("dry_penalty_last_n: expected -1 (all) or a count, found {found}")]
    DryPenaltyLastN {
        /// The value that was given.
        found: i32,
    },
    /// A DRY sequence breaker holds no token.
    #[error("dry_sequence_breakers[{index}]: expected at least one token, found none")]
    EmptyDryBreaker {
        /// Position in the list.
        index: usize,
    },
    /// A logit bias is NaN or plus infinity.
    #[error("logit_bias of token {token}: expected a finite number or -inf, found {found}")]
    LogitBias {
        /// The token the bias is for.
        token: u32,
        /// The value that was given.
        found: f32,
    },
    /// `mirostat2.tau` is out of range.
    #[error("mirostat2.tau: expected a finite number of at least 0, found {found}")]
    MirostatTau {
        /// The value that was given.
        found: f32,
    },
    /// `mirostat2.eta` is out of range.
    #[error("mirostat2.eta: expected a finite number of at least 0, found {found}")]
    MirostatEta {
        /// The value that was given.
        found: f32,
    },
    /// A stop string is empty; it would match everywhere.
    #[error("stop strings[{index}]: expected at least one byte, found none")]
    EmptyStopString {
        /// Position in the list.
        index: usize,
    },
    /// A grammar, a schema or the like is wrong.
    #[error("{form}: {what}")]
    Grammar {
        /// What it is.
        form: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Something would be matched only nearly, so it is refused.
    #[error("`{feature}` in {place} is not supported")]
    GrammarFeature {
        /// The keyword or construct.
        feature: String,
        /// Where it stands: a JSON pointer into the schema, or words.
        place: String,
    },
    /// A grammar is too large.
    #[error("{form}: {found} {what}, expected at most {most}")]
    GrammarLimit {
        /// What it is.
        form: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        most: usize,
    },
    /// A grammar is too complex to be compiled in time.
    #[error("{form}: too complex, compiling it takes longer than {millis} ms")]
    GrammarTime {
        /// What it is.
        form: &'static str,
        /// What compiling may take.
        millis: u64,
    },
    /// A text cannot go on by its grammar.
    #[error("the grammar cannot go on: {what}")]
    GrammarStopped {
        /// Why.
        what: String,
    },
}
