//! Many requests at a time: nobody notices the others but by their delay.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use generate::{
    DiskCacheOptions, Engine, EngineOptions, FinishReason, GenerateError, Guide, Request,
    SubmitError, Task,
};
use proptest::prelude::*;
use quant_kernels::KvType;

use crate::{
    CPU, MODEL,
    generation::TOKENIZER,
    many::{Asked, OPTIONS, alone, alone_in, ask, assert_same, engine, finish, generate, tokens},
};

/// What happens before a step of an engine.
#[derive(Clone, Debug)]
enum Deed {
    /// A prompt of a family, as long as said, is to be continued by so many tokens.
    Ask {
        family: u32,
        len: usize,
        n_predict: usize,
        kind: u8,
    },
    /// The request of this number is cancelled.
    Cancel(usize),
    /// Nothing.
    Step,
    /// All requests are cancelled, and another engine goes on with what lies on disk, if
    /// anything does.
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..3u32, 1..200usize, 0..12usize, 0..8u8).prop_map(
            |(family, len, n_predict, kind)| Deed::Ask { family, len, n_predict, kind }
        ),
        1 => (0..8usize).prop_map(Deed::Cancel),
        8 => Just(Deed::Step),
        1 => Just(Deed::Restart),
    ]
}

fn request(family: u32, len: usize, n_predict: usize, kind: u8) -> Request {
    let mut request = generate(&tokens(family, len), n_predict, u64::from(family) + 7);
    match (kind, &mut request.task) {
        (0, task) => *task = Task::Embed,
        (1, Task::Generate(generate)) => generate.n_top_prompt = Some(2),
        (2, _) => request.use_cache = false,
        (3, _) => return reciting(&tokens(family, len), &tokens(family + 1, 50), n_predict),
        _ => {}
    }
    request
}

/// Has a stretch of tokens come after the first drawn one.
#[derive(Debug)]
struct Recites {
    stretch: Vec<u32>,
    n_accepted: usize,
}

impl Guide for Recites {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        match self.n_accepted {
            1 => Ok(self.stretch.clone()),
            _ => Ok(Vec::new()),
        }
    }

    fn mask(&mut self, _: &mut [f32]) -> Result<(), GenerateError> {
        Ok(())
    }

    fn accept(&mut self, _: u32, _: &[u8]) -> Result<(), GenerateError> {
        self.n_accepted += 1;
        Ok(())
    }
}

