//! Grammars made to hurt end in an error, or work, and soon.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use sampler::{Grammar, GrammarSource, GrammarTokens, GrammarVocabulary, Next, SamplerError};
use serde_json::{Value, json};

/// All bytes, all pairs of letters, and the end of a text.
struct Tokens(Vec<Vec<u8>>);

impl GrammarTokens for Tokens {
    fn n_vocab(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self, id: u32) -> &[u8] {
        &self.0[id as usize]
    }

    fn is_control(&self, id: u32) -> bool {
        id as usize == self.0.len() - 1
    }

    fn ends(&self) -> Vec<u32> {
        vec![self.0.len() as u32 - 1]
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }
}

static VOCABULARY: LazyLock<Arc<GrammarVocabulary>> = LazyLock::new(|| {
    let bytes = (0..=255).map(|byte| vec![byte]);
    let letters = b'a'..=b'z';
    let pairs = letters
        .clone()
        .flat_map(|a| (b'a'..=b'z').map(move |b| vec![a, b]));
    let mut tokens: Vec<_> = bytes.chain(pairs).collect();
    tokens.push(b"<|end|>".to_vec());
    Arc::new(GrammarVocabulary::new(Arc::new(Tokens(tokens))))
});

/// Compiles a grammar and, if that works, goes twenty tokens along it.
fn attempt(source: &GrammarSource) -> Result<(), SamplerError> {
    let mut matcher = Grammar::compile(source, &VOCABULARY)?.matcher();
    for _ in 0..20 {
        let token = match matcher.upcoming()? {
            Next::Forced(tokens) => tokens[0],
            Next::OneOf(mask) => (0..900).rev().find(|&id| mask.contains(id)).unwrap(),
            Next::End => return Ok(()),
        };
        matcher.accept(token)?;
        if token == VOCABULARY.ends()[0] {
            return Ok(());
        }
    }
    Ok(())
}

fn nested(levels: usize, around: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!({}), |inner, _| around(inner))
}

/// Each definition stands twice in the one before it.
fn doubling(keyword: &str) -> Value {
    let definition = |n: usize| {
        let reference = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        json!({keyword: [reference.clone(), reference], "type": "object"})
    };
    let mut defs: serde_json::Map<_, _> =
        (0..40).map(|n| (format!("d{n}"), definition(n))).collect();
    defs.insert(
        "d40".to_owned(),
        json!({"type": "object", "properties": {"a": {}}}),
    );
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

fn words(n: usize) -> Vec<Value> {
    (0..n).map(|n| json!(format!("word {n}"))).collect()
}

fn nested_schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "deep properties",
            nested(500, |inner| json!({"properties": {"a": inner}})),
        ),
        ("deep items", nested(60, |inner| json!({"items": inner}))),
        (
            "deep anyOf",
            nested(25, |inner| json!({"anyOf": [inner, {"type": "null"}]})),
        ),
        (
            "deep allOf",
            nested(25, |inner| json!({"allOf": [inner, {"type": "object"}]})),
        ),
        ("reference to itself", json!({"$ref": "#"})),
        (
            "circle",
            json!({
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a",
            }),
        ),
        (
            "circle with siblings",
            json!({
                "$defs": {"a": {"$ref": "#/$defs/b", "type": "object"},
                          "b": {"$ref": "#/$defs/a", "type": "object"}},
                "$ref": "#/$defs/a",
            }),
        ),
        (
            "endless value",
            json!({
                "type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"],
            }),
        ),
    ]
}

fn large_schemas() -> Vec<(&'static str, Value)> {
    let optional: serde_json::Map<_, _> = (0..5000).map(|n| (format!("p{n}"), json!({}))).collect();
    let options: Vec<_> = words(60).iter().map(|w| json!({"const": w})).collect();
    let product = json!({"anyOf": options});
    vec![
        ("doubled anyOf", doubling("anyOf")),
        ("doubled allOf", doubling("allOf")),
        ("doubled oneOf", doubling("oneOf")),
        ("product of anyOf", json!({"allOf": vec![product; 6]})),
        ("70,000 words", json!({"enum": words(70_000)})),
        ("10,000 words", json!({"enum": words(10_000)})),
        (
            "10,000 objects",
            json!({
                "enum": words(3_000).iter().map(|w| json!({"a": w})).collect::<Vec<_>>(),
            }),
        ),
        (
            "many alternatives",
            json!({"oneOf": words(3_000).iter()
            .map(|w| json!({"properties": {"a": {"const": w}}})).collect::<Vec<_>>()}),
        ),
        ("5,000 optional properties", json!({"properties": optional})),
    ]
}

fn patterns() -> Vec<(&'static str, Value)> {
    vec![
        (
            "catastrophic pattern",
            json!({"type": "string", "pattern": "^(a+)+$"}),
        ),
        (
            "alternating pattern",
            json!({"type": "string", "pattern": "^(a|a?)*(a|b|ab)*$"}),
        ),
        (
            "counted pattern",
            json!({"type": "string", "pattern": "^((a{0,500}){0,500}){0,500}$"}),
        ),
        (
            "far pattern",
            json!({"type": "string", "pattern": "a.{900}b"}),
        ),
        (
            "exploding pattern",
            json!({"type": "string", "pattern": "^(.*a.{20}b.*c.{20}d)$"}),
        ),
        (
            "two patterns",
            json!({"allOf": [
                {"type": "string", "pattern": "a.{18}$"}, {"type": "string", "pattern": "b.{17}$"},
                {"type": "string", "pattern": "^(..)*$"}, {"type": "string", "pattern": "^(...)*$"},
            ]}),
        ),
        (
            "wide pattern",
            json!({"type": "string", "pattern": r"^(\p{L}{1,300}\s){1,300}$"}),
        ),
        (
            "patterns of names",
            json!({"patternProperties": (0..60)
            .map(|n| (format!("^a.*{n}.*b$"), json!({}))).collect::<serde_json::Map<_, _>>()}),
        ),
    ]
}

