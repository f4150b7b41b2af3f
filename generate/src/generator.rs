//! From tokens to text: stop strings, whole characters, and what is not shown.

use sampler::{Step as StopStep, StopReason, StopRules, StopState};
use tokenizer::{DecodeStream, Tokenizer};

use crate::{
    CancelFlag, FinishReason, GenerateError, GenerationConfig, Sequence, TokenLoop, TokenStep,
};

/// How tokens become text.
#[derive(Clone, Debug, Default)]
pub struct TextConfig {
    /// Texts that end the continuation; they are no part of it.
    pub stop_strings: Vec<String>,
    /// Whether control tokens are shown by their names. Otherwise they are no text.
    pub show_control: bool,
}

/// A token and the text that is complete with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token.
    pub token: u32,
    /// Whole characters, perhaps none: a character or a stop string may still be open.
    pub text: String,
}

/// What a step of a [`Generator`] gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next token.
    Piece(Piece),
    /// Nothing more will come.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Text that was held back until now.
        text: String,
    },
}

/// Continues a prompt as text. See the crate's documentation for an example.
#[derive(Debug)]
pub struct Generator<'t> {
    tokenizer: &'t Tokenizer,
    tokens: TokenLoop,
    stop: StopState,
    decode: DecodeStream,
    show_control: bool,
    /// A stop string ended the text with the piece that was given out last.
    ended: Option<FinishReason>,
}

impl<'t> Generator<'t> {
    /// Begins to continue what is in `sequence`.
    ///
    /// # Errors
    /// A setting of the sampler is out of its range, or a stop string is empty.
    pub fn new(
        tokenizer: &'t Tokenizer,
        sequence: &Sequence<'_>,
        config: &GenerationConfig,
        text: &TextConfig,
    ) -> Result<Self, GenerateError> {
        Ok(Self {
            tokenizer,
            tokens: TokenLoop::new(sequence, config)?,
            stop: StopState::new(StopRules::new(&[], &text.stop_strings)?),
            decode: DecodeStream::new(),
            show_control: text.show_control,
            ended: None,
        })
    }

    /// Computes the next token and its text.
    ///
    /// # Errors
    /// As [`TokenLoop::step`].
    pub fn step(
        &mut self,
        sequence: &mut Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Result<Step, GenerateError> {
        if let Some(reason) = self.ended {
            return Ok(Step::Finished {
                reason,
                text: self.decode.finish(),
            });
        }
        match self.tokens.step(sequence, cancel)? {
            TokenStep::Token(token) => Ok(Step::Piece(self.piece(token))),
            TokenStep::Finished(reason) => {
                let mut text = self.decode.push(self.stop.finish());
                text.push_str(&self.decode.finish());
                Ok(Step::Finished { reason, text })
            }
        }
    }

    fn piece(&mut self, token: u32) -> Piece {
        // Ids beyond the vocabulary exist where the matrix has more rows; they are no text.
        let is_shown = self.show_control || !self.tokenizer.is_control(token);
        let bytes = self.tokenizer.token_bytes(token).filter(|_| is_shown);
        let text = match self.stop.push(token, bytes.unwrap_or_default()) {
            StopStep::Emit(bytes) => self.decode.push(bytes),
            StopStep::Hold => String::new(),
            StopStep::Stop { reason, bytes } => {
                self.ended = Some(match reason {
                    StopReason::Token(token) => FinishReason::StopToken(token),
                    StopReason::String(idx) => FinishReason::StopString(idx),
                });
                self.decode.push(bytes)
            }
        };
        Piece { token, text }
    }
}
