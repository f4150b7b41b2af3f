//! Text that comes in: from a flag, a file, or stdin.

use std::{
    fs::{self, File},
    io::{self, BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Args, FromArgMatches, error::ErrorKind, parser::ValueSource};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::error::Error;

/// A text from a flag, a file or stdin. A flag counts before any environment variable; only
/// two flags contradict each other.
#[derive(Debug)]
pub(crate) enum PromptArgs {
    Text(String),
    File(PathBuf),
    Absent,
}

/// A text, or token ids in its place.
#[derive(Debug)]
pub(crate) enum TextOrIds {
    Ids(String),
    Text(PromptArgs),
}

/// Refuses to let a new file take the place of one that is read.
pub(crate) fn refuse_inputs<'a>(
    target: &Path,
    mut read: impl Iterator<Item = &'a Path>,
) -> Result<(), Error> {
    let Ok(target) = fs::canonicalize(target) else {
        return Ok(());
    };
    let is_target = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path == target);
    if read.any(is_target) {
        let message = format!(
            "{}: the file to write is one of those to read",
            target.display()
        );
        return Err(Error::usage(message));
    }
    Ok(())
}

/// Refuses two flags that write the same file.
pub(crate) fn refuse_same_file(
    (flag, path): (&str, Option<&Path>),
    (other_flag, other): (&str, Option<&Path>),
) -> Result<(), Error> {
    if path.is_some() && path.map(place) == other.map(place) {
        let message = format!("{flag} and {other_flag} name the same file");
        return Err(Error::usage(message));
    }
    Ok(())
}

/// Returns where a file lies or will lie, however that is spelled.
fn place(path: &Path) -> PathBuf {
    let beside = || {
        let folder = match path.parent()? {
            folder if folder.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
    };
    let there = fs::canonicalize(path).ok();
    there.or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// What clap sees of [`PromptArgs`].
#[derive(Debug, Args)]
struct PromptFlags {
    /// The text
    #[arg(
        short,
        long,
        value_name = "TEXT",
        env = "APR_PROMPT",
        allow_hyphen_values = true
    )]
    prompt: Option<String>,
    /// File with the text, taken as it is; `-` is stdin
    #[arg(short, long, value_name = "FILE", env = "APR_FILE")]
    file: Option<PathBuf>,
}

/// What clap sees of [`TextOrIds`].
#[derive(Debug, Args)]
struct TextOrIdsFlags {
    #[command(flatten)]
    prompt: PromptFlags,
    /// Token ids instead of a text, separated by commas
    #[arg(long, value_name = "IDS", env = "APR_TOKENS")]
    tokens: Option<String>,
}

/// What control tokens in a text mean.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SpecialArgs {
    /// Take `<|im_end|>` and the like in the text for control tokens, not for characters
    #[arg(long, env = "APR_PARSE_SPECIAL")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) parse_special: bool,
}

impl PromptFlags {
    /// Takes the text that `chosen` names.
    fn choose(self, chosen: Option<&str>) -> PromptArgs {
        match (chosen, self.prompt, self.file) {
            (Some("prompt"), Some(text), _) => PromptArgs::Text(text),
            (Some("file"), _, Some(path)) => PromptArgs::File(path),
            _ => PromptArgs::Absent,
        }
    }
}

impl Args for PromptArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        PromptFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        PromptFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for PromptArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = chosen(matches, &["prompt", "file"])?;
        Ok(PromptFlags::from_arg_matches(matches)?.choose(chosen))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for TextOrIds {
    fn augment_args(command: clap::Command) -> clap::Command {
        TextOrIdsFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        TextOrIdsFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for TextOrIds {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let chosen = chosen(matches, &["tokens", "prompt", "file"])?;
        let flags = TextOrIdsFlags::from_arg_matches(matches)?;
        Ok(match flags.tokens {
            Some(ids) if chosen == Some("tokens") => Self::Ids(ids),
            _ => Self::Text(flags.prompt.choose(chosen)),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns which of the arguments `ids` counts where only one can: the flag, else the first
/// that the environment sets.
pub(crate) fn chosen<'a>(
    matches: &ArgMatches,
    ids: &[&'a str],
) -> Result<Option<&'a str>, clap::Error> {
    let from = |source| {
        let ids = ids.iter().copied();
        ids.filter(move |id| matches.value_source(id) == Some(source))
    };
    let mut flags = from(ValueSource::CommandLine);
    match (flags.next(), flags.next()) {
        (Some(one), Some(other)) => Err(clap::Error::raw(
            ErrorKind::ArgumentConflict,
            format!(
                "--{} cannot be used together with --{}",
                one.replace('_', "-"),
                other.replace('_', "-")
            ),
        )),
        (flag, _) => Ok(flag.or_else(|| from(ValueSource::EnvVariable).next())),
    }
}

impl PromptArgs {
    /// Returns whether no flag gives a text.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Returns the file that the text is read from, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) | Self::Absent => None,
        }
    }

    /// Returns what the text is called: the name of its file, without the folder.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Text(_) => "text".to_owned(),
            Self::File(path) if path != Path::new("-") => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
            Self::File(_) | Self::Absent => "stdin".to_owned(),
        }
    }

    /// Returns the text, from stdin if no flag gives one and something is piped in.
    pub(crate) fn text(&self) -> Result<String, Error> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => read_text(path),
            Self::Absent if io::stdin().is_terminal() => Err(Error::usage(
                "no text: give -p TEXT or -f FILE, or pipe one in",
            )),
            Self::Absent => read_text(Path::new("-")),
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

/// Most bytes of a text: far more than any context holds, far less than an endless file.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a file or, for `-`, stdin.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let (name, bytes) = if path == Path::new("-") {
        let stdin = Path::new("stdin");
        (stdin, read_all(stdin, io::stdin().lock())?)
    } else {
        (path, read_file(path)?)
    };
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        Error::input(
            &name.display().to_string(),
            format!("byte {offset} is no UTF-8"),
        )
    })
}

/// Reads a file that a person may have written.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|error| Error::io(path, "read", error))?;
    read_all(path, file)
}

fn read_all(name: &Path, input: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| Error::io(name, "read", error))?;
    if bytes.len() as u64 == MAX_BYTES {
        let message = format!(
            "longer than {} MiB, which no context holds",
            MAX_BYTES >> 20
        );
        return Err(Error::input(&name.display().to_string(), message));
    }
    Ok(bytes)
}

/// Reads a line with its end, `None` when there is no more.
pub(crate) fn read_line(name: &str, input: &mut impl BufRead) -> Result<Option<String>, Error> {
    let mut line = String::new();
    let read = input.by_ref().take(MAX_BYTES).read_line(&mut line);
    let n = read.map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => Error::input(name, "a line is no UTF-8"),
        _ => Error::Io {
            name: name.to_owned(),
            action: "read",
            source,
        },
    })?;
    if n as u64 == MAX_BYTES {
        let message = format!("a line is longer than {} MiB", MAX_BYTES >> 20);
        return Err(Error::input(name, message));
    }
    Ok((n > 0).then_some(line))
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