fn bounds() -> Vec<(&'static str, Value)> {
    vec![
        (
            "huge length",
            json!({"type": "string", "maxLength": 1_000_000_000_000_u64}),
        ),
        (
            "long length",
            json!({"type": "string", "minLength": 90_000, "maxLength": 100_000}),
        ),
        (
            "huge number of items",
            json!({"type": "array", "minItems": 4_000_000_000_u64}),
        ),
        (
            "many items",
            json!({"type": "array", "minItems": 99_000, "items": {"const": 1}}),
        ),
        (
            "huge bounds",
            json!({"type": "number", "minimum": -1e308, "maximum": 1e308}),
        ),
        (
            "odd bounds",
            json!({
                "type": "number", "minimum": -123_456_789.012_345_6, "maximum": 987_654_321.098_765_4,
                "multipleOf": 0.000_1,
            }),
        ),
        (
            "odd multiple",
            json!({"type": "integer", "multipleOf": 4_294_967_291_u64}),
        ),
        ("broken reference", json!({"$ref": "#/$defs/none"})),
        (
            "numbers for names",
            json!({"required": [1, 2], "properties": 7, "type": {}}),
        ),
    ]
}

fn texts() -> Vec<(&'static str, GrammarSource)> {
    let lark = |text: String| GrammarSource::Lark(text);
    let gbnf = |text: String| GrammarSource::Gbnf(text);
    let deep = |n: usize| format!("{}\"a\"{}", "(".repeat(n), ")".repeat(n));
    let doubled = |define: &str, last: &str| {
        let rules = (0..40).map(|n| format!("r{n} {define} r{} r{}\n", n + 1, n + 1));
        format!("{}r40 {define} {last}\n", rules.collect::<String>())
    };
    vec![
        ("deep Lark", lark(format!("start: {}", deep(100_000)))),
        ("deep GBNF", gbnf(format!("root ::= {}", deep(100_000)))),
        ("endless Lark", lark("start: start".to_owned())),
        ("endless GBNF", gbnf("root ::= root".to_owned())),
        (
            "left and right",
            gbnf("root ::= root root | \"a\" | ".to_owned()),
        ),
        (
            "doubled Lark",
            lark(format!("start: r0\n{}", doubled(":", "\"a\""))),
        ),
        (
            "doubled GBNF",
            gbnf(format!("root ::= r0\n{}", doubled("::=", "\"a\"?"))),
        ),
        (
            "doubled terminals",
            lark(format!(
                "start: R0\n{}",
                doubled(":", "\"a\"")
                    .to_uppercase()
                    .replace("\"A\"", "\"a\""),
            )),
        ),
        (
            "counted GBNF",
            gbnf("root ::= (((\"a\"{0,2000}){0,2000}){0,2000}){0,2000}".to_owned()),
        ),
        (
            "counted Lark",
            lark("start: A{0,1000000000}\nA: \"a\"".to_owned()),
        ),
        (
            "many rules",
            gbnf(
                (0..5000)
                    .map(|n| format!("r{n} ::= [a-z]* r{}\n", (n + 1) % 5000))
                    .collect::<String>()
                    + "root ::= r0",
            ),
        ),
        (
            "many meetings",
            gbnf(format!("root ::= ({}[a-z])*", "[a-z] | ".repeat(1400))),
        ),
        ("many bytes", gbnf("#".repeat(1 << 20))),
    ]
}

fn expressions() -> Vec<(&'static str, GrammarSource)> {
    vec![
        (
            "deep expression",
            GrammarSource::Regex(format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000),)),
        ),
        (
            "deep stars",
            GrammarSource::Regex(format!("a{}", "*".repeat(100_000))),
        ),
        (
            "counted expression",
            GrammarSource::Regex("((a{1000}){1000}){1000}".to_owned()),
        ),
        (
            "exploding expression",
            GrammarSource::Regex("(.*a.{30})".to_owned()),
        ),
        ("slashes", GrammarSource::Regex("a/\nstart: /b".to_owned())),
        (
            "70,000 choices",
            GrammarSource::Choice((0..70_000).map(|n| format!("choice {n}")).collect()),
        ),
        (
            "5,000 choices",
            GrammarSource::Choice((0..5_000).map(|n| format!("choice {n}")).collect()),
        ),
    ]
}

#[test]
fn no_source_breaks_it_and_errors_are_one_line() {
    let schemas = [nested_schemas(), large_schemas(), patterns(), bounds()].into_iter();
    let schemas = schemas
        .flatten()
        .map(|(name, schema)| (name, GrammarSource::JsonSchema(schema)));
    for (name, source) in schemas.chain(texts()).chain(expressions()) {
        if let Err(error) = attempt(&source) {
            eprintln!("{name}: {error}");
            let message = error.to_string();
            assert!(
                message.len() < 600 && !message.contains('\n'),
                "{name}: {message}"
            );
            assert!(!message.contains("panic"), "{name}: {message}");
        }
    }
}
