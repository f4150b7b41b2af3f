//! Cuts text into the pieces within which bytes are merged.
//!
//! Qwen2 and Qwen3 cut with one regular expression: contractions, words with at most one
//! character before them, single digits, runs of signs, line ends, white space. It ends in
//! `\s+(?!\S)|\s+`, so of a run of white space the last character goes to the word that
//! follows. The look-ahead is the only part that a linear-time engine cannot express, and
//! here it is a rule on the match: if a run of white space without line end is followed by
//! something else, it gives its last character back. Hence the time is linear in the text,
//! whatever the text is.

use std::sync::LazyLock;

use regex::Regex;

/// The expression as `tokenizer.json` spells it.
pub(crate) const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The part of [`QWEN2_PATTERN`] that looks ahead.
const LOOK_AHEAD: &str = r"|\s+(?!\S)";

static WITHOUT_LOOK_AHEAD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&QWEN2_PATTERN.replace(LOOK_AHEAD, "")).expect("the pattern is a constant")
});

/// Iterates over the pieces of `text`, which together are `text`.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == text.len() {
            return None;
        }
        let end = WITHOUT_LOOK_AHEAD
            .find_at(text, start)
            .map_or(text.len(), |found| found.end());
        let piece = &text[start..end];
        let piece = give_back(piece, end == text.len());
        start += piece.len();
        Some(piece)
    })
}

/// Shortens white space that something follows by its last character.
fn give_back(piece: &str, at_end: bool) -> &str {
    let mut chars = piece.chars();
    let Some(last) = chars.next_back() else {
        return piece;
    };
    let rest = chars.as_str();
    let shortens = !at_end
        && !rest.is_empty()
        && !matches!(last, '\r' | '\n')
        && piece.chars().all(char::is_whitespace);
    if shortens { rest } else { piece }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::tokenizer::pattern::Pattern;
    use tokenizers::utils::SysRegex;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        pieces(text).collect()
    }

    #[test]
    fn the_pattern_looks_ahead_in_one_place() {
        assert_eq!(QWEN2_PATTERN.matches(LOOK_AHEAD).count(), 1);
        assert_eq!(QWEN2_PATTERN.matches("(?!").count(), 1);
    }

    #[test]
    fn words_digits_signs_and_white_space() {
        struct Case {
            text: &'static str,
            pieces: &'static [&'static str],
        }
        let cases = [
            Case {
                text: "",
                pieces: &[],
            },
            Case {
                text: "I'LL go",
                pieces: &["I", "'LL", " go"],
            },
            Case {
                text: "a 123",
                pieces: &["a", " ", "1", "2", "3"],
            },
            Case {
                text: "a   b",
                pieces: &["a", "  ", " b"],
            },
            Case {
                text: "a   ",
                pieces: &["a", "   "],
            },
            Case {
                text: "a \n  b",
                pieces: &["a", " \n", " ", " b"],
            },
            Case {
                text: "x!?\n\ny",
                pieces: &["x", "!?\n\n", "y"],
            },
            Case {
                text: "\u{3000}\u{3000}1",
                pieces: &["\u{3000}", "\u{3000}", "1"],
            },
            Case {
                text: "Ⅷ",
                pieces: &["Ⅷ"],
            },
        ];
        for Case { text, pieces } in cases {
            assert_eq!(cut(text), pieces, "{text:?}");
        }
    }

    #[test]
    fn a_long_run_of_white_space_is_one_piece_and_one_character() {
        let text = " ".repeat(2_000_000) + "a";
        let lengths: Vec<usize> = pieces(&text).map(str::len).collect();
        assert_eq!(lengths, [1_999_999, 2]);
    }

    proptest! {
        #[test]
        fn pieces_equal_those_of_the_backtracking_engine(
            text in r"([ \t\n\r\u{3000}]|[a-z]|'s|'Ll|[0-9½Ⅷ]|[!.#]|é|e\u{301}|東|🙂|\PC){0,40}"
        ) {
            let regex = SysRegex::new(QWEN2_PATTERN).unwrap();
            let expected: Vec<&str> = (&regex)
                .find_matches(&text)
                .unwrap()
                .into_iter()
                .map(|((start, end), _)| &text[start..end])
                .filter(|piece| !piece.is_empty())
                .collect();
            prop_assert_eq!(cut(&text), expected);
        }
    }
}
