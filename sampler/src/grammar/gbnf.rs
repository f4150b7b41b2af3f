//! llama.cpp's GBNF, brought into Lark.
//!
//! GBNF describes characters, with no lexer between them and the rules, while llguidance cuts a
//! text into lexemes first and takes the longest. So each character becomes a lexeme of its own,
//! which changes nothing about the language. Only a set of characters that may be repeated
//! without end is taken in runs, for speed, and only where no other character set that could
//! come at the same place shares a character with it: there the longest run is the only one.

mod expand;
mod lark;
mod parse;
mod runs;
mod set;

use crate::SamplerError;

/// Returns the Lark grammar of a GBNF grammar.
pub(super) fn to_lark(text: &str) -> Result<String, SamplerError> {
    let mut grammar = parse::parse(text)?;
    expand::expand(&mut grammar);
    let positions = runs::Positions::of(&grammar);
    Ok(lark::write(&grammar, &positions))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        parse::{Gbnf, Node},
        *,
    };
    use crate::{
        GrammarSource,
        grammar::testing::{accepts, compile},
    };

    /// Returns where a node can end that begins at `at`.
    fn ends(grammar: &Gbnf, node: &Node, text: &[char], at: usize) -> BTreeSet<usize> {
        match node {
            Node::Set(place) => {
                let set = &grammar.sets[*place];
                let fits = |&&c: &&char| set.overlaps(&set::CharSet::one(c as u32));
                text.get(at)
                    .filter(fits)
                    .map(|_| at + 1)
                    .into_iter()
                    .collect()
            }
            Node::Rule(rule) => ends(grammar, &grammar.rules[*rule], text, at),
            Node::Sequence(nodes) => nodes.iter().fold([at].into(), |starts, node| {
                let all = starts.iter().flat_map(|&at| ends(grammar, node, text, at));
                all.collect()
            }),
            Node::OneOf(nodes) => {
                let all = nodes.iter().flat_map(|node| ends(grammar, node, text, at));
                all.collect()
            }
            Node::Repeat { node, least, most } => {
                let (mut all, mut starts) = (BTreeSet::new(), BTreeSet::from([at]));
                for n in 0..=most.unwrap_or(text.len() as u32 + least) {
                    if n >= *least {
                        all.extend(&starts);
                    }
                    let next = starts.iter().flat_map(|&at| ends(grammar, node, text, at));
                    starts = next.collect();
                }
                all
            }
        }
    }

    /// All texts over some characters, up to a length.
    fn texts(alphabet: &str, most: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut begin = 0;
        for _ in 0..most {
            let end = texts.len();
            for idx in begin..end {
                let longer = alphabet.chars().map(|c| format!("{}{c}", texts[idx]));
                let longer: Vec<_> = longer.collect();
                texts.extend(longer);
            }
            begin = end;
        }
        texts
    }

    #[test]
    fn the_language_is_that_of_the_grammar_to_the_letter() {
        // Lexers that take the longest would lose words of most of these.
        let cases = [
            (r#"root ::= "a" "b" | "ab" "c""#, "abc"),
            (r#"root ::= "a" "b" "c" | [a-b]+ "d""#, "abcd"),
            (r#"root ::= [ab]* "a" "b""#, "abc"),
            ("root ::= x+ \"c\"\nx ::= [ab] | \"d\" [abd]", "abcd"),
            ("root ::= \"a\" root \"b\" | \"c\"?", "abc"),
            ("root ::= ([a-c]* \"d\"){1,2}", "abd"),
            ("root ::= (\"a\" | \"ab\")* [^b]?", "abé"),
            ("root ::= ws \"a\" ws\nws ::= ([ \\n] ws)?", "a \n"),
            ("root ::= . [^é]{2} | \"\\u00e9\"", "aéb"),
            ("root ::= \"a\"* | \"a\"{3} \"b\"", "ab"),
            (
                "root ::= x{1,3} \"ab\"? y*\nx ::= [ab]\ny ::= x \"c\"",
                "abc",
            ),
        ];
        for (text, alphabet) in cases {
            let grammar = parse::parse(text).unwrap();
            let root = &grammar.rules[grammar.root];
            let compiled = compile(&GrammarSource::Gbnf(text.to_owned())).unwrap();
            for word in texts(alphabet, 5) {
                let chars: Vec<_> = word.chars().collect();
                let expected = ends(&grammar, root, &chars, 0).contains(&chars.len());
                assert_eq!(accepts(&compiled, &word), expected, "{text}: {word:?}");
            }
        }
    }

    #[test]
    fn strings_are_taken_in_runs_where_only_one_set_fits() {
        let json = r#"
            root   ::= "\"" char* "\"" # a string
            char   ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})
        "#;
        let lark = to_lark(json).unwrap();
        assert_eq!(lark.matches("+/").count(), 1, "{lark}");
        let mixed = to_lark("root ::= [a-z]+ \"x\"").unwrap();
        assert!(!mixed.contains("+/"), "{mixed}");
    }

    #[test]
    fn errors_name_line_and_column() {
        let cases = [
            ("root ::= \"a", "line 1, column 12: expected `\"`"),
            ("root ::= [a", "line 1, column 12: expected `]`"),
            ("root ::= (\"a\"", "line 1, column 14: expected `)`"),
            ("root = \"a\"", "line 1, column 6: expected `::=`"),
            ("x ::= \"a\"", "there is no rule `root`"),
            ("root ::= y", "there is no rule `y`"),
            (
                "root ::= \"a\"\nroot ::= \"b\"",
                "rule `root` is there twice",
            ),
            (
                "root ::= \"a\"{3,2}",
                "line 1, column 18: expected a second count",
            ),
            ("root ::= \"a\"{9999}", "expected a count of at most 2000"),
            ("root ::= \"\\q\"", "unknown escape `\\q` before here"),
            ("root ::= [z-a]", "expected a range in ascending order"),
            (
                "root ::= \"a\" )",
                "line 1, column 14: expected the end of a line",
            ),
            ("root ::= \"\\ud800\"", "expected 4 digits of a character"),
        ];
        for (text, expected) in cases {
            let error = to_lark(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(99), ")".repeat(99));
        assert!(
            to_lark(&deep)
                .unwrap_err()
                .to_string()
                .contains("levels of groups")
        );
        let error = to_lark("root ::= <think>").unwrap_err().to_string();
        assert_eq!(error, "`<token>` in a GBNF grammar is not supported");
    }
}
