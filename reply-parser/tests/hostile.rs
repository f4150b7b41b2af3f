//! A million bytes of anything are read in one go: no text is looked at again and again, and
//! none nests so deep that it ends the program.

use reply_parser::{CallForm, Ending, ReasoningStart, Reply, ReplyFormat, Tool};

const N_BYTES: usize = 1_000_000;

fn read(calls: CallForm, text: &str) -> Reply {
    let format = ReplyFormat {
        reasoning: Some(ReasoningStart::ByModel),
        calls: Some(calls),
        tools: [Tool {
            name: "f".to_owned(),
            parameters: None,
        }]
        .into(),
        ..ReplyFormat::default()
    };
    Reply::read(&format, text, Ending::CutOff, "")
}

#[test]
fn beginnings_of_calls_are_text_however_many_there_are() {
    for piece in [
        "<tool_call>",
        "<tool_call>\n",
        "<tool_call>{",
        "<tool_call>{\"",
        "<tool_call>{\"a\":",
        "<tool_call><function=f>x",
        "</tool_call>",
        "<function=",
        "<parameter=",
        "<",
        " \n",
        "{",
        "[",
        "\"",
        "{\"name\":",
        "</function>",
        "x<think>",
    ] {
        let text = piece.repeat(N_BYTES / piece.len());
        for calls in [CallForm::Hermes, CallForm::CoderXml] {
            let reply = read(calls, &text);
            assert_eq!(reply.content, text, "{piece}");
            assert_eq!(reply.tool_calls, []);
        }
    }
}

#[test]
fn a_call_holds_whatever_is_in_it() {
    for piece in [
        "<",
        "</parameter>",
        "</parameter>\n",
        "</function>",
        "\n",
        "<parameter=x>",
        "<parameter=x>\n",
        "<function=f>\n",
        "<parameter=",
        " ",
    ] {
        let value = piece.repeat(N_BYTES / piece.len());
        let text = format!("<tool_call><function=f><parameter=a>x{value}");
        let reply = read(CallForm::CoderXml, &text);
        assert_eq!(reply.tool_calls.len(), 1, "{piece}");
        assert!(!reply.tool_calls[0].is_complete, "{piece}");
    }
}

#[test]
fn arguments_may_be_long_and_deep() {
    for (piece, is_kept) in [
        ("a", true),
        ("\\n", true),
        ("\\u00e9", true),
        ("<tool_call>", true),
    ] {
        let value = piece.repeat(N_BYTES / piece.len());
        let arguments = format!("{{\"x\": \"{value}\"}}");
        let text = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}");
        let reply = read(CallForm::Hermes, &text);
        assert_eq!(reply.tool_calls[0].arguments == arguments, is_kept);
    }
    for piece in ["[", "{\"a\":", "[[],", "1", "<tool_", "}"] {
        let value = piece.repeat(N_BYTES / piece.len());
        let text = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"x\": {value}");
        let reply = read(CallForm::Hermes, &text);
        assert!(!reply.tool_calls[0].is_complete, "{piece}");
        assert!(reply.tool_calls[0].arguments.len() <= text.len());
    }
}

#[test]
fn calls_may_be_many() {
    let call = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n";
    let n = N_BYTES / call.len();
    assert_eq!(read(CallForm::Hermes, &call.repeat(n)).tool_calls.len(), n);
}
