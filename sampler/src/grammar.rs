//! Grammars: which tokens may come next so that the whole text is of a given form.
//!
//! A [`Grammar`] is compiled once from a [`GrammarSource`] and a [`GrammarVocabulary`], and is
//! shared; each text has a [`GrammarMatcher`] of its own. The work is `llguidance`'s: a lexer of
//! regular-expression derivatives under an Earley parser, walked over a trie of all tokens. What
//! this module adds are limits that no source can exceed, names for what is refused, compact
//! white space, llama.cpp's GBNF, and a thread that computes ahead.
//!
//! JSON has exactly one blank after each comma and colon and none elsewhere, as Python's
//! `json.dumps` writes it and as models have read it: no model can run away in blanks, and most
//! of an object is forced.

mod calendar;
mod compile;
mod gbnf;
mod kept;
mod matcher;
mod schema;
mod template;
mod vocabulary;
mod worker;
mod written_out;

#[cfg(test)]
mod testing;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use self::kept::Fresh;
use crate::SamplerError;

pub use matcher::{GrammarMatcher, Next, TokenMask};
pub use template::{FreeText, GrammarPart};
pub use vocabulary::{GrammarTokens, GrammarVocabulary};

/// What a text is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarSource {
    /// Any JSON object.
    JsonObject,
    /// A JSON value for which this schema holds.
    JsonSchema(Value),
    /// What llguidance's dialect of Lark describes, beginning with its rule `start`.
    Lark(String),
    /// What llama.cpp's GBNF describes, beginning with its rule `root`.
    Gbnf(String),
    /// What a regular expression matches from beginning to end.
    Regex(String),
    /// One of some texts.
    Choice(Vec<String>),
    /// Parts, one after the other.
    Template(Vec<GrammarPart>),
}

/// A grammar, compiled for one vocabulary.
pub struct Grammar {
    /// As it is before the first token.
    fresh: Fresh,
    vocabulary: Arc<GrammarVocabulary>,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// Compiles a grammar. It takes less than a second whatever the source, and most take a few
    /// milliseconds; the first of a vocabulary has to wait for the vocabulary's own tables. The
    /// vocabulary keeps those that were asked for last, as far as they are small.
    ///
    /// # Errors
    /// [`SamplerError::GrammarFeature`] names what a schema asks for and cannot get,
    /// [`SamplerError::GrammarLimit`] a limit that the source exceeds, and
    /// [`SamplerError::Grammar`] says what else is wrong with it.
    pub fn compile(
        source: &GrammarSource,
        vocabulary: &Arc<GrammarVocabulary>,
    ) -> Result<Arc<Self>, SamplerError> {
        let grammar = source.to_llguidance()?;
        let fresh = Self::fresh(grammar, vocabulary, source.form())?;
        Ok(Arc::new(Self {
            fresh,
            vocabulary: Arc::clone(vocabulary),
        }))
    }

    fn fresh(
        grammar: TopLevelGrammar,
        vocabulary: &Arc<GrammarVocabulary>,
        form: &'static str,
    ) -> Result<Fresh, SamplerError> {
        let written = serde_json::to_string(&grammar);
        let written = written.map_err(|error| invalid(form, error.to_string()))?;
        if let Some(fresh) = vocabulary.kept().find(&written) {
            return Ok(fresh);
        }
        let (fresh, n_bytes) = compile::within_limits(grammar, vocabulary, form)?;
        let fresh = Arc::new(Mutex::new(fresh));
        vocabulary.kept().keep(written, &fresh, n_bytes);
        Ok(fresh)
    }

    /// Begins a text.
    #[must_use]
    pub fn matcher(&self) -> GrammarMatcher {
        // What others have computed is not shared: how far one text comes must not depend on
        // another's having used up the room for the lexer's states.
        let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        GrammarMatcher::new(fresh.deep_clone(), &self.vocabulary)
    }

    /// Returns the vocabulary that it was compiled for.
    #[must_use]
    pub const fn vocabulary(&self) -> &Arc<GrammarVocabulary> {
        &self.vocabulary
    }
}

impl GrammarSource {
    /// Takes the text of a grammar for what it is: Lark if it begins with a line `%llguidance {}`,
    /// GBNF otherwise, as llama.cpp does.
    #[must_use]
    pub fn grammar(text: &str) -> Self {
        let lines = text.trim_start().split_once('\n');
        match lines {
            Some((first, lark)) if is_header(first) => Self::Lark(lark.to_owned()),
            _ => Self::Gbnf(text.to_owned()),
        }
    }