/// A request to draw a token, to take a stretch of others, and to draw some more.
fn reciting(prompt: &[u32], stretch: &[u32], n_more: usize) -> Request {
    let mut request = generate(prompt, 1 + stretch.len() + n_more, 1);
    if let Task::Generate(generate) = &mut request.task {
        // A scored token takes a pass of its own.
        generate.n_top = None;
        generate.guide = Some(Box::new(Recites {
            stretch: stretch.to_vec(),
            n_accepted: 0,
        }));
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_answer_is_the_same_alone_and_in_any_company(
        deeds in prop::collection::vec(deed(), 1..32),
        n_parallel in 1..5usize,
        batch_len in 5..90usize,
        n_kept in 0..12u64,
        tick in prop::sample::select(vec![0, 1, 300]),
        ty in prop::sample::select(vec![KvType::F16, KvType::Q8_0]),
        has_disk: bool,
    ) {
        let block_bytes = 1 << 16;
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskCacheOptions {
            folder: folder.path().to_owned(),
            max_bytes: 12 * block_bytes,
            model: String::new(),
            on_failure: |_| {},
        };
        let options = EngineOptions {
            n_parallel,
            batch_len,
            keys: ty,
            values: ty,
            cache_bytes: n_kept * block_bytes,
            disk: has_disk.then_some(disk),
            ..OPTIONS
        };
        let tick = Duration::from_millis(tick);
        let mut engine = engine(options.clone(), tick);
        let mut asked: Vec<(Deed, Asked)> = Vec::new();
        let mut n_before = 0;
        for deed in deeds {
            match deed {
                Deed::Ask { family, len, n_predict, kind } => {
                    asked.push((deed, ask(&engine, request(family, len, n_predict, kind))));
                }
                Deed::Cancel(idx) => asked.get(idx).into_iter().for_each(|(_, a)| a.ticket.cancel()),
                Deed::Step => {
                    engine.step();
                }
                Deed::Restart => {
                    asked.iter().for_each(|(_, asked)| asked.ticket.cancel());
                    finish(&mut engine);
                    n_before = asked.len();
                    drop(engine);
                    engine = crate::many::engine(options.clone(), tick);
                }
            }
        }
        finish(&mut engine);
        for (deed, asked) in &asked {
            let Deed::Ask { family, len, n_predict, kind } = *deed else { unreachable!() };
            let expected = alone_in(ty, request(family, len, n_predict, kind));
            let told = asked.told();
            prop_assert!(told.is_over());
            if told.end == Some(FinishReason::Cancelled) {
                prop_assert!(expected.tokens.starts_with(&told.tokens));
            } else {
                assert_same(&told, &expected);
            }
        }
        let status = engine.handle().status();
        prop_assert!(status.slots.iter().all(Option::is_none));
        prop_assert_eq!((status.n_waiting, status.n_ended), (0, (asked.len() - n_before) as u64));
        // Some more may be about to be written.
        let n_late = if has_disk { 8 } else { 0 };
        prop_assert!(status.cache_bytes <= (n_kept + n_late) * block_bytes);
        prop_assert!(status.disk_bytes <= 12 * block_bytes);
        prop_assert_eq!(status.n_disk_failures, 0);
    }
}

#[test]
fn a_long_prompt_does_not_keep_the_others_waiting() {
    // Every look at the clock takes 300 ms, so every step is too slow and has the least room.
    let mut engine = engine(OPTIONS, Duration::from_millis(300));
    let writer = ask(&engine, generate(&tokens(1, 4), 40, 1));
    engine.step();
    let reader = ask(&engine, generate(&tokens(2, 390), 1, 2));
    for _ in 0..4 {
        engine.step();
    }
    let mut most = 0;
    while !reader.told().is_over() && !writer.told().is_over() {
        let before = (reader.told().n_prefilled, writer.told().tokens.len());
        engine.step();
        most = most.max(reader.told().n_prefilled - before.0);
        assert_eq!(
            writer.told().tokens.len(),
            before.1 + 1,
            "a token at every step"
        );
    }
    assert_eq!(most, 16);
}

#[test]
fn a_short_prompt_overtakes_a_long_one() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let long = ask(&engine, generate(&tokens(1, 390), 1, 1));
    engine.step();
    let short = ask(&engine, generate(&tokens(2, 20), 1, 1));
    engine.step();
    assert!(short.told().is_over());
    assert!(!long.told().is_over());
}

#[test]
fn prompts_take_turns_where_there_is_room_for_one() {
    // Every step is too slow and has the least room.
    let mut engine = engine(OPTIONS, Duration::from_millis(300));
    let writer = ask(&engine, generate(&tokens(1, 4), 390, 1));
    for _ in 0..6 {
        engine.step();
    }
    let long = ask(&engine, generate(&tokens(2, 390), 1, 1));
    engine.step();
    // Short ones come for ever, and neither they nor the long one are kept waiting by it.
    let mut n_short = 0;
    for family in 3.. {
        let short = ask(&engine, generate(&tokens(family, 20), 1, 1));
        for _ in 0..3 {
            engine.step();
        }
        assert!(short.told().is_over(), "{family}");
        n_short += 1;
        if long.told().is_over() {
            break;
        }
        assert!(n_short < 20, "{:?}", long.told().n_prefilled);
    }
    assert!(n_short > 3 && !writer.told().is_over());
}

#[test]
fn a_forced_stretch_does_not_keep_the_others_waiting() {
    let options = EngineOptions {
        batch_len: 200,
        ..OPTIONS
    };
    let mut engine = engine(options, Duration::from_millis(300));
    let writer = ask(&engine, generate(&tokens(1, 4), 100, 1));
    for _ in 0..6 {
        engine.step();
    }
    let reciter = ask(&engine, reciting(&tokens(2, 10), &tokens(3, 120), 1));
    let mut n_steps = 0;
    while !reciter.told().is_over() {
        let n_before = writer.told().tokens.len();
        engine.step();
        assert_eq!(writer.told().tokens.len(), n_before + 1);
        n_steps += 1;
    }
    assert_eq!(reciter.told().tokens.len(), 122);
    // One for the prompt, the others of one token and sixteen more.
    assert_eq!(n_steps, 1 + 121_usize.div_ceil(1 + 16));
}

