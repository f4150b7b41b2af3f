//! Answers held to a grammar: valid whatever the weights and the temperature, the same from the
//! loop over one sequence and from the engine, and with fewer passes than tokens.

use std::sync::{Arc, LazyLock};

use generate::{
    AllGuides, CancelFlag, FinishReason, Generate, GenerateError, GenerationConfig, Generator,
    GrammarGuide, Guide, LateGuide, Request, Step, Task, TextConfig, Thought, ThoughtFirst,
    grammar_vocabulary,
};
use sampler::{Grammar, GrammarPart, GrammarSource, GrammarVocabulary, SamplerConfig};
use serde_json::{Value, json};
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{
    FILE, MODEL, PROMPT,
    generation::TOKENIZER,
    many::{OPTIONS, Told, ask, engine, finish},
    sequence,
};

static VOCABULARY: LazyLock<Arc<GrammarVocabulary>> = LazyLock::new(|| {
    let tokenizer = Tokenizer::from_gguf(FILE.gguf().unwrap().metadata()).unwrap();
    grammar_vocabulary(Arc::new(tokenizer), MODEL.config().n_vocab)
});

fn compile(source: &GrammarSource) -> Arc<Grammar> {
    Grammar::compile(source, &VOCABULARY).unwrap()
}

fn schema(schema: &Value) -> Arc<Grammar> {
    compile(&GrammarSource::JsonSchema(schema.clone()))
}

/// Strict schemas: every answer is bounded, so it is never cut off.
fn schemas() -> [Value; 5] {
    let object = |properties: Value| {
        let required: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
        json!({
            "type": "object", "properties": properties, "required": required,
            "additionalProperties": false,
        })
    };
    let order = object(json!({
        "id": {"type": "integer", "minimum": 1, "maximum": 99_999},
        "status": {"enum": ["open", "paid", "sent \"now\"", "\u{e9}t\u{e9}"]},
        "note": {"type": ["string", "null"], "maxLength": 12},
        "lines": {"type": "array", "minItems": 1, "maxItems": 3, "items": object(json!({
            "sku": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
            "price": {"type": "number", "minimum": 0, "exclusiveMaximum": 100, "multipleOf": 0.25},
        }))},
    }));
    let tree = json!({
        "$defs": {"node": {
            "type": "object", "additionalProperties": false, "required": ["v"],
            "properties": {"v": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
        }},
        "$ref": "#/$defs/node",
    });
    let choice = json!({"anyOf": [
        object(json!({"kind": {"const": "circle"}, "r": {"type": "integer", "minimum": -3, "maximum": 3}})),
        object(json!({"kind": {"const": "text"}, "date": {"type": "string", "format": "date"}})),
    ]});
    let options = json!({
        "type": "object", "additionalProperties": false, "required": ["b"],
        "properties": {
            "a": {"type": "string", "minLength": 2, "maxLength": 4}, "b": {"type": "null"},
            "c": {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}],
                  "items": false, "minItems": 2},
        },
    });
    let list = json!({
        "type": "array", "minItems": 2, "maxItems": 2,
        "items": {"allOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 700}]},
    });
    [order, tree, choice, options, list]
}

fn config(temp: f32, seed: u64) -> GenerationConfig {
    GenerationConfig {
        sampler: SamplerConfig {
            temp,
            seed,
            ..SamplerConfig::neutral()
        },
        n_predict: None,
        stop_tokens: TOKENIZER.end_of_generation().to_vec(),
    }
}

/// What the loop over one sequence says, and why it ends.
fn looped(
    config: &GenerationConfig,
    guide: Box<dyn Guide>,
    n_ctx: usize,
) -> Result<(String, Vec<u32>, FinishReason), GenerateError> {
    let (mut s, cancel) = (sequence(n_ctx, 16), CancelFlag::new());
    s.prefill(&PROMPT, &cancel, &mut |_| ())?;
    let text = TextConfig::default();
    let mut generator = Generator::guided(&TOKENIZER, &s, config, &text, Some(guide))?;
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match generator.step(&mut s, &cancel)? {
            Step::Piece(piece) => {
                text.push_str(&piece.text);
                tokens.push(piece.token);
            }
            Step::Finished { reason, text: rest } => return Ok((text + &rest, tokens, reason)),
        }
    }
}

