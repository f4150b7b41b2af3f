//! What it costs to hold a text to a grammar.
//!
//! One sequence goes on with tokens that are drawn, once free and once held to letters and
//! blanks, in turns, so that a machine that changes its pace does so for both. Such a text has
//! tens of thousands of tokens to choose from at every place and none that is forced: what
//! shows is the work of the mask alone, and not what forced stretches save.

use std::{sync::Arc, time::Instant};

use generate::{
    CancelFlag, GenerationConfig, Generator, GrammarGuide, Guide, Sequence, Step, TextConfig,
    grammar_vocabulary,
};
use moe_model::Outputs;
use sampler::{Grammar, GrammarSource, SamplerConfig, SamplerError};
use serde::Serialize;

use super::{report::median, workload::random_ids};
use crate::{args::CacheArgs, engine::Engine, error::Error, interrupt::Interrupt};

const FORM: &str = "[A-Za-z ]+";

/// What was measured of a number of tokens.
#[derive(Debug, Serialize)]
pub(super) struct Held {
    n_gen: usize,
    n_depth: usize,
    /// Medians over the rounds.
    free_tok_s: f64,
    held_tok_s: f64,
    /// `held_tok_s` in percent of `free_tok_s`.
    held_percent: f64,
    free_seconds: Vec<f64>,
    held_seconds: Vec<f64>,
}

/// Draws `n_gen` tokens behind `depth` others in each round, free and held.
pub(super) fn measure(
    engine: &Engine<'_>,
    cache: &CacheArgs,
    (n_gen, depth): (usize, usize),
    repetitions: u32,
    interrupt: &Interrupt,
) -> Result<Held, Error> {
    // The first token is drawn from the prompt's logits, before time is taken.
    let n_prompt = depth.max(1);
    let options = cache.state_options(n_prompt + 1 + n_gen);
    let mut sequence = engine.sequence(options, Outputs::Last)?;
    let n_vocab = engine.model.config().n_vocab;
    let grammar = letters(engine, n_vocab)?;
    let prompt: Vec<u32> = random_ids(n_vocab).take(n_prompt).collect();
    let mut lap = Lap {
        engine,
        sequence: &mut sequence,
        prompt: &prompt,
        n_gen,
        cancel: interrupt.flag(),
    };
    let (mut free, mut held) = (Vec::new(), Vec::new());
    for round in 0..=repetitions {
        let seconds = (lap.seconds(None)?, lap.seconds(Some(&grammar))?);
        // The first round warms up.
        if round > 0 {
            free.push(seconds.0);
            held.push(seconds.1);
        }
    }
    let tok_s = |seconds: &[f64]| {
        let mut rates: Vec<f64> = seconds.iter().map(|s| n_gen as f64 / s).collect();
        rates.sort_by(f64::total_cmp);
        median(&rates)
    };
    let (free_tok_s, held_tok_s) = (tok_s(&free), tok_s(&held));
    Ok(Held {
        n_gen,
        n_depth: depth,
        free_tok_s,
        held_tok_s,
        held_percent: 100.0 * held_tok_s / free_tok_s,
        free_seconds: free,
        held_seconds: held,
    })
}

fn letters(engine: &Engine<'_>, n_vocab: usize) -> Result<Arc<Grammar>, Error> {
    let vocabulary = grammar_vocabulary(Arc::clone(&engine.tokenizer), n_vocab);
    let grammar = Grammar::compile(&GrammarSource::Regex(FORM.to_owned()), &vocabulary);
    grammar.map_err(|error: SamplerError| Error::from(generate::GenerateError::from(error)))
}

struct Lap<'a, 'm> {
    engine: &'a Engine<'m>,
    sequence: &'a mut Sequence<'m>,
    prompt: &'a [u32],
    n_gen: usize,
    cancel: &'a CancelFlag,
}

impl Lap<'_, '_> {
    /// Returns how long it takes to draw the tokens, which have a pass each.
    fn seconds(&mut self, grammar: Option<&Grammar>) -> Result<f64, Error> {
        self.sequence
            .prefill(self.prompt, self.cancel, &mut |_| ())?;
        let tokenizer = &self.engine.tokenizer;
        // No text may end before its time.
        let ends = tokenizer.end_of_generation().iter();
        let config = GenerationConfig {
            sampler: SamplerConfig {
                logit_bias: ends.map(|&id| (id, f32::NEG_INFINITY)).collect(),
                ..SamplerConfig::default()
            },
            n_predict: None,
            stop_tokens: Vec::new(),
        };
        let guide = grammar.map(|grammar| Box::new(GrammarGuide::new(grammar)) as Box<dyn Guide>);
        let text = TextConfig::default();
        let mut generator = Generator::guided(tokenizer, self.sequence, &config, &text, guide)?;
        self.next(&mut generator)?;
        let begin = Instant::now();
        for _ in 0..self.n_gen {
            self.next(&mut generator)?;
        }
        Ok(begin.elapsed().as_secs_f64())
    }

    fn next(&mut self, generator: &mut Generator<'_>) -> Result<(), Error> {
        match generator.step(self.sequence, self.cancel)? {
            Step::Piece(_) => Ok(()),
            // There is room for all tokens and nothing that ends the text.
            Step::Finished { .. } => Err(Error::Interrupted),
        }
    }
}

impl Held {
    pub(super) fn line(&self) -> String {
        let depth = match self.n_depth {
            0 => String::new(),
            depth => format!(" @ d{depth}"),
        };
        format!(
            "tg{}{depth}, tokens drawn: {:.2} tok/s free, {:.2} tok/s held to letters: {:.1} %",
            self.n_gen, self.free_tok_s, self.held_tok_s, self.held_percent
        )
    }
}
