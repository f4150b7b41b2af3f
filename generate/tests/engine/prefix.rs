//! What was computed once is not computed again, and no bit shows that.

use std::{fs, time::Duration};

use generate::{CacheMiss, DiskCacheOptions, Engine, EngineOptions, Request, Task};
use quant_kernels::KvType;

use crate::many::{
    OPTIONS, Told, alone, alone_in, ask, assert_same, engine, finish, generate, tokens,
};

/// What an engine says to a request.
pub(crate) fn told(engine: &mut Engine<'_>, request: Request) -> Told {
    let asked = ask(engine, request);
    finish(engine);
    asked.told()
}

#[test]
fn the_next_turn_computes_only_what_is_new() {
    for ty in [KvType::F16, KvType::Q8_0] {
        let options = EngineOptions {
            keys: ty,
            values: ty,
            ..OPTIONS
        };
        let mut engine = engine(options, Duration::ZERO);
        let first = told(&mut engine, generate(&tokens(1, 150), 20, 1));
        // The last token drawn has not been through the model.
        let turn = [tokens(1, 150), first.tokens, tokens(5, 30)].concat();
        let second = told(&mut engine, generate(&turn, 3, 1));
        assert_eq!(second.n_cached, Some(169), "{ty}");
        assert_eq!((second.miss, second.n_prefilled), (None, 31));
        assert_same(&second, &alone_in(ty, generate(&turn, 3, 1)));
    }
}

#[test]
fn a_prompt_that_leaves_another_one_says_where() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let known = tokens(1, 150);
    told(&mut engine, generate(&known, 1, 1));
    for position in [0, 1, 63, 64, 100, 149] {
        let mut prompt = [known.clone(), tokens(3, 20)].concat();
        prompt[position] ^= 1;
        let answer = told(&mut engine, generate(&prompt, 2, 1));
        assert_eq!(answer.n_cached, Some(position));
        let miss = CacheMiss {
            position,
            cached: known[position],
            found: known[position] ^ 1,
        };
        assert_eq!(answer.miss, Some(miss));
        assert_same(&answer, &alone(generate(&prompt, 2, 1)));
    }
}

#[test]
fn a_cancelled_prompt_goes_on_where_it_stopped() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let prompt = tokens(1, 300);
    let asked = ask(&engine, generate(&prompt, 2, 1));
    engine.step();
    engine.step();
    asked.ticket.cancel();
    finish(&mut engine);
    assert_eq!(asked.told().n_prefilled, 2 * 48);
    let again = told(&mut engine, generate(&prompt, 2, 1));
    assert_eq!(again.n_cached, Some(2 * 48));
    assert_same(&again, &alone(generate(&prompt, 2, 1)));
}

#[test]
fn scores_and_embeddings_compute_all_of_the_prompt_and_leave_it_for_others() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let prompt = tokens(1, 150);
    let embedding = || Request {
        prompt: prompt.clone(),
        task: Task::Embed,
        use_cache: true,
    };
    let first = told(&mut engine, embedding());
    let second = told(&mut engine, embedding());
    assert_eq!(second.n_prefilled, 150);
    assert!(first.embedding.is_some());
    assert_same(&first, &second);
    let answer = told(&mut engine, generate(&prompt, 2, 1));
    assert_eq!(answer.n_cached, Some(149));
}

#[test]
fn what_is_not_looked_for_does_not_count_as_looked_up() {
    let mut engine = engine(OPTIONS, Duration::ZERO);
    let prompt = tokens(1, 150);
    let mut uncached = generate(&prompt, 1, 1);
    uncached.use_cache = false;
    let mut scored = generate(&prompt, 1, 1);
    if let Task::Generate(generate) = &mut scored.task {
        generate.n_top_prompt = Some(1);
    }
    let embedded = Request {
        prompt: prompt.clone(),
        task: Task::Embed,
        use_cache: true,
    };
    for request in [uncached, scored, embedded] {
        told(&mut engine, request);
    }
    let status = engine.handle().status();
    assert_eq!(
        (status.n_prompt_tokens, status.n_looked_up_tokens),
        (450, 0)
    );
    told(&mut engine, generate(&prompt, 1, 1));
    let status = engine.handle().status();
    assert_eq!(
        (status.n_looked_up_tokens, status.n_cached_tokens),
        (149, 149)
    );
}

