//! Compiling within limits of size, memory and time.
//!
//! llguidance counts what it builds and stops at the limits below, which is soon. They do not
//! count all of its work, so the time is limited too: the compiler has a thread of its own, with
//! a stack that its recursion cannot fill, and who waits for it waits less than a second.

use std::{
    panic::AssertUnwindSafe,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use llguidance::{
    Matcher, ParserFactory,
    api::{GrammarInit, ParserLimits, TopLevelGrammar},
    panic_utils::catch_unwind,
};

use super::{GrammarVocabulary, Next, invalid, matcher::find_next};
use crate::SamplerError;

/// The most bytes of a grammar that is a text.
pub(super) const MAX_SOURCE_BYTES: usize = 256 << 10;

/// What compiling may take.
const TIME: Duration = Duration::from_millis(800);

/// Of address space; only what recursion uses becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// How many steps a new grammar is tried for.
const PROBE_LEN: usize = 16;

/// Compilers at work at a time, those among them that nobody waits for any more: their memory
/// is bounded together.
const MAX_COMPILERS: usize = 2;

/// What llguidance may use per grammar and per token.
pub(super) fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 100_000,
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Makes what matches a text from its beginning, and says about how many bytes it takes.
pub(super) fn within_limits(
    grammar: TopLevelGrammar,
    vocabulary: &Arc<GrammarVocabulary>,
    form: &'static str,
) -> Result<(Matcher, usize), SamplerError> {
    // The tables of a vocabulary are made once and no grammar's fault.
    vocabulary.factory()?;
    let vocabulary = Arc::clone(vocabulary);
    let (result, compiled) = sync_channel(1);
    let work = move || {
        let _place = Place::take();
        let (matcher, n_bytes) = match vocabulary.factory() {
            Ok(factory) => matcher(grammar, factory),
            Err(error) => return drop(result.send(Err(error))),
        };
        // A parser that nobody waits for is dropped here.
        let checked = check(matcher, form);
        drop(result.send(checked.map(|matcher| (matcher, n_bytes))));
    };
    let thread = thread::Builder::new()
        .name("apr-grammar-compile".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work);
    if let Err(error) = thread {
        return Err(invalid(form, format!("no thread to compile it: {error}")));
    }
    match compiled.recv_timeout(TIME) {
        Ok(compiled) => compiled,
        Err(RecvTimeoutError::Timeout) => Err(SamplerError::GrammarTime {
            form,
            millis: TIME.as_millis() as u64,
        }),
        Err(RecvTimeoutError::Disconnected) => Err(invalid(form, "its compiler broke off")),
    }
}

/// Makes a matcher, in which an error may be, and says about how many bytes it takes.
fn matcher(grammar: TopLevelGrammar, factory: &ParserFactory) -> (Matcher, usize) {
    /// Of a symbol with its rules, before those that can be left out are.
    const SYMBOL_BYTES: usize = 512;
    let env = Some(factory.tok_env().clone());
    let mut n_bytes = 0;
    let read = GrammarInit::Serialized(grammar);
    let read = catch_unwind(AssertUnwindSafe(|| read.to_internal(env, limits())));
    let parser = read.and_then(|(grammar, lexemes)| {
        n_bytes = grammar.num_symbols() * SYMBOL_BYTES;
        factory.create_parser_from_init_default(GrammarInit::Internal(grammar, lexemes))
    });
    if let Ok(parser) = &parser {
        n_bytes += parser.parser.lexer_stats().num_bytes;
    }
    (Matcher::new(parser), n_bytes)
}

/// Checks that there is a grammar and that a text can go along it. The first steps are the
/// dearest of many grammars, so most of what is too complex is found here.
fn check(matcher: Matcher, form: &'static str) -> Result<Matcher, SamplerError> {
    if let Some(error) = matcher.get_error() {
        return Err(invalid(form, said(&error)));
    }
    let mut probe = Box::new(matcher.deep_clone());
    for _ in 0..PROBE_LEN {
        let (at, next) = find_next(probe, true).map_err(|error| match error {
            SamplerError::GrammarStopped { what } => invalid(form, what),
            other => other,
        })?;
        probe = at;
        let tokens = match next {
            Next::Forced(tokens) => tokens,
            Next::OneOf(mask) => mask.first().into_iter().collect(),
            Next::End => break,
        };
        if let Err(error) = probe.consume_tokens(&tokens) {
            return Err(invalid(form, said(&error.to_string())));
        }
    }
    Ok(matcher)
}

/// Returns what an error of llguidance says, without the listings that may follow.
pub(super) fn said(error: &str) -> String {
    let mut lines = error.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && *line != "<non-verbose/>");
    let first = match first {
        None | Some("NoExtensionBias") => "no text fulfils it",
        Some(first) => first,
    };
    let first = first.strip_prefix("panic: ").unwrap_or(first);
    // Advice to authors of llguidance's own grammars.
    let advice = first.find("; try ").or_else(|| first.find("; consider "));
    let mut said = first[..advice.unwrap_or(first.len())].to_owned();
    // The parser of regular expressions shows the place before it says what is wrong there.
    if let Some(reason) = lines.find_map(|line| line.strip_prefix("error: "))
        && said.ends_with(':')
    {
        said.push(' ');
        said.push_str(reason);
    }
    if let Some((end, _)) = said.char_indices().nth(200) {
        said.truncate(end);
        said.push('…');
    }
    said
}

/// One of the [`MAX_COMPILERS`] places.
struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = LEFT.wait_while(taken, |taken| *taken >= MAX_COMPILERS);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        LEFT.notify_one();
    }
}