/// An engine whose every step takes 300 ms, and who leaves when the next pass begins.
fn engine_and_who_leaves() -> (Engine<'static>, Arc<Mutex<Option<Arc<Asked>>>>) {
    let options = EngineOptions {
        n_parallel: 4,
        ..OPTIONS
    };
    let leaves: Arc<Mutex<Option<Arc<Asked>>>> = Arc::default();
    let (who, now) = (Arc::clone(&leaves), Cell::new(Duration::ZERO));
    let clock = move || {
        if let Some(asked) = who.lock().unwrap().take() {
            asked.ticket.cancel();
        }
        now.replace(now.get() + Duration::from_millis(300))
    };
    let engine = Engine::new(&CPU, &MODEL, &TOKENIZER, options, Box::new(clock)).unwrap();
    (engine, leaves)
}

#[test]
fn a_long_pass_is_given_up_for_one_that_leaves_and_the_next_one_is_not() {
    let (mut engine, leaves) = engine_and_who_leaves();
    let [a, b, c, d] =
        [1, 2, 3, 4].map(|family| Arc::new(ask(&engine, generate(&tokens(family, 300), 1, 1))));
    let n_prefilled = || [&a, &b, &c, &d].map(|asked| asked.told().n_prefilled);
    engine.step();
    assert_eq!(n_prefilled(), [16, 16, 16, 0]);
    // Twelve each are too slow for a step that others wait for.
    *leaves.lock().unwrap() = Some(Arc::clone(&b));
    engine.step();
    assert_eq!(n_prefilled(), [16, 16, 16, 0]);
    assert!(!b.told().is_over());
    *leaves.lock().unwrap() = Some(Arc::clone(&c));
    engine.step();
    assert_eq!(b.told().end, Some(FinishReason::Cancelled));
    assert_eq!(n_prefilled(), [32, 16, 16, 16]);
    assert!(!c.told().is_over());
    engine.step();
    assert_eq!(c.told().end, Some(FinishReason::Cancelled));
    assert!(n_prefilled()[3] > 16);
}

#[test]
fn nobody_waits_for_what_will_not_be_remembered() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let mut forgotten = generate(&tokens(1, 150), 1, 1);
    forgotten.use_cache = false;
    let _first = ask(&engine, forgotten);
    engine.step();
    let second = ask(&engine, generate(&tokens(1, 150), 1, 1));
    engine.step();
    assert_eq!(second.told().n_cached, Some(0));
}

#[test]
fn who_leaves_the_queue_makes_room_at_once() {
    let options = EngineOptions {
        queue_len: 2,
        ..OPTIONS
    };
    let engine = engine(options, Duration::ZERO);
    let asked = [1, 2].map(|seed| ask(&engine, generate(&[1, 2, 3], 1, seed)));
    asked[0].ticket.cancel();
    assert_eq!(asked[0].told().end, Some(FinishReason::Cancelled));
    let status = engine.handle().status();
    assert_eq!((status.n_waiting, status.n_ended), (1, 1));
    let _third = ask(&engine, generate(&[1, 2, 3], 1, 3));
}

#[test]
fn equal_prompts_are_computed_once() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let prompt = tokens(1, 150);
    let asked = [1, 2, 3].map(|seed| ask(&engine, generate(&prompt, 5, seed)));
    finish(&mut engine);
    let cached = asked.each_ref().map(|asked| asked.told().n_cached);
    assert_eq!(cached, [Some(0), Some(149), Some(149)]);
    for (asked, seed) in asked.iter().zip(1..) {
        assert_same(&asked.told(), &alone(generate(&prompt, 5, seed)));
    }
}

#[test]
fn requests_beyond_the_queue_are_refused() {
    let options = EngineOptions {
        queue_len: 2,
        ..OPTIONS
    };
    let engine = engine(options, Duration::ZERO);
    let _asked = [1, 2].map(|seed| ask(&engine, generate(&[1, 2, 3], 1, seed)));
    let refused = engine
        .handle()
        .submit(generate(&[1], 1, 1), Box::new(|_| true));
    assert!(matches!(
        refused,
        Err(SubmitError::QueueFull { n_waiting: 2 })
    ));
}

