//! Flags that hold the answer to a form, and the grammar they ask for.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};
use generate::{FinishReason, GrammarGuide, Guide, grammar_vocabulary};
use sampler::{Grammar, GrammarSource};

use crate::{
    engine::Engine,
    error::Error,
    input::{chosen, read_text},
    terminal,
};

/// What the answer is held to, and by which flag. A flag counts before any environment
/// variable; only two flags contradict each other.
#[derive(Debug)]
pub(crate) enum GrammarArgs {
    Absent,
    Text(&'static str, String),
    File(&'static str, PathBuf),
    Choice(Vec<String>),
}

const SCHEMA: &str = "--json-schema";
const SCHEMA_FILE: &str = "--json-schema-file";
const GRAMMAR: &str = "--grammar";
const GRAMMAR_FILE: &str = "--grammar-file";
const REGEX: &str = "--regex";

/// What clap sees of [`GrammarArgs`].
#[derive(Debug, Args)]
#[command(next_help_heading = "Form of the answer")]
struct GrammarFlags {
    /// JSON schema that the answer is valid by; `{}` is any JSON object
    #[arg(
        short,
        long,
        value_name = "SCHEMA",
        env = "APR_JSON_SCHEMA",
        allow_hyphen_values = true
    )]
    json_schema: Option<String>,
    /// File with a JSON schema
    #[arg(long, value_name = "FILE", env = "APR_JSON_SCHEMA_FILE")]
    json_schema_file: Option<PathBuf>,
    /// Grammar of the answer, in GBNF; in Lark if its first line is `%llguidance {}`
    #[arg(
        long,
        value_name = "GRAMMAR",
        env = "APR_GRAMMAR",
        allow_hyphen_values = true
    )]
    grammar: Option<String>,
    /// File with a grammar
    #[arg(long, value_name = "FILE", env = "APR_GRAMMAR_FILE")]
    grammar_file: Option<PathBuf>,
    /// Regular expression that matches the whole answer
    #[arg(
        long,
        value_name = "EXPRESSION",
        env = "APR_REGEX",
        allow_hyphen_values = true
    )]
    regex: Option<String>,
    /// Text that the answer may be; repeated, one of several
    #[arg(
        long,
        value_name = "TEXT",
        env = "APR_CHOICE",
        allow_hyphen_values = true
    )]
    choice: Vec<String>,
}

const IDS: [&str; 6] = [
    "json_schema",
    "json_schema_file",
    "grammar",
    "grammar_file",
    "regex",
    "choice",
];

impl Args for GrammarArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        GrammarFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        GrammarFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for GrammarArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = chosen(matches, &IDS)?;
        let flags = GrammarFlags::from_arg_matches(matches)?;
        let text = |flag, text: Option<String>| text.map(|text| Self::Text(flag, text));
        let file = |flag, path: Option<PathBuf>| path.map(|path| Self::File(flag, path));
        let grammar = match chosen {
            Some("json_schema") => text(SCHEMA, flags.json_schema),
            Some("json_schema_file") => file(SCHEMA_FILE, flags.json_schema_file),
            Some("grammar") => text(GRAMMAR, flags.grammar),
            Some("grammar_file") => file(GRAMMAR_FILE, flags.grammar_file),
            Some("regex") => text(REGEX, flags.regex),
            Some("choice") => Some(Self::Choice(flags.choice)),
            _ => None,
        };
        Ok(grammar.unwrap_or(Self::Absent))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl GrammarArgs {
    /// Returns what guides an answer that ends with one of `stop_tokens`.
    pub(crate) fn guide(
        &self,
        engine: &Engine<'_>,
        stop_tokens: &[u32],
    ) -> Result<Option<Box<dyn Guide>>, Error> {
        let Some((flag, source)) = self.source()? else {
            return Ok(None);
        };
        if stop_tokens.is_empty() {
            let why = match engine.tokenizer.end_of_generation() {
                [] => "the model has no token that ends an answer",
                _ => "with --ignore-eos no answer could end where its form does",
            };
            return Err(Error::usage(format!("{flag}: {why}")));
        }
        let n_vocab = engine.model.config().n_vocab;
        let vocabulary = grammar_vocabulary(engine.tokenizer.clone(), n_vocab);
        let grammar = Grammar::compile(&source, &vocabulary);
        let grammar = grammar.map_err(|error| {
            let error = error.to_string();
            // The flag has said it.
            let what = error.strip_prefix("choice: ").unwrap_or(&error);
            Error::usage(format!("{flag}: {what}"))
        })?;
        Ok(Some(Box::new(GrammarGuide::new(&grammar))))
    }

    /// Says that an answer may not have its form, if it was not the form that ended it.
    pub(crate) fn note_end(&self, reason: FinishReason) {
        let is_cut = matches!(reason, FinishReason::Length | FinishReason::ContextFull);
        if is_cut && !matches!(self, Self::Absent) {
            terminal::say("note: the answer was cut off, so its form may be incomplete");
        }
    }

    fn source(&self) -> Result<Option<(&'static str, GrammarSource)>, Error> {
        let (flag, text) = match self {
            Self::Absent => return Ok(None),
            Self::Choice(texts) => {
                return Ok(Some(("--choice", GrammarSource::Choice(texts.clone()))));
            }
            Self::Text(flag, text) => (*flag, text.clone()),
            Self::File(flag, path) => (*flag, read_text(path)?),
        };
        let source = match flag {
            SCHEMA | SCHEMA_FILE => schema(flag, &text)?,
            REGEX => GrammarSource::Regex(text),
            _ => GrammarSource::grammar(&text),
        };
        Ok(Some((flag, source)))
    }
}

/// Reads a schema. One that says nothing asks for an object, as in llama.cpp.
fn schema(flag: &str, text: &str) -> Result<GrammarSource, Error> {
    let schema: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Error::usage(format!("{flag}: no JSON: {error}")))?;
    Ok(match schema.as_object() {
        Some(members) if members.is_empty() => GrammarSource::JsonObject,
        _ => GrammarSource::JsonSchema(schema),
    })
}