/// What an engine says of several requests at once, and in how many steps.
fn asked(
    config: &GenerationConfig,
    guides: Vec<Box<dyn Guide>>,
    n_top: Option<usize>,
) -> (Vec<Told>, u64) {
    let mut engine = engine(OPTIONS, std::time::Duration::ZERO);
    let requests = guides.into_iter().map(|guide| {
        let generate = Generate {
            config: config.clone(),
            n_top,
            guide: Some(guide),
            ..Generate::default()
        };
        let request = Request {
            prompt: PROMPT.to_vec(),
            task: Task::Generate(Box::new(generate)),
            use_cache: false,
        };
        ask(&engine, request)
    });
    let asked: Vec<_> = requests.collect();
    finish(&mut engine);
    let told = asked.iter().map(|asked| asked.told()).collect();
    (told, engine.handle().status().n_steps)
}

fn boxed(grammar: &Grammar) -> Box<dyn Guide> {
    Box::new(GrammarGuide::new(grammar))
}

#[test]
fn every_answer_is_valid_at_any_temperature() {
    for (idx, strict) in schemas().iter().enumerate() {
        let (grammar, judge) = (schema(strict), jsonschema::validator_for(strict).unwrap());
        for (seed, temp) in (0..8).zip([0.0, 0.3, 0.7, 1.0, 1.5, 2.0, 5.0, 100.0]) {
            let (text, _, reason) = looped(&config(temp, seed), boxed(&grammar), 2000).unwrap();
            assert!(
                matches!(reason, FinishReason::StopToken(_)),
                "{idx}: {reason:?} {text}"
            );
            let value: Value = serde_json::from_str(&text).unwrap();
            assert!(judge.is_valid(&value), "{idx}: {text}");
        }
    }
}

#[test]
fn loop_and_engine_give_the_same_answer_scored_or_not() {
    let grammar = schema(&schemas()[0]);
    let config = config(1.0, 3);
    let (text, tokens, reason) = looped(&config, boxed(&grammar), 400).unwrap();
    for n_top in [None, Some(2)] {
        let (told, _) = asked(&config, (0..3).map(|_| boxed(&grammar)).collect(), n_top);
        for told in told {
            assert_eq!(
                (&told.text, &told.tokens),
                (&text, &tokens),
                "{:?}",
                told.error
            );
            assert_eq!(told.end, Some(reason));
            assert_eq!(told.scores.len(), n_top.map_or(0, |_| tokens.len()));
        }
    }
}

#[test]
fn what_is_forced_takes_no_pass_of_its_own() {
    let fixed = "a long text that the grammar leaves no choice about. ".repeat(3);
    let strict = json!({
        "type": "object", "additionalProperties": false, "required": ["first", "second"],
        "properties": {"first": {"const": fixed}, "second": {"type": "boolean"}},
    });
    let grammar = schema(&strict);
    let (told, n_steps) = asked(&config(1.0, 1), vec![boxed(&grammar)], None);
    assert!(
        told[0].text.starts_with("{\"first\": \"a long text"),
        "{:?}",
        told[0]
    );
    // The forced stretch is longer than a step may be, and goes into as many as it takes.
    let n_tokens = told[0].tokens.len();
    assert!(
        n_tokens > OPTIONS.batch_len && n_steps <= 8,
        "{n_tokens} in {n_steps}"
    );
    let (told, n_steps) = asked(
        &config(1.0, 1),
        (0..3).map(|_| boxed(&grammar)).collect(),
        None,
    );
    assert!(told.iter().all(|told| told.error.is_none()), "{told:?}");
    assert!(n_steps <= 20, "{n_steps}");
}

#[test]
fn limits_of_length_and_context_hold_within_forced_tokens() {
    let grammar =
        schema(&json!({"const": "a text that is forced from its first to its last byte"}));
    let short = GenerationConfig {
        n_predict: Some(5),
        ..config(1.0, 1)
    };
    let (_, tokens, reason) = looped(&short, boxed(&grammar), 400).unwrap();
    assert_eq!((tokens.len(), reason), (5, FinishReason::Length));
    let (_, tokens, reason) = looped(&config(1.0, 1), boxed(&grammar), 16).unwrap();
    assert_eq!(reason, FinishReason::ContextFull);
    assert_eq!(tokens.len(), 16 - PROMPT.len() + 1);
}

