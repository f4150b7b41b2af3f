//! Prints the ids and pieces of a text: `pieces MODEL.gguf TEXT` or `pieces tokenizer.json TEXT`.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::{env, error::Error, fs};

use gguf_format::Gguf;
use tokenizer::{SpecialTokens, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(path), Some(text)) = (args.next(), args.next()) else {
        return Err("usage: pieces MODEL.gguf|tokenizer.json TEXT".into());
    };
    let file = fs::read(&path)?;
    let tokenizer = if path.ends_with(".json") {
        Tokenizer::from_json(&file)?
    } else {
        Tokenizer::from_gguf(Gguf::parse(&file)?.metadata())?
    };
    for id in tokenizer.encode(&text, SpecialTokens::Recognise) {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        println!("{id:>8}  {:?}", String::from_utf8_lossy(bytes));
    }
    Ok(())
}
