//! `apr tokenize`: text to ids. A GGUF file with a vocabulary and no tensors will do, and a
//! folder without weights.

use std::io;

use clap::{Args, builder::BoolishValueParser};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokenizer::Tokenizer;

use crate::{
    args::ModelArgs,
    engine::Source,
    error::Error,
    input::{self, PromptArgs, SpecialArgs},
    output::Output,
    terminal,
};

/// Flags of the verb.
///
/// Without -p and -f, each line of stdin is an object {"text": …} and gives a line
/// {"ids": […]}.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    special: SpecialArgs,
    /// Print {"ids": […], "pieces": […]} instead of a line per token
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
struct Ids {
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct Tokens<'a> {
    ids: &'a [u32],
    pieces: Vec<&'a str>,
}

pub(crate) fn run(args: &TokenizeArgs) -> Result<(), Error> {
    let source = Source::open(&args.model)?;
    let tokenizer = source.tokenizer()?;
    let mut output = Output::new();
    if args.prompt.is_absent() {
        return for_each_line(|Text { text }| {
            output.json(&Ids {
                ids: args.special.encode(&tokenizer, &text),
            })
        });
    }
    let ids = args.special.encode(&tokenizer, &args.prompt.text()?);
    if args.json {
        return output.json(&Tokens {
            ids: &ids,
            pieces: pieces(&tokenizer, &ids),
        });
    }
    for (id, piece) in ids.iter().zip(pieces(&tokenizer, &ids)) {
        output.line(&format!("{id:>7}  {}", terminal::one_line(piece)))?;
    }
    Ok(())
}

/// The tokens as the vocabulary spells them.
fn pieces<'a>(tokenizer: &'a Tokenizer, ids: &[u32]) -> Vec<&'a str> {
    ids.iter()
        .map(|&id| tokenizer.token_text(id).unwrap_or_default())
        .collect()
}

/// Calls `work` with the object on each line of stdin; empty lines are passed over.
pub(crate) fn for_each_line<T: DeserializeOwned>(
    mut work: impl FnMut(T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut stdin = io::stdin().lock();
    for number in 1.. {
        let name = format!("stdin, line {number}");
        let Some(line) = input::read_line(&name, &mut stdin)? else {
            break;
        };
        if line.trim().is_empty() {
            continue;
        }
        let value = serde_json::from_str(&line).map_err(|error| {
            let hint = "expected one JSON object a line; for plain text use -p or -f -";
            Error::input(&name, format!("{error}; {hint}"))
        })?;
        work(value)?;
    }
    Ok(())
}