/// Says some tokens first and leaves the rest free.
#[derive(Debug)]
struct Says(Vec<u32>);

impl Says {
    fn text(text: &str) -> Box<Self> {
        Box::new(Self(TOKENIZER.encode(text, SpecialTokens::AsText)))
    }
}

impl Guide for Says {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        Ok(self.0.clone())
    }

    fn mask(&mut self, _: &mut [f32]) -> Result<(), GenerateError> {
        Ok(())
    }

    fn accept(&mut self, token: u32, _: &[u8]) -> Result<(), GenerateError> {
        if !self.0.is_empty() {
            assert_eq!(self.0.remove(0), token);
        }
        Ok(())
    }
}

fn thought(open: Option<u32>) -> Thought {
    Thought {
        open,
        close: "</think>".to_owned(),
        gap: "\n\n".to_owned(),
        must_close: true,
    }
}

fn thought_first(open: Option<u32>, grammar: &Grammar) -> ThoughtFirst {
    ThoughtFirst::new(thought(open), Arc::clone(&VOCABULARY), boxed(grammar))
}

#[test]
fn a_grammar_can_begin_after_a_free_thought() {
    let grammar = schema(&json!({"type": "boolean"}));
    for seed in 0..5 {
        let first = thought_first(None, &grammar);
        let guides = AllGuides::new(vec![Says::text("so </thi</think>"), Box::new(first)]);
        let (text, _, reason) = looped(&config(1.0, seed), Box::new(guides), 400).unwrap();
        assert!(matches!(reason, FinishReason::StopToken(_)));
        let answer = text.strip_prefix("so </thi</think>\n\n").unwrap();
        assert!(["true", "false"].contains(&answer), "{text}");
    }
}

#[test]
fn a_thought_begins_only_where_the_model_wants_it_most() {
    let grammar = schema(&json!({"type": "boolean"}));
    let id = |text: &str| TOKENIZER.encode(text, SpecialTokens::AsText)[0];
    let (open, good, bad) = (id("<"), id("t"), id("x"));
    let ends = TOKENIZER.end_of_generation();
    for (logit, is_wanted) in [(2.0, true), (0.5, false)] {
        let mut guide = thought_first(Some(open), &grammar);
        let mut logits = vec![0.0; MODEL.config().n_vocab];
        logits[bad as usize] = 1.0;
        logits[open as usize] = logit;
        assert!(guide.forced().unwrap().is_empty());
        guide.mask(&mut logits).unwrap();
        assert_eq!(logits[open as usize] > 0.0, is_wanted);
        let masked = (logits[good as usize], logits[bad as usize]);
        assert_eq!(masked, (0.0, f32::NEG_INFINITY));
        let (first, text) = if is_wanted {
            (open, b"<")
        } else {
            (good, b"t")
        };
        guide.accept(first, text).unwrap();
        let mut logits = vec![0.0; MODEL.config().n_vocab];
        guide.mask(&mut logits).unwrap();
        assert_eq!(logits[bad as usize] == 0.0, is_wanted);
        assert!(ends.iter().all(|&id| logits[id as usize] < 0.0));
    }
}

#[test]
fn before_it_begins_a_grammar_forbids_what_reaches_too_far() {
    let grammar = schema(&json!({"const": 7}));
    let ends = TOKENIZER.end_of_generation();
    let masked = |guide: &mut LateGuide| {
        let mut logits = vec![0.0; MODEL.config().n_vocab];
        guide.mask(&mut logits).unwrap();
        logits
    };
    // The first token of two bytes.
    let pair = 256;
    let first = TOKENIZER.token_bytes(pair).unwrap()[0];
    let awaited = format!("~{}", char::from(first));
    let mut guide = LateGuide::whenever(vec![("other", Arc::clone(&grammar)), (&awaited, grammar)]);
    let logits = masked(&mut guide);
    assert!(ends.iter().all(|&id| logits[id as usize] == 0.0));
    assert_eq!(logits[pair as usize], 0.0);
    // Its second byte would be what the grammar is to say.
    guide.accept(0, b"x~").unwrap();
    let logits = masked(&mut guide);
    assert!(logits[pair as usize] < 0.0);
    assert_eq!(logits[usize::from(b'!')], 0.0);
    assert!(!guide.is_at_work());
}