    /// Returns what the source is called in errors.
    const fn form(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "JSON schema",
            Self::Lark(_) => "Lark grammar",
            Self::Gbnf(_) => "GBNF grammar",
            Self::Regex(_) => "regular expression",
            Self::Choice(_) => "choice",
            Self::Template(_) => "template",
        }
    }

    fn to_llguidance(&self) -> Result<TopLevelGrammar, SamplerError> {
        Ok(match self {
            Self::JsonObject => {
                TopLevelGrammar::from_json_schema(schema::prepare(&json!({"type": "object"}))?)
            }
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema::prepare(schema)?),
            Self::Lark(text) => {
                within(self.form(), "bytes", text.len(), compile::MAX_SOURCE_BYTES)?;
                written_out::check_lark(text)?;
                TopLevelGrammar::from_lark(text.clone())
            }
            Self::Gbnf(text) => {
                within(self.form(), "bytes", text.len(), compile::MAX_SOURCE_BYTES)?;
                TopLevelGrammar::from_lark(gbnf::to_lark(text)?)
            }
            Self::Regex(text) => {
                within(self.form(), "bytes", text.len(), compile::MAX_SOURCE_BYTES)?;
                if text.is_empty() {
                    return Err(invalid(self.form(), "it is empty"));
                }
                written_out::check_regex(self.form(), text)?;
                TopLevelGrammar::from_regex(text)
            }
            Self::Choice(texts) => TopLevelGrammar::from_regex(&template::choice(texts)?),
            Self::Template(parts) => TopLevelGrammar::from_lark(template::to_lark(parts)?),
        })
    }
}

fn is_header(line: &str) -> bool {
    let options = line.strip_prefix("%llguidance").map(str::trim);
    matches!(options, Some("" | "{}"))
}

fn invalid(form: &'static str, what: impl Into<String>) -> SamplerError {
    SamplerError::Grammar {
        form,
        what: what.into(),
    }
}

