//! When to stop, and which bytes may already be shown.
//!
//! A stop string may begin in one token and end in another, so bytes that could still
//! become one are held back: the longest suffix of the text that begins a stop string, and
//! nothing more. Each string is followed by its own Knuth–Morris–Pratt automaton, one step
//! per byte, so the work is linear whatever the strings and the text are.
//!
//! The match that ends first wins, the longest of those that end together. That choice
//! needs no byte beyond the match, hence the outcome depends on the text alone and not on
//! how it was cut into tokens. Text is bytes here; a piece may end inside a character.

use crate::error::SamplerError;

/// Why the text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// This stop token came; its piece is no part of the text.
    Token(u32),
    /// The stop string of this index appeared; the text ends before it.
    String(usize),
}

/// What to do after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Show these bytes, at least one, and go on.
    Emit(&'a [u8]),
    /// Show nothing yet and go on.
    Hold,
    /// Show these bytes, perhaps none, and stop.
    Stop {
        /// What ended the text.
        reason: StopReason,
        /// The last bytes of the text.
        bytes: &'a [u8],
    },
}

/// Tokens and strings that end a text. How many tokens are enough is the caller's to count.
#[derive(Debug, Clone, Default)]
pub struct StopRules {
    tokens: Vec<u32>,
    strings: Vec<Pattern>,
}

impl StopRules {
    /// Prepares end-of-generation tokens and stop strings.
    ///
    /// # Errors
    ///
    /// [`SamplerError::EmptyStopString`] for a string without bytes.
    pub fn new<S: AsRef<[u8]>>(tokens: &[u32], strings: &[S]) -> Result<Self, SamplerError> {
        let pattern = |(index, string): (usize, &S)| match string.as_ref() {
            [] => Err(SamplerError::EmptyStopString { index }),
            bytes => Ok(Pattern::new(bytes)),
        };
        Ok(Self {
            tokens: tokens.to_vec(),
            strings: strings
                .iter()
                .enumerate()
                .map(pattern)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The rules at work on one text.
#[derive(Debug, Clone)]
pub struct StopState {
    tokens: Vec<u32>,
    matchers: Vec<Matcher>,
    /// Bytes given out by the last call, then bytes held back.
    buffer: Vec<u8>,
    n_given: usize,
    stopped: Option<StopReason>,
}

impl StopState {
    /// Begins a text.
    #[must_use]
    pub fn new(rules: StopRules) -> Self {
        let matcher = |pattern| Matcher {
            pattern,
            n_matched: 0,
        };
        Self {
            tokens: rules.tokens,
            matchers: rules.strings.into_iter().map(matcher).collect(),
            buffer: Vec::new(),
            n_given: 0,
            stopped: None,
        }
    }

    /// Takes a generated token and its bytes, and says what to do.
    ///
    /// After a stop every further call stops for the same reason, with no bytes.
    pub fn push(&mut self, token: u32, piece: &[u8]) -> Step<'_> {
        self.forget_given();
        if let Some(reason) = self.stopped {
            return Step::Stop { reason, bytes: &[] };
        }
        if self.tokens.contains(&token) {
            return self.stop(StopReason::Token(token));
        }
        for &byte in piece {
            self.buffer.push(byte);
            if let Some((index, len)) = self.advance(byte) {
                self.buffer.truncate(self.buffer.len() - len);
                return self.stop(StopReason::String(index));
            }
        }
        let n_held = self.matchers.iter().map(|m| m.n_matched).max().unwrap_or(0);
        match self.give(self.buffer.len() - n_held) {
            [] => Step::Hold,
            bytes => Step::Emit(bytes),
        }
    }

    /// Ends the text from outside and returns the bytes that were held back.
    pub fn finish(&mut self) -> &[u8] {
        self.forget_given();
        for matcher in &mut self.matchers {
            matcher.n_matched = 0;
        }
        self.give(self.buffer.len())
    }

    /// Returns why the text ended, if it did.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.stopped
    }

    /// Moves every automaton on; returns index and length of the longest that is complete.
    fn advance(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut complete: Option<(usize, usize)> = None;
        for (index, matcher) in self.matchers.iter_mut().enumerate() {
            matcher.n_matched = matcher.pattern.next(matcher.n_matched, byte);
            let len = matcher.pattern.bytes.len();
            if matcher.n_matched == len && complete.is_none_or(|(_, longest)| len > longest) {
                complete = Some((index, len));
            }
        }
        complete
    }

    fn stop(&mut self, reason: StopReason) -> Step<'_> {
        self.stopped = Some(reason);
        let bytes = self.give(self.buffer.len());
        Step::Stop { reason, bytes }
    }

    fn give(&mut self, n: usize) -> &[u8] {
        self.n_given = n;
        &self.buffer[..n]
    }

    fn forget_given(&mut self) {
        self.buffer.drain(..self.n_given);
        self.n_given = 0;
    }
}

/// A stop string as an automaton; a state is the number of its bytes that are matched.
#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// `borders[n]`: the longest proper suffix of the first n + 1 bytes that is a prefix.
    borders: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Matcher {
    pattern: Pattern,
    n_matched: usize,
}

impl Pattern {
    fn new(bytes: &[u8]) -> Self {
        let mut pattern = Self {
            bytes: bytes.to_vec(),
            borders: vec![0],
        };
        let mut border = 0;
        for &byte in &bytes[1..] {
            border = pattern.next(border, byte);
            pattern.borders.push(border);
        }
        pattern
    }

