//! Continues a text: `cargo run --example continue_text -- model.gguf "To be, or not"`.

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::{env, error::Error, path::Path, thread};

use generate::{CancelFlag, GenerationConfig, Generator, Sequence, Step, TextConfig};
use moe_model::{Model, ModelFile, StateOptions};
use quant_kernels::{Cpu, Isa};
use tokenizer::{SpecialTokens, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, path, text] = args.as_slice() else {
        return Err("expected a GGUF file and a text".into());
    };
    let file = ModelFile::open(Path::new(path))?;
    let gguf = file.gguf()?;
    let model = Model::from_gguf(&gguf)?;
    let tokenizer = Tokenizer::from_gguf(gguf.metadata())?;
    let cpu = Cpu::new(Isa::detect(), thread::available_parallelism()?)?;

    let cancel = CancelFlag::new();
    let config = GenerationConfig {
        n_predict: Some(100),
        stop_tokens: tokenizer.end_of_generation().to_vec(),
        ..GenerationConfig::default()
    };
    let mut sequence = Sequence::new(&cpu, &model, StateOptions::new(512))?;
    let ids = tokenizer.encode(text, SpecialTokens::AsText);
    sequence.prefill(&ids, &cancel, &mut |_| ())?;
    let mut generator = Generator::new(&tokenizer, &sequence, &config, &TextConfig::default())?;
    print!("{text}");
    while let Step::Piece(piece) = generator.step(&mut sequence, &cancel)? {
        print!("{}", piece.text);
    }
    println!();
    Ok(())
}
