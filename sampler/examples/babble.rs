//! Draws words from fixed logits with several settings: `cargo run --example babble`.

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use sampler::{SamplerChain, SamplerConfig, SamplerError};

const WORDS: [&str; 6] = ["to ", "be ", "or ", "not ", "that ", "is "];
const LOGITS: [f32; 6] = [2.0, 1.8, 1.2, 1.0, 0.3, 0.1];

fn babble(name: &str, config: SamplerConfig) -> Result<(), SamplerError> {
    let mut chain = SamplerChain::new(config, WORDS.len())?;
    let mut text = String::new();
    for _ in 0..12 {
        let token = chain.sample(&mut LOGITS.clone())?;
        chain.accept(token);
        text.push_str(WORDS[token as usize]);
    }
    println!("{name:>10}: {text}");
    Ok(())
}

fn main() -> Result<(), SamplerError> {
    babble("greedy", SamplerConfig::greedy())?;
    babble("default", SamplerConfig::default())?;
    let hot = SamplerConfig {
        temp: 2.0,
        ..SamplerConfig::neutral()
    };
    babble("hot", hot)?;
    let varied = SamplerConfig {
        presence_penalty: 3.0,
        repeat_last_n: 4,
        ..SamplerConfig::default()
    };
    babble("penalised", varied)
}
