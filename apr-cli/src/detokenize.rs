//! `apr detokenize`: ids to text.

use clap::{Args, builder::BoolishValueParser};
use serde::{Deserialize, Serialize};

use crate::{
    args::ModelArgs, engine::Source, error::Error, input, output::Output, tokenize::for_each_line,
};

/// Flags of the verb.
///
/// Without ids, each line of stdin is an object {"ids": […]} and gives a line {"text": …}.
#[derive(Debug, Args)]
pub(crate) struct DetokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS", env = "APR_TOKENS")]
    tokens: Option<String>,
    /// Print {"text": …}, with U+FFFD for bytes that are no UTF-8, instead of the bytes
    #[arg(long, env = "APR_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

pub(crate) fn run(args: &DetokenizeArgs) -> Result<(), Error> {
    let source = Source::open(&args.model)?;
    let tokenizer = source.tokenizer()?;
    let mut output = Output::new();
    let Some(tokens) = &args.tokens else {
        return for_each_line(|Ids { ids }| {
            output.json(&Text {
                text: tokenizer.decode_lossy(&ids)?,
            })
        });
    };
    let ids = input::parse_ids(tokens)?;
    if args.json {
        return output.json(&Text {
            text: tokenizer.decode_lossy(&ids)?,
        });
    }
    if output.is_terminal() {
        return output.text(&format!("{}\n", tokenizer.decode_lossy(&ids)?));
    }
    output.write(&tokenizer.decode(&ids)?)
}