#[test]
fn requests_that_cannot_be_answered_are_refused_at_once() {
    let engine = engine(OPTIONS, Duration::ZERO);
    let refused = |request| {
        let refused = engine.handle().submit(request, Box::new(|_| true));
        refused.unwrap_err().to_string()
    };
    assert_eq!(
        refused(generate(&[], 1, 1)),
        "the prompt is empty, expected at least one token"
    );
    assert_eq!(
        refused(generate(&tokens(1, 401), 1, 1)),
        "the prompt has 401 tokens, the context holds 400"
    );
    assert!(refused(generate(&[1, u32::MAX], 1, 1)).contains("at position 1"));
    let mut request = generate(&[1], 1, 1);
    if let Task::Generate(generate) = &mut request.task {
        generate.config.sampler.temp = f32::NAN;
    }
    assert!(refused(request).contains("temp"));
    let mut request = generate(&[1], 1, 1);
    if let Task::Generate(generate) = &mut request.task {
        generate.text.stop_strings.push(String::new());
    }
    assert!(refused(request).contains("stop string"));
}

#[test]
fn a_draining_engine_ends_what_it_has_and_takes_nothing_new() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let asked = ask(&engine, generate(&tokens(1, 10), 5, 1));
    let handle = engine.handle();
    handle.drain();
    let refused = handle.submit(generate(&[1], 1, 1), Box::new(|_| true));
    assert!(matches!(refused, Err(SubmitError::Draining)));
    engine.run();
    assert_eq!(asked.told().tokens.len(), 5);
}

#[test]
fn a_request_whose_ticket_or_listener_is_gone_ends_at_the_next_step() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    drop(ask(&engine, generate(&tokens(1, 10), 100, 1)));
    let deaf = (engine.handle()).submit(generate(&tokens(2, 10), 100, 1), Box::new(|_| false));
    engine.step();
    engine.step();
    assert_eq!(engine.handle().status().n_ended, 2);
    drop(deaf);
}

/// Wants its tokens after the first drawn one, and never token 9.
#[derive(Debug)]
struct Insists {
    forced: Vec<u32>,
    accepted: Vec<u32>,
}

impl Guide for Insists {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        match self.accepted.len() {
            1 => Ok(self.forced.clone()),
            8 => Err(GenerateError::Guide {
                what: "eight are enough".to_owned(),
            }),
            _ => Ok(Vec::new()),
        }
    }

    fn mask(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        let allowed = 100 + self.accepted.len();
        logits
            .iter_mut()
            .for_each(|logit| *logit = f32::NEG_INFINITY);
        logits[allowed] = 0.0;
        Ok(())
    }

    fn accept(&mut self, token: u32, _: &[u8]) -> Result<(), GenerateError> {
        self.accepted.push(token);
        Ok(())
    }
}

#[test]
fn a_guide_forces_masks_and_fails() {
    let guided = |n_top, n_predict| {
        let mut request = generate(&tokens(1, 10), n_predict, 1);
        if let Task::Generate(generate) = &mut request.task {
            generate.n_top = n_top;
            generate.guide = Some(Box::new(Insists {
                forced: vec![7, 8, 9],
                accepted: Vec::new(),
            }));
        }
        let mut engine = engine(OPTIONS, Duration::ZERO);
        let asked = ask(&engine, request);
        finish(&mut engine);
        (asked.told(), engine.handle().status().n_steps)
    };
    let (told, n_steps) = guided(None, 6);
    assert_eq!(told.tokens, [100, 7, 8, 9, 104, 105]);
    assert_eq!(
        n_steps, 3,
        "what is forced goes through the model in one pass"
    );
    let (told, n_steps) = guided(Some(3), 6);
    assert_eq!(told.tokens, [100, 7, 8, 9, 104, 105]);
    assert_eq!(n_steps, 6, "each scored token takes a pass of its own");
    let (told, _) = guided(None, 3);
    assert_eq!(
        told.tokens,
        [100, 7, 8],
        "the limit holds for forced tokens too"
    );
    let (told, _) = guided(None, 20);
    assert_eq!(
        (told.tokens.len(), told.error.as_deref()),
        (8, Some("eight are enough"))
    );
}
