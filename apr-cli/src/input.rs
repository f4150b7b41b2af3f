//! Text that comes in: from a flag, a file, or stdin.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::error::Error;

/// A text from a flag or a file.
#[derive(Debug, Args)]
pub(crate) struct PromptArgs {
    /// The text
    #[arg(
        short,
        long,
        value_name = "TEXT",
        env = "APR_PROMPT",
        allow_hyphen_values = true
    )]
    pub(crate) prompt: Option<String>,
    /// File with the text, taken as it is; `-` is stdin
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "APR_FILE",
        conflicts_with = "prompt"
    )]
    pub(crate) file: Option<PathBuf>,
}

/// What control tokens in a text mean.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SpecialArgs {
    /// Take `<|im_end|>` and the like in the text for control tokens, not for characters
    #[arg(long, env = "APR_PARSE_SPECIAL")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) parse_special: bool,
}

impl PromptArgs {
    /// Returns whether no flag gives a text.
    pub(crate) const fn is_absent(&self) -> bool {
        self.prompt.is_none() && self.file.is_none()
    }

    /// Returns the text, from stdin if no flag gives one and something is piped in.
    pub(crate) fn text(&self) -> Result<String, Error> {
        if let Some(prompt) = &self.prompt {
            return Ok(prompt.clone());
        }
        match &self.file {
            Some(path) => read_text(path),
            None if io::stdin().is_terminal() => Err(Error::usage(
                "no text: give -p TEXT or -f FILE, or pipe one in",
            )),
            None => read_text(Path::new("-")),
        }
    }
}

impl SpecialArgs {
    /// Returns the ids of a text, with the beginning that the model expects.
    pub(crate) fn encode(self, tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let special = if self.parse_special {
            SpecialTokens::Recognise
        } else {
            SpecialTokens::AsText
        };
        let mut ids = Vec::new();
        ids.extend(
            tokenizer
                .bos()
                .filter(|_| tokenizer.adds_bos() && !text.is_empty()),
        );
        ids.extend(tokenizer.encode(text, special));
        ids
    }
}

/// Reads a file or, for `-`, stdin.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let stdin = Path::new("stdin");
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(stdin, "read", e))?;
        (stdin, bytes)
    } else {
        (
            path,
            fs::read(path).map_err(|error| Error::io(path, "read", error))?,
        )
    };
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Error::input(
            &name.display().to_string(),
            format!("byte {offset} is no UTF-8"),
        )
    })
}

/// Reads ids separated by commas or white space.
pub(crate) fn parse_ids(text: &str) -> Result<Vec<u32>, Error> {
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().map_err(|_| {
                let word = word.escape_debug();
                Error::usage(format!(
                    "token id `{word}`: expected an integer from 0 to {}",
                    u32::MAX
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_separated_by_commas_or_space() {
        assert_eq!(parse_ids(" 1,2, 3\n4 ").unwrap(), [1, 2, 3, 4]);
        assert!(parse_ids("").unwrap().is_empty());
        let error = parse_ids("1,-2").unwrap_err();
        assert!(error.to_string().starts_with("token id `-2`"), "{error}");
    }
}
