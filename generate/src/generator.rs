//! A loop over tokens and the text they make, for one sequence.

use tokenizer::Tokenizer;

use crate::{
    CancelFlag, FinishReason, GenerateError, GenerationConfig, Guide, Sequence, TextConfig,
    TextStream, TokenLoop, TokenStep,
};

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
    text: TextStream,
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
        Self::guided(tokenizer, sequence, config, text, None)
    }

    /// As [`new`](Self::new), with a guide that says what may come next.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn guided(
        tokenizer: &'t Tokenizer,
        sequence: &Sequence<'_>,
        config: &GenerationConfig,
        text: &TextConfig,
        guide: Option<Box<dyn Guide>>,
    ) -> Result<Self, GenerateError> {
        Ok(Self {
            tokenizer,
            tokens: TokenLoop::guided(sequence, config, guide)?,
            text: TextStream::new(text)?,
            ended: None,
        })
    }

    /// Computes the next token and its text.
    ///
    /// # Errors
    /// As [`TokenLoop::step`], and if the guide cannot go on.
    pub fn step(
        &mut self,
        sequence: &mut Sequence<'_>,
        cancel: &CancelFlag,
    ) -> Result<Step, GenerateError> {
        if let Some(reason) = self.ended {
            let text = self.text.finish();
            return Ok(Step::Finished { reason, text });
        }
        let step = self
            .tokens
            .guided_step(sequence, cancel, Some(self.tokenizer));
        match step? {
            TokenStep::Token(token) => {
                let text = self.text.push(self.tokenizer, token);
                self.ended = self.text.stopped();
                Ok(Step::Piece(Piece { token, text }))
            }
            TokenStep::Finished(reason) => {
                let text = self.text.finish();
                Ok(Step::Finished { reason, text })
            }
        }
    }
}