    /// Returns the state after `byte`; `state` is not yet complete.
    fn next(&self, mut state: usize, byte: u8) -> usize {
        while state > 0 && self.bytes[state] != byte {
            state = self.borders[state - 1];
        }
        state + usize::from(self.bytes[state] == byte)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(tokens: &[u32], strings: &[&str]) -> StopState {
        StopState::new(StopRules::new(tokens, strings).unwrap())
    }

    #[test]
    fn without_strings_nothing_is_held() {
        let mut s = state(&[], &[]);
        assert_eq!(s.push(1, b"one"), Step::Emit(b"one"));
        assert_eq!(s.push(2, b""), Step::Hold);
        assert_eq!(s.finish(), b"");
    }

    #[test]
    fn stop_token_gives_what_was_held_and_not_its_piece() {
        let mut s = state(&[7, 9], &["</s>"]);
        assert_eq!(s.push(1, b"a<"), Step::Emit(b"a"));
        let reason = StopReason::Token(9);
        assert_eq!(
            s.push(9, b"<|im_end|>"),
            Step::Stop {
                reason,
                bytes: b"<"
            }
        );
        assert_eq!(s.push(1, b"more"), Step::Stop { reason, bytes: b"" });
        assert_eq!(s.stopped(), Some(reason));
        assert_eq!(s.finish(), b"");
    }

    #[test]
    fn string_is_found_across_tokens() {
        let mut s = state(&[], &["\nUser:"]);
        assert_eq!(s.push(1, b"Hello\n"), Step::Emit(b"Hello"));
        assert_eq!(s.push(2, b"Us"), Step::Hold);
        assert_eq!(s.push(3, b"ing\nUse"), Step::Emit(b"\nUsing"));
        let reason = StopReason::String(0);
        assert_eq!(s.push(4, b"r: hi"), Step::Stop { reason, bytes: b"" });
    }

    #[test]
    fn only_the_possible_beginning_is_held() {
        let mut s = state(&[], &["abab!"]);
        assert_eq!(s.push(1, b"xabab"), Step::Emit(b"x"));
        assert_eq!(s.push(2, b"ab"), Step::Emit(b"ab"));
        assert_eq!(s.push(3, b"c"), Step::Emit(b"ababc"));
        assert_eq!(s.push(4, b"a"), Step::Hold);
        assert_eq!(s.finish(), b"a");
        assert_eq!(s.finish(), b"");
    }

    #[test]
    fn match_that_ends_first_wins_however_the_text_is_cut() {
        let reason = StopReason::String(1);
        let mut s = state(&[], &["abcd", "bc"]);
        assert_eq!(
            s.push(1, b"abcd"),
            Step::Stop {
                reason,
                bytes: b"a"
            }
        );
        let mut s = state(&[], &["abcd", "bc"]);
        assert_eq!(s.push(1, b"a"), Step::Hold);
        assert_eq!(s.push(1, b"b"), Step::Hold);
        assert_eq!(
            s.push(1, b"c"),
            Step::Stop {
                reason,
                bytes: b"a"
            }
        );
    }

    #[test]
    fn longest_wins_of_those_that_end_together() {
        let mut s = state(&[], &["c", "abc", "bc"]);
        let reason = StopReason::String(1);
        assert_eq!(
            s.push(1, b"xabc"),
            Step::Stop {
                reason,
                bytes: b"x"
            }
        );
    }

    #[test]
    fn characters_may_be_cut() {
        let mut s = state(&[], &["é"]);
        assert_eq!(s.push(1, &[b'a', 0xc3]), Step::Emit(b"a"));
        let reason = StopReason::String(0);
        assert_eq!(s.push(2, &[0xa9]), Step::Stop { reason, bytes: b"" });
    }

    #[test]
    fn empty_string_is_an_error() {
        let error = StopRules::new(&[], &["a", ""]).unwrap_err();
        assert_eq!(error, SamplerError::EmptyStopString { index: 1 });
    }

    /// The text before the match that ends first, and the index of the longest such match.
    fn naive(text: &[u8], strings: &[Vec<u8>]) -> (Vec<u8>, Option<usize>) {
        for end in 0..=text.len() {
            let here = (0..strings.len()).filter(|&i| text[..end].ends_with(&strings[i]));
            if let Some(i) = here.max_by_key(|&i| (strings[i].len(), usize::MAX - i)) {
                return (text[..end - strings[i].len()].to_vec(), Some(i));
            }
        }
        (text.to_vec(), None)
    }

    fn n_held_naive(text: &[u8], strings: &[Vec<u8>]) -> usize {
        let prefixes = strings.iter().flat_map(|s| (1..s.len()).map(|n| &s[..n]));
        prefixes
            .filter(|p| text.ends_with(p))
            .map(<[u8]>::len)
            .max()
            .unwrap_or(0)
    }

    fn small_text(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(b'a'..b'd', len)
    }

    proptest! {
        #[test]
        fn outcome_depends_on_the_text_alone(
            strings in prop::collection::vec(small_text(1..6), 0..4),
            pieces in prop::collection::vec(small_text(0..5), 0..20),
        ) {
            let text = pieces.concat();
            let (expected, index) = naive(&text, &strings);
            let mut s = StopState::new(StopRules::new(&[], &strings).unwrap());
            let (mut shown, mut seen) = (Vec::new(), 0);
            for piece in &pieces {
                seen += piece.len();
                match s.push(0, piece) {
                    Step::Emit(bytes) => {
                        prop_assert!(!bytes.is_empty());
                        shown.extend_from_slice(bytes);
                    }
                    Step::Hold => {}
                    Step::Stop { bytes, .. } => {
                        shown.extend_from_slice(bytes);
                        break;
                    }
                }
                prop_assert_eq!(seen - shown.len(), n_held_naive(&text[..seen], &strings));
            }
            prop_assert_eq!(s.stopped(), index.map(StopReason::String));
            shown.extend_from_slice(s.finish());
            prop_assert_eq!(shown, expected);
        }
    }
}
