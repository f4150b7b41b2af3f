//! What lies on disk: nobody else's to read, one engine's to write, and nobody waits for it who
//! does not need it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use generate::{DiskCacheOptions, Engine, EngineOptions, FinishReason};

use crate::{
    many::{OPTIONS, ask, engine, generate, tokens},
    prefix::told,
};

fn engine_in(folder: &Path) -> Engine<'static> {
    engine_telling(|_| {}, folder)
}

fn engine_telling(on_failure: fn(&io::Error), folder: &Path) -> Engine<'static> {
    let options = EngineOptions {
        disk: Some(DiskCacheOptions {
            folder: folder.to_owned(),
            max_bytes: 1 << 30,
            model: "a".to_owned(),
            on_failure,
        }),
        ..OPTIONS
    };
    engine(options, Duration::ZERO)
}

/// What is in a folder, but for the lock.
fn content(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| !path.ends_with("lock")).collect()
}

/// The folder of the model, with what one prompt of 200 tokens has left in it.
fn written(folder: &Path) -> PathBuf {
    let mut engine = engine_in(folder);
    told(&mut engine, generate(&tokens(1, 200), 0, 1));
    drop(engine);
    let model = content(folder).remove(0);
    assert_eq!(content(&model).len(), 4);
    model
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_what_lies_on_disk() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("made").join("cache");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let model = written(&cache);
    assert_eq!([mode(&cache), mode(&model)], [0o700, 0o700]);
    assert!(content(&model).iter().all(|file| mode(file) == 0o600));
    // One that was made before is closed.
    fs::set_permissions(&model, PermissionsExt::from_mode(0o755)).unwrap();
    drop(engine_in(&cache));
    assert_eq!(mode(&model), 0o700);
}

#[test]
fn a_second_engine_goes_on_without_the_folder_and_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = written(folder.path());
    let first = engine_in(folder.path());
    assert!(!first.is_disk_taken());
    fs::write(model.join("1.77.part"), b"the first one writes this").unwrap();
    let mut second = engine_in(folder.path());
    assert!(second.is_disk_taken());
    let answer = told(&mut second, generate(&tokens(1, 200), 0, 1));
    assert_eq!(answer.n_cached, Some(0));
    assert_eq!(second.handle().status().disk_bytes, 0);
    drop(second);
    assert_eq!(content(&model).len(), 4 + 1);
    drop(first);
    let mut third = engine_in(folder.path());
    assert!(!third.is_disk_taken());
    let answer = told(&mut third, generate(&tokens(1, 200), 0, 1));
    assert_eq!(answer.n_cached, Some(199));
}

#[test]
fn a_folder_named_like_a_block_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let model = written(folder.path());
    for name in ["x.kv", "00000000000000000000000000000000.kv", "1.part"] {
        fs::create_dir(model.join(name)).unwrap();
    }
    let mut engine = engine_in(folder.path());
    let answer = told(&mut engine, generate(&tokens(1, 200), 0, 1));
    assert_eq!(answer.n_cached, Some(199));
}

#[cfg(unix)]
#[test]
fn what_could_not_be_written_is_told_once_and_written_when_it_is_used_again() {
    static N_TOLD: AtomicUsize = AtomicUsize::new(0);
    let tell = |_: &io::Error| {
        N_TOLD.fetch_add(1, Ordering::Relaxed);
    };
    let folder = tempfile::tempdir().unwrap();
    let model = written(folder.path());
    fs::remove_dir_all(&model).unwrap();
    let mut engine = engine_telling(tell, folder.path());
    fs::remove_dir_all(&model).unwrap();
    told(&mut engine, generate(&tokens(1, 200), 0, 1));
    while engine.handle().status().n_disk_failures < 4 {
        thread::sleep(Duration::from_millis(1));
        engine.step();
    }
    fs::create_dir(&model).unwrap();
    told(&mut engine, generate(&tokens(1, 200), 0, 1));
    drop(engine);
    assert_eq!(N_TOLD.load(Ordering::Relaxed), 1);
    let mut engine = engine_in(folder.path());
    let answer = told(&mut engine, generate(&tokens(1, 200), 0, 1));
    assert_eq!(answer.n_cached, Some(199));
}

#[cfg(unix)]
#[test]
fn a_disk_that_hangs_holds_up_only_who_needs_it_and_not_even_that_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let model = written(folder.path());
    let mut engine = engine_in(folder.path());
    for file in content(&model) {
        // Whoever opens a pipe waits for somebody who writes.
        fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
    }
    let needs_it = ask(&engine, generate(&tokens(1, 200), 1, 1));
    let other = ask(&engine, generate(&tokens(2, 20), 3, 1));
    for _ in 0..5 {
        assert!(engine.step());
    }
    assert_eq!(other.told().end, Some(FinishReason::Length));
    assert_eq!(needs_it.told().n_cached, None);
    needs_it.ticket.cancel();
    assert_eq!(needs_it.told().end, Some(FinishReason::Cancelled));
    assert!(!engine.step());
}
