//! Transcripts of models mean what they are expected to mean, wherever they are cut.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use proptest::{prelude::*, sample::Index};
use reply_parser::{
    CallForm, Ending, ReasoningStart, Reply, ReplyEvent, ReplyFormat, ReplyParser, Tool, ToolCall,
    call_id,
};
use serde_json::{Map, Value};

const SEED: &str = "chatcmpl-1";

const FILES: [(&str, &str); 9] = [
    (
        "hermes_calls",
        include_str!("data/corpus__hermes_calls.json"),
    ),
    (
        "hermes_slips",
        include_str!("data/corpus__hermes_slips.json"),
    ),
    ("hermes_cut", include_str!("data/corpus__hermes_cut.json")),
    (
        "hermes_prose",
        include_str!("data/corpus__hermes_prose.json"),
    ),
    ("coder_calls", include_str!("data/corpus__coder_calls.json")),
    ("coder_types", include_str!("data/corpus__coder_types.json")),
    ("coder_slips", include_str!("data/corpus__coder_slips.json")),
    ("reasoning", include_str!("data/corpus__reasoning.json")),
    ("no_tools", include_str!("data/corpus__no_tools.json")),
];

struct Transcript {
    name: String,
    format: ReplyFormat,
    text: String,
    ending: Ending,
    expected: Reply,
}

impl Transcript {
    fn read(file: &str, form: CallForm, tools: &[Tool], case: &Value) -> Self {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let reasoning = match case["reasoning"].as_str() {
            None => Some(ReasoningStart::ByModel),
            Some("open") => Some(ReasoningStart::OpenedByPrompt),
            Some(_) => None,
        };
        let calls = case["calls"].as_array().into_iter().flatten().enumerate();
        Self {
            name: format!("{file}: {}", text("name")),
            format: ReplyFormat {
                reasoning,
                calls: Some(form),
                tools: tools.into(),
                ..ReplyFormat::default()
            },
            text: text("text"),
            ending: match case["cut"] == true {
                true => Ending::CutOff,
                false => Ending::Stopped,
            },
            expected: Reply {
                content: text("content"),
                reasoning: case["thought"].as_str().map(str::to_owned),
                tool_calls: calls
                    .map(|(index, call)| ToolCall {
                        id: call_id(SEED, index),
                        name: call[0].as_str().unwrap().to_owned(),
                        arguments: call[1].as_str().unwrap().to_owned(),
                        is_complete: call[2].as_bool().unwrap(),
                    })
                    .collect(),
            },
        }
    }

    /// The events of the text in pieces, those of the same thing made one.
    fn joined<'t>(&self, pieces: impl IntoIterator<Item = &'t str>) -> Vec<ReplyEvent> {
        joined(self.events(pieces))
    }

    /// The events of the text in pieces.
    fn events<'t>(&self, pieces: impl IntoIterator<Item = &'t str>) -> Vec<ReplyEvent> {
        let mut parser = ReplyParser::new(&self.format, SEED);
        let mut events: Vec<ReplyEvent> = pieces
            .into_iter()
            .flat_map(|piece| parser.push(piece))
            .collect();
        events.extend(parser.finish(self.ending));
        events
    }
}

fn corpus() -> Vec<Transcript> {
    let tools: Value = serde_json::from_str(include_str!("data/corpus__tools.json")).unwrap();
    let tools = Tool::list(&tools).unwrap();
    let mut transcripts = Vec::new();
    for (name, file) in FILES {
        let file: Value = serde_json::from_str(file).unwrap();
        let form = match file["form"].as_str().unwrap() {
            "hermes" => CallForm::Hermes,
            "coder" => CallForm::CoderXml,
            other => panic!("no form {other}"),
        };
        let tools = if file["tools"] == true {
            tools.as_slice()
        } else {
            &[]
        };
        let cases = file["cases"].as_array().unwrap();
        transcripts.extend(
            cases
                .iter()
                .map(|case| Transcript::read(name, form, tools, case)),
        );
    }
    transcripts
}

/// Events of the same thing in a row made one, which is all that cutting may change.
fn joined(events: Vec<ReplyEvent>) -> Vec<ReplyEvent> {
    let mut joined: Vec<ReplyEvent> = Vec::new();
    for event in events {
        match (joined.last_mut(), &event) {
            (Some(ReplyEvent::Content(all)), ReplyEvent::Content(more))
            | (Some(ReplyEvent::Reasoning(all)), ReplyEvent::Reasoning(more)) => all.push_str(more),
            (
                Some(ReplyEvent::ToolCallArguments {
                    fragment: all,
                    index,
                }),
                ReplyEvent::ToolCallArguments {
                    fragment: more,
                    index: i,
                },
            ) if index == i => all.push_str(more),
            _ => joined.push(event),
        }
    }
    joined
}