#[test]
fn what_was_not_asked_for_the_longest_goes_first() {
    let room_for = |n_blocks: u64| {
        let mut probe = engine(OPTIONS, Duration::ZERO);
        told(&mut probe, generate(&tokens(9, 64), 0, 1));
        let block_bytes = probe.handle().status().cache_bytes;
        EngineOptions {
            cache_bytes: n_blocks * block_bytes,
            ..OPTIONS
        }
    };
    let mut engine = engine(room_for(4), Duration::ZERO);
    for family in [1, 2] {
        told(&mut engine, generate(&tokens(family, 128), 0, 1));
    }
    // The first is asked for again, so the second has to go for the third.
    assert_eq!(
        told(&mut engine, generate(&tokens(1, 128), 0, 1)).n_cached,
        Some(127)
    );
    told(&mut engine, generate(&tokens(3, 128), 0, 1));
    assert_eq!(
        told(&mut engine, generate(&tokens(1, 128), 0, 1)).n_cached,
        Some(127)
    );
    assert_eq!(
        told(&mut engine, generate(&tokens(2, 128), 0, 1)).n_cached,
        Some(0)
    );
}

#[test]
fn what_is_on_disk_outlives_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let options = |cache_bytes, model: &str| EngineOptions {
        cache_bytes,
        disk: Some(DiskCacheOptions {
            folder: folder.path().to_owned(),
            max_bytes: 1 << 30,
            model: model.to_owned(),
            on_failure: |_| {},
        }),
        ..OPTIONS
    };
    let prompt = tokens(1, 200);
    let expected = alone(generate(&prompt, 3, 1));
    for (cache_bytes, n_cached) in [(1 << 30, 0), (1 << 30, 199), (0, 199)] {
        let mut engine = engine(options(cache_bytes, "a"), Duration::ZERO);
        // What memory has no room for is read from disk again and again.
        for (turn, n_cached) in [n_cached, 199].into_iter().enumerate() {
            let answer = told(&mut engine, generate(&prompt, 3, 1));
            assert_eq!(answer.n_cached, Some(n_cached), "turn {turn}");
            assert_same(&answer, &expected);
        }
        assert_eq!(engine.handle().status().n_disk_failures, 0);
    }
    let mut other = engine(options(1 << 30, "b"), Duration::ZERO);
    assert_eq!(told(&mut other, generate(&prompt, 3, 1)).n_cached, Some(0));
    drop(other);
    // A bit that has changed makes a file that is not there, and what hangs on it.
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .flat_map(|model| fs::read_dir(model.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "kv"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 2 * 4);
    for path in &files {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let mut engine = engine(options(1 << 30, "a"), Duration::ZERO);
    let answer = told(&mut engine, generate(&prompt, 3, 1));
    assert_eq!(answer.n_cached, Some(0));
    assert_same(&answer, &expected);
}

#[test]
fn the_disk_is_bounded_and_broken_files_are_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let options = || EngineOptions {
        disk: Some(DiskCacheOptions {
            folder: folder.path().to_owned(),
            max_bytes: 300_000,
            model: "a".to_owned(),
            on_failure: |_| {},
        }),
        ..OPTIONS
    };
    let mut engine = engine(options(), Duration::ZERO);
    for family in 0..8 {
        told(&mut engine, generate(&tokens(family, 128), 0, 1));
    }
    drop(engine);
    let model = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let n_bytes = || -> u64 {
        let files = fs::read_dir(&model).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    assert!((1..=300_000).contains(&n_bytes()), "{}", n_bytes());
    fs::write(model.join("00000000000000000000000000000000.kv"), b"no").unwrap();
    fs::write(model.join("1.77.part"), b"half").unwrap();
    fs::write(model.join("README"), b"not ours").unwrap();
    fs::create_dir(model.join("1.kv")).unwrap();
    let engine = crate::many::engine(options(), Duration::ZERO);
    assert!(!model.join("00000000000000000000000000000000.kv").exists());
    assert!(!model.join("1.77.part").exists());
    assert!(model.join("README").exists() && model.join("1.kv").exists());
    drop(engine);
}

#[test]
fn a_folder_that_cannot_be_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = EngineOptions {
        disk: Some(DiskCacheOptions {
            folder: file.path().to_owned(),
            max_bytes: 1,
            model: String::new(),
            on_failure: |_| {},
        }),
        ..OPTIONS
    };
    let made = Engine::new(
        &crate::CPU,
        &crate::MODEL,
        &crate::generation::TOKENIZER,
        options,
        Box::new(|| Duration::ZERO),
    );
    let error = made.unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}
