//! Prints the events of a reply on stdin, line by line as it comes: `events hermes|coder [TOOL…]`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::io::BufRead;

use reply_parser::{CallForm, Ending, ReasoningStart, ReplyFormat, ReplyParser, Tool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let calls = match args.next().as_deref() {
        Some("hermes") => CallForm::Hermes,
        Some("coder") => CallForm::CoderXml,
        _ => return Err("usage: events hermes|coder [TOOL…]".into()),
    };
    let names = args.chain(["example".to_owned()]);
    let tools = names.map(|name| Tool {
        name,
        parameters: None,
    });
    let format = ReplyFormat {
        reasoning: Some(ReasoningStart::ByModel),
        calls: Some(calls),
        tools: tools.collect(),
        ..ReplyFormat::default()
    };
    let mut parser = ReplyParser::new(&format, "example");
    let mut line = String::new();
    let mut input = std::io::stdin().lock();
    while input.read_line(&mut line)? > 0 {
        for event in parser.push(&line) {
            println!("{event:?}");
        }
        line.clear();
    }
    for event in parser.finish(Ending::Stopped) {
        println!("{event:?}");
    }
    Ok(())
}
