//! From tokens to text: stop strings, whole characters, and what is not shown.

use sampler::{Step, StopReason, StopRules, StopState};
use tokenizer::{DecodeStream, Tokenizer};

use crate::{FinishReason, GenerateError};

/// How tokens become text.
#[derive(Clone, Debug, Default)]
pub struct TextConfig {
    /// Texts that end the continuation; they are no part of it.
    pub stop_strings: Vec<String>,
    /// Whether control tokens are shown by their names. Otherwise they are no text.
    pub show_control: bool,
}

/// The text of one continuation as it grows.
#[derive(Debug)]
pub(crate) struct TextStream {
    stop: StopState,
    decode: DecodeStream,
    show_control: bool,
}

impl TextStream {
    /// Begins a text.
    ///
    /// # Errors
    /// A stop string is empty.
    pub(crate) fn new(config: &TextConfig) -> Result<Self, GenerateError> {
        Ok(Self {
            stop: StopState::new(StopRules::new(&[], &config.stop_strings)?),
            decode: DecodeStream::new(),
            show_control: config.show_control,
        })
    }

    /// Takes the next token and returns the characters that are complete and beyond doubt.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        // Ids beyond the vocabulary exist where the matrix has more rows; they are no text.
        let is_shown = self.show_control || !tokenizer.is_control(token);
        let bytes = tokenizer.token_bytes(token).filter(|_| is_shown);
        match self.stop.push(token, bytes.unwrap_or_default()) {
            Step::Emit(bytes) | Step::Stop { bytes, .. } => self.decode.push(bytes),
            Step::Hold => String::new(),
        }
    }

    /// Returns which stop string has ended the text, if one has.
    pub(crate) fn stopped(&self) -> Option<FinishReason> {
        self.stop.stopped().map(|reason| match reason {
            StopReason::Token(token) => FinishReason::StopToken(token),
            StopReason::String(idx) => FinishReason::StopString(idx),
        })
    }

    /// Ends the text and returns what was held back.
    pub(crate) fn finish(&mut self) -> String {
        let mut text = String::new();
        if self.stop.stopped().is_none() {
            text.push_str(&self.decode.push(self.stop.finish()));
        }
        text.push_str(&self.decode.finish());
        text
    }
}