#[test]
fn a_text_that_begins_a_line_may_begin_the_reply() {
    let begun = |pieces: &[&str]| {
        let grammar = schema(&json!({"const": 7}));
        let mut guide = LateGuide::whenever(vec![("\n<f=", grammar)]);
        for piece in pieces {
            guide.accept(0, piece.as_bytes()).unwrap();
        }
        guide.is_at_work()
    };
    assert!(begun(&["<f", "="]));
    assert!(begun(&["x\n", "\n<f="]));
    assert!(!begun(&["x <f", "="]));
}

#[test]
fn a_grammar_recurs_whenever_its_text_appears() {
    let call = GrammarSource::Template(vec![
        GrammarPart::Schema(json!({"type": "boolean"})),
        GrammarPart::Text("</call>".to_owned()),
    ]);
    let mut guide = LateGuide::whenever(vec![("<call>", compile(&call))]);
    for round in 0..2 {
        for byte in "free <call".bytes() {
            guide.accept(0, &[byte]).unwrap();
            assert!(!guide.is_at_work());
        }
        // A token that reaches into the call is taken all the same.
        guide.accept(0, b">tr").unwrap();
        assert!(guide.is_at_work(), "round {round}");
        let mut text = b"tr".to_vec();
        while guide.is_at_work() {
            let forced = guide.forced().unwrap();
            assert!(!forced.is_empty());
            for token in forced {
                let bytes = TOKENIZER.token_bytes(token).unwrap();
                text.extend(bytes);
                guide.accept(token, bytes).unwrap();
            }
        }
        assert_eq!(text, b"true</call>");
    }
}

#[test]
fn a_call_without_its_tag_is_held_to_once_it_is_one_and_where_nothing_was_said() {
    let call = GrammarSource::Template(vec![
        GrammarPart::Text("{\"name\": \"f\", \"arguments\": ".to_owned()),
        GrammarPart::Schema(json!({"const": 7})),
        GrammarPart::Text("}".to_owned()),
    ]);
    let call = compile(&call);
    let guide = || {
        let tagged = LateGuide::whenever(vec![("<call>", schema(&json!({"const": 1})))]);
        tagged.or_first("{\"name\": \"f\", \"arguments\": ", Arc::clone(&call))
    };
    let begun = |guide: &mut LateGuide, text: &str| {
        for byte in text.bytes() {
            guide.accept(0, &[byte]).unwrap();
        }
        guide.is_at_work()
    };
    let text = "\n {\"name\": \"f\", \"arguments\": ";
    for at in 0..text.len() {
        assert!(!begun(&mut guide(), &text[..at]));
    }
    let mut held = guide();
    assert!(begun(&mut held, text));
    let forced = held.forced().unwrap();
    let bytes = forced
        .iter()
        .flat_map(|&id| TOKENIZER.token_bytes(id).unwrap());
    assert_eq!(bytes.copied().collect::<Vec<_>>(), b"7}");
    for id in forced {
        held.accept(id, TOKENIZER.token_bytes(id).unwrap()).unwrap();
    }
    assert!(!held.is_at_work());
    // Behind a call there may be another, behind words there is none.
    assert!(begun(&mut held, text));
    for words in ["So: ", "{", "{\"name\": \"g\", "] {
        assert!(!begun(&mut guide(), &(words.to_owned() + text)), "{words}");
    }
}

#[test]
fn a_token_that_may_not_come_fails_its_request_alone() {
    let grammar = schema(&json!({"type": "boolean"}));
    let wrong: Box<dyn Guide> = Box::new(AllGuides::new(vec![
        Says::text("nonsense"),
        boxed(&grammar),
    ]));
    let (told, _) = asked(&config(1.0, 1), vec![wrong, boxed(&grammar)], None);
    let error = told[0].error.clone().unwrap();
    assert!(error.starts_with("the grammar cannot go on: "), "{error}");
    assert!(["true", "false"].contains(&told[1].text.as_str()));
}