#[test]
fn there_are_transcripts_enough() {
    assert_eq!(corpus().len(), 339);
}

#[test]
fn transcripts_mean_what_they_mean() {
    let wrong: Vec<String> = corpus()
        .iter()
        .filter_map(|transcript| {
            let reply = Reply::read(
                &transcript.format,
                &transcript.text,
                transcript.ending,
                SEED,
            );
            let Transcript {
                name,
                text,
                expected,
                ..
            } = transcript;
            (reply != *expected)
                .then(|| format!("{name}\n{text}\nexpected {expected:#?}\nfound {reply:#?}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn transcripts_mean_the_same_through_every_split() {
    for transcript in corpus() {
        let text = transcript.text.as_str();
        let whole = transcript.joined([text]);
        for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
            let (left, right) = text.split_at(at);
            let split = transcript.joined([left, right]);
            assert_eq!(split, whole, "{} at byte {at}", transcript.name);
        }
    }
}

#[test]
fn transcripts_mean_the_same_letter_by_letter() {
    for transcript in corpus() {
        let text = transcript.text.as_str();
        let letters = text
            .char_indices()
            .map(|(at, c)| &text[at..at + c.len_utf8()]);
        let events = transcript.events(letters);
        assert_eq!(
            joined(events.clone()),
            transcript.joined([text]),
            "{}",
            transcript.name
        );
        assert_eq!(events.into_iter().collect::<Reply>(), transcript.expected);
    }
}

#[test]
fn only_complete_calls_have_arguments_that_are_an_object() {
    for transcript in corpus() {
        for call in transcript.expected.tool_calls {
            let object = serde_json::from_str::<Map<String, Value>>(&call.arguments);
            assert_eq!(
                object.is_ok(),
                call.is_complete,
                "{}: {}",
                transcript.name,
                call.arguments
            );
        }
    }
}

/// What models and users write, in pieces that make calls, half calls and none.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: [&str; 42] = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<function=ping>",
        "</function>",
        "<function=get_weather>",
        "<parameter=days>",
        "<parameter=city>",
        "</parameter>",
        "<",
        ">",
        "</",
        "\n",
        "\n\n",
        " ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ":",
        ",",
        "\"name\": ",
        "\"ping\"",
        "\"arguments\": ",
        "{\"name\": \"ping\", \"arguments\": ",
        "{\"city\": \"Paris\"}",
        "{}",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"",
        "\"}}\n</tool_call>",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n",
        "\n</parameter>\n",
        "null",
        "12",
        "\\u00e9",
        "\\ud83d",
        "\\\"",
        "é",
        "🙂",
        "text",
    ];
    proptest::collection::vec(proptest::sample::select(PIECES.as_slice()), 0..24)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_text_means_the_same_however_it_is_cut(
        text in pieces(),
        cuts in proptest::collection::vec(any::<Index>(), 0..8),
        coder in any::<bool>(),
        reasoning in proptest::sample::select(vec![
            None, Some(ReasoningStart::ByModel), Some(ReasoningStart::OpenedByPrompt),
        ]),
        cut_off in any::<bool>(),
    ) {
        let tools: Value = serde_json::from_str(include_str!("data/corpus__tools.json")).unwrap();
        let transcript = Transcript {
            name: String::new(),
            format: ReplyFormat {
                reasoning,
                calls: Some(if coder { CallForm::CoderXml } else { CallForm::Hermes }),
                tools: Tool::list(&tools).unwrap().into(),
                ..ReplyFormat::default()
            },
            text: String::new(),
            ending: if cut_off { Ending::CutOff } else { Ending::Stopped },
            expected: Reply::default(),
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.retain(|&at| text.is_char_boundary(at));
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let whole = transcript.joined([text.as_str()]);
        let split = transcript.joined(cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]));
        prop_assert_eq!(&split, &whole);
        for call in whole.into_iter().collect::<Reply>().tool_calls {
            let object = serde_json::from_str::<Map<String, Value>>(&call.arguments);
            prop_assert!(!call.is_complete || object.is_ok(), "{}", call.arguments);
        }
    }
}
