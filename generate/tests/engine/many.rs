//! An engine and its requests, as the tests of it see them.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use generate::{
    CacheMiss, Engine, EngineOptions, Event, FinishReason, Generate, GenerationConfig, Request,
    Task, TextConfig, Ticket, TokenScore,
};
use quant_kernels::KvType;
use sampler::SamplerConfig;

use crate::{CPU, MODEL, generation::TOKENIZER};

/// Everything that was told about a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) n_cached: Option<usize>,
    pub(crate) miss: Option<CacheMiss>,
    pub(crate) n_prefilled: usize,
    pub(crate) prompt_scores: Vec<TokenScore>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) scores: Vec<TokenScore>,
    pub(crate) text: String,
    pub(crate) embedding: Option<Vec<f32>>,
    pub(crate) end: Option<FinishReason>,
    pub(crate) end_score: Option<TokenScore>,
    pub(crate) error: Option<String>,
}

/// A request that was given to an engine.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ticket: Ticket,
    told: Arc<Mutex<Told>>,
}

impl Asked {
    pub(crate) fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }
}

impl Told {
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some() || self.error.is_some() || self.embedding.is_some()
    }

    fn hear(&mut self, event: Event) {
        assert!(!self.is_over(), "{event:?} after the end");
        match event {
            Event::Started { n_cached, miss, .. } => {
                self.n_cached = Some(n_cached);
                self.miss = miss;
            }
            Event::Prefill(progress) => self.n_prefilled = progress.n_done,
            Event::PromptScores(scores) => self.prompt_scores.extend(scores),
            Event::PrefillDone => assert!(self.tokens.is_empty()),
            Event::Token { token, text, score } => {
                self.tokens.push(token);
                self.text.push_str(&text);
                self.scores.extend(score);
            }
            Event::Finished {
                reason,
                text,
                score,
            } => {
                self.end_score = score;
                self.text.push_str(&text);
                self.end = Some(reason);
            }
            Event::Embedding(mean) => self.embedding = Some(mean),
            Event::Failed(error) => self.error = Some(error.to_string()),
        }
    }
}

pub(crate) const OPTIONS: EngineOptions = EngineOptions {
    n_parallel: 3,
    queue_len: 100,
    n_ctx: 400,
    keys: KvType::F16,
    values: KvType::F16,
    batch_len: 48,
    step_time: Duration::from_millis(200),
    cache_bytes: 1 << 30,
    disk: None,
};

/// An engine whose clock goes on by `tick` at every look.
pub(crate) fn engine(options: EngineOptions, tick: Duration) -> Engine<'static> {
    let now = Cell::new(Duration::ZERO);
    let clock = move || now.replace(now.get() + tick);
    Engine::new(&CPU, &MODEL, &TOKENIZER, options, Box::new(clock)).unwrap()
}

pub(crate) fn generate(prompt: &[u32], n_predict: usize, seed: u64) -> Request {
    let generate = Generate {
        config: GenerationConfig {
            sampler: SamplerConfig {
                seed,
                ..SamplerConfig::neutral()
            },
            n_predict: Some(n_predict),
            stop_tokens: Vec::new(),
        },
        text: TextConfig {
            stop_strings: Vec::new(),
            show_control: true,
        },
        n_top: Some(3),
        ..Generate::default()
    };
    Request {
        prompt: prompt.to_vec(),
        task: Task::Generate(Box::new(generate)),
        use_cache: true,
    }
}

pub(crate) fn ask(engine: &Engine<'_>, request: Request) -> Asked {
    let told = Arc::new(Mutex::new(Told::default()));
    let ears = Arc::clone(&told);
    let sink = move |event| {
        ears.lock().unwrap().hear(event);
        true
    };
    let ticket = engine.handle().submit(request, Box::new(sink)).unwrap();
    Asked { ticket, told }
}

/// Works until there is nothing to do.
pub(crate) fn finish(engine: &mut Engine<'_>) {
    while engine.step() {}
}

/// What an engine of its own says to a request.
pub(crate) fn alone(request: Request) -> Told {
    alone_in(KvType::F16, request)
}

/// The same with keys and values of another type.
pub(crate) fn alone_in(ty: KvType, request: Request) -> Told {
    let options = EngineOptions {
        keys: ty,
        values: ty,
        n_parallel: 1,
        batch_len: 400,
        cache_bytes: 0,
        ..OPTIONS
    };
    let mut engine = engine(options, Duration::ZERO);
    let asked = ask(&engine, request);
    finish(&mut engine);
    asked.told()
}

/// Tokens without a pattern; those of equal seeds begin alike.
pub(crate) fn tokens(seed: u32, len: usize) -> Vec<u32> {
    let token = |idx: u32| (seed.wrapping_mul(0x9e37_79b9) ^ idx.wrapping_mul(0x85eb_ca6b)) >> 8;
    let n_vocab = MODEL.config().n_vocab as u32;
    (0..len as u32).map(|idx| token(idx) % n_vocab).collect()
}

/// Asserts that two answers are the same to the last bit of every probability.
pub(crate) fn assert_same(a: &Told, b: &Told) {
    assert_eq!((&a.tokens, &a.text, a.end), (&b.tokens, &b.text, b.end));
    assert_eq!(a.end_score, b.end_score);
    let bits = |scores: &[TokenScore]| -> Vec<u64> {
        let score = |s: &TokenScore| {
            let top: Vec<u64> = s.top.iter().map(|top| top.logprob.to_bits()).collect();
            [vec![s.logprob.to_bits()], top].concat()
        };
        scores.iter().flat_map(score).collect()
    };
    assert_eq!(bits(&a.scores), bits(&b.scores));
    assert_eq!(bits(&a.prompt_scores), bits(&b.prompt_scores));
    assert_eq!((&a.embedding, &a.error), (&b.embedding, &b.error));
}