/// Checks that there are no more of something than may be.
fn within(
    form: &'static str,
    what: &'static str,
    found: usize,
    most: usize,
) -> Result<(), SamplerError> {
    if found <= most {
        return Ok(());
    }
    Err(SamplerError::GrammarLimit {
        form,
        what,
        found,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{END, accepts, after, compile},
        *,
    };

    fn schema(schema: Value) -> GrammarSource {
        GrammarSource::JsonSchema(schema)
    }

    fn compiled(source: &GrammarSource) -> Arc<Grammar> {
        compile(source).unwrap()
    }

    #[test]
    fn json_has_one_blank_after_commas_and_colons_and_no_other() {
        let person = schema(json!({
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"], "additionalProperties": false, "type": "object",
        }));
        let person = compiled(&person);
        assert!(accepts(&person, r#"{"name": "é\n", "age": 12}"#));
        for text in [
            r#"{"name":"é", "age": 12}"#,
            r#"{"name": "é","age": 12}"#,
            r#"{ "name": "é", "age": 12}"#,
            r#"{"name": "é", "age": 12 }"#,
            r#"{"age": 12, "name": "é"}"#,
            r#"{"name": "é"}"#,
            r#"{"name": "\u0061", "age": 12}"#,
        ] {
            assert!(!accepts(&person, text), "{text}");
        }
        let any = compiled(&GrammarSource::JsonObject);
        assert!(accepts(&any, r#"{"a": [1, {"b": null}], "c": -1.5e3}"#));
        assert!(!accepts(&any, "[]"));
        let key_twice = compiled(&schema(json!({"properties": {"a": {"const": 1}}})));
        assert!(!accepts(&key_twice, r#"{"\u0061": 2}"#));
    }

    #[test]
    fn what_was_compiled_before_is_shared_and_its_texts_are_not() {
        let source = GrammarSource::Regex("shared|apart".to_owned());
        let first = compiled(&source);
        let again = compiled(&source);
        assert!(Arc::ptr_eq(&first.fresh, &again.fresh));
        let other = compiled(&GrammarSource::Regex("shared|apart!".to_owned()));
        assert!(!Arc::ptr_eq(&first.fresh, &other.fresh));
        let mut one = first.matcher();
        one.accept(u32::from(b's')).unwrap();
        assert!(again.matcher().accept(u32::from(b'a')).is_ok());
        assert!(one.accept(u32::from(b'a')).is_err());
    }

    #[test]
    fn every_form_of_source_is_matched() {
        let cases = [
            (GrammarSource::Regex(r"\d{2}/x?".to_owned()), "12/", "1/"),
            (
                GrammarSource::Choice(vec!["ab".to_owned(), "abc\n\"".to_owned()]),
                "abc\n\"",
                "abc",
            ),
            (
                GrammarSource::Choice(vec!["ab".to_owned(), "abcd".to_owned()]),
                "ab",
                "a",
            ),
            (
                GrammarSource::grammar("%llguidance {}\nstart: \"a\" NUMBER\nNUMBER: /[0-9]+/"),
                "a12",
                "a",
            ),
            (GrammarSource::grammar("root ::= \"a\" [0-9]+"), "a12", "a"),
            (
                GrammarSource::Template(vec![
                    GrammarPart::Text("<call>".to_owned()),
                    GrammarPart::OneOf(vec![
                        vec![GrammarPart::Schema(json!({"const": 1}))],
                        vec![
                            GrammarPart::Text("p=".to_owned()),
                            GrammarPart::Until(FreeText::up_to("</p>")),
                        ],
                    ]),
                    GrammarPart::List {
                        item: vec![GrammarPart::Text("!".to_owned())],
                        separator: ",".to_owned(),
                    },
                ]),
                "<call>p=a<b</p</p>!,!",
                "<call>2",
            ),
        ];
        for (source, right, wrong) in cases {
            let grammar = compiled(&source);
            assert!(accepts(&grammar, right), "{source:?}");
            assert!(!accepts(&grammar, wrong), "{source:?}");
        }
    }

    #[test]
    fn a_free_text_is_as_long_as_it_may_be_and_without_what_it_may_not_hold() {
        let source = GrammarSource::Template(vec![
            GrammarPart::Until(FreeText {
                end: "\n</p>".to_owned(),
                without: vec!["<p>".to_owned(), r"</f\s*>".to_owned()],
                min_len: 2,
                max_len: Some(9),
            }),
            GrammarPart::Text("!".to_owned()),
        ]);
        let grammar = compiled(&source);
        for text in ["ab\n</p>!", "<p \n</p\n</p>!", "éééé\n\nééé\n</p>!"] {
            assert!(accepts(&grammar, text), "{text}");
        }
        for text in [
            "a\n</p>!",
            "0123456789\n</p>!",
            "a<p>\n</p>!",
            "a</f \n>\n</p>!",
        ] {
            assert!(!accepts(&grammar, text), "{text}");
        }
    }

    #[test]
    fn what_must_come_is_forced_as_the_tokenizer_writes_it() {
        let source = schema(json!({
            "properties": {"name": {"type": "boolean"}}, "required": ["name"],
            "additionalProperties": false, "type": "object",
        }));
        let mut matcher = compile(&source).unwrap().matcher();
        let forced = matcher.forced().unwrap();
        let vocabulary = testing::vocabulary();
        let text: Vec<u8> = forced
            .iter()
            .flat_map(|&id| vocabulary.bytes(id).to_vec())
            .collect();
        assert_eq!(text, b"{\"name\": ", "{forced:?}");
        assert!(forced.len() < text.len() / 2);
        for id in forced {
            matcher.accept(id).unwrap();
        }
        assert!(matcher.forced().unwrap().is_empty());
        matcher.prepare();
        let Next::OneOf(mask) = matcher.upcoming().unwrap().clone() else {
            panic!("true or false");
        };
        let mut logits = vec![0.5; END as usize + 3];
        mask.apply(&mut logits);
        let allowed: Vec<_> = (0..logits.len()).filter(|&id| logits[id] == 0.5).collect();
        assert_eq!(allowed, [usize::from(b'f'), usize::from(b't'), 262]);
        matcher.accept(262).unwrap();
        assert_eq!(matcher.forced().unwrap(), [u32::from(b'}')]);
        matcher.accept(u32::from(b'}')).unwrap();
        assert!(matcher.is_complete());
        assert_eq!(matcher.forced().unwrap(), [END]);
        matcher.accept(END).unwrap();
        let error = matcher.forced().unwrap_err().to_string();
        assert_eq!(error, "the grammar cannot go on: the text has ended");
    }

    #[test]
    fn a_text_may_end_only_where_it_is_complete() {
        let source = GrammarSource::Regex("a+b?".to_owned());
        for (text, may_end) in [("", false), ("a", true), ("aab", true)] {
            let mut matcher = after(&compiled(&source), text).unwrap();
            let ends = match matcher.upcoming().unwrap() {
                Next::OneOf(mask) => mask.contains(END),
                next => matches!(next, Next::End),
            };
            assert_eq!(ends, may_end, "{text}");
        }
    }

    #[test]
    fn dates_and_times_are_those_of_the_calendar() {
        let date = json!({"type": "string", "format": "date"});
        let cases = [
            (date.clone(), "2024-02-29", true),
            (date.clone(), "2000-02-29", true),
            (date.clone(), "2023-12-31", true),
            (date.clone(), "2023-02-28", true),
            (date.clone(), "2023-02-29", false),
            (date.clone(), "1900-02-29", false),
            (date.clone(), "2024-02-30", false),
            (date.clone(), "2024-04-31", false),
            (date, "0000-01-01", false),
            (
                json!({"format": "date-time", "type": "string"}),
                "1996-02-29T23:59:59.5Z",
                true,
            ),
            (
                json!({"format": "date-time", "type": "string"}),
                "1997-02-29T23:59:59Z",
                false,
            ),
            (
                json!({"format": "time", "type": "string"}),
                "23:59:59+01:00",
                true,
            ),
            (
                json!({"format": "time", "type": "string"}),
                "23:59:60Z",
                false,
            ),
            (
                json!({"type": "string", "format": "date", "pattern": "^2"}),
                "2024-02-29",
                true,
            ),
            (
                json!({"type": "string", "format": "date", "pattern": "^2"}),
                "2023-02-29",
                false,
            ),
            (
                json!({"type": "string", "format": "date", "pattern": "^2"}),
                "1996-02-29",
                false,
            ),
        ];
        for (format, text, is_one) in cases {
            let day = schema(json!({
                "properties": {"const": format}, "required": ["const"],
                "additionalProperties": false, "type": "object",
            }));
            let text = format!("{{\"const\": \"{text}\"}}");
            assert_eq!(accepts(&compiled(&day), &text), is_one, "{text} {format}");
        }
    }

    #[test]
    fn control_tokens_are_no_text() {
        let source = GrammarSource::Regex("(?s:.*)".to_owned());
        let mut matcher = compile(&source).unwrap().matcher();
        assert!(matcher.accept(END).is_ok());
        let source = GrammarSource::Regex("(?s:.+)".to_owned());
        let mut matcher = compile(&source).unwrap().matcher();
        assert!(matcher.accept(END).is_err());
        assert!(after(&compiled(&source), "<|end|>").is_some());
    }

    #[test]
    fn errors_say_what_is_wrong_in_one_line() {
        let cases = [
            (
                GrammarSource::Lark("begin: \"a\"".to_owned()),
                "Lark grammar: ",
            ),
            (
                GrammarSource::Lark("start: %json {}".to_owned()),
                "`%json` in a Lark grammar is not supported",
            ),
            (
                GrammarSource::Regex("a(".to_owned()),
                "regular expression: at 1(8): invalid regex \"a(\" (in regex): regex parse error: \
                 unclosed group",
            ),
            (
                GrammarSource::Regex("(?=a)b".to_owned()),
                "regular expression: ",
            ),
            (
                GrammarSource::Regex(String::new()),
                "regular expression: it is empty",
            ),
            (GrammarSource::Choice(Vec::new()), "choice: it has no texts"),
            (
                GrammarSource::Choice(vec!["a".to_owned(), String::new()]),
                "choice: text 1 is empty",
            ),
            (
                schema(json!({"oneOf": [{"minimum": 1}, {"maximum": 2}]})),
                "JSON schema: oneOf",
            ),
            (
                schema(json!({"type": "string", "format": "iri-template"})),
                "JSON schema: Unknown format: iri-template",
            ),
            (
                schema(json!({"type": "integer", "minimum": 2, "maximum": 1})),
                "JSON schema: ",
            ),
            (schema(json!({"pattern": "(?!a)b"})), "JSON schema: "),
            (
                schema(json!({"type": "strin"})),
                "JSON schema: Invalid type: strin",
            ),
        ];
        for (source, expected) in cases {
            let error = compile(&source).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n') && !error.contains("panic"), "{error}");
        }
    }
}
