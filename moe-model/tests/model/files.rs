//! Files that are not there, not files, or not models; and models in several files.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use gguf_format::GgufError;
use moe_model::{Model, ModelError, ModelFile, Prefetch};
use tempfile::TempDir;

use crate::{edit::Parts, fixture::smallest};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Writes the smallest model as three shards and returns the path of the first.
fn write_shards(folder: &TempDir) -> PathBuf {
    let mut parts = Parts::of(smallest());
    let n_tensors = u32::try_from(parts.tensors.len()).unwrap();
    let mut shards: Vec<Parts> = Vec::new();
    for no in 0..3_u16 {
        let mut shard = Parts::of(smallest());
        if no > 0 {
            shard.header = gguf_format::GgufWriter::new();
        }
        shard.header.set("split.no", no).unwrap();
        shard.header.set("split.count", 3_u16).unwrap();
        shard.header.set("split.tensors.count", n_tensors).unwrap();
        shard.tensors = parts.tensors.split_off(parts.tensors.len() * 2 / 3);
        shards.push(shard);
    }
    shards[2].tensors.append(&mut parts.tensors);
    for (no, shard) in shards.iter().enumerate() {
        write(
            folder,
            &format!("m-{:05}-of-00003.gguf", no + 1),
            &shard.to_bytes(),
        );
    }
    folder.path().join("m-00001-of-00003.gguf")
}

#[test]
fn paths_that_are_no_file_are_each_their_own_error() {
    let folder = folder();
    let missing = folder.path().join("missing.gguf");
    assert!(
        matches!(ModelFile::open(&missing), Err(ModelError::NotFound { path }) if path == missing)
    );
    let directory = ModelFile::open(folder.path());
    assert!(matches!(directory, Err(ModelError::IsDirectory { path }) if path == folder.path()));
    let empty = write(&folder, "empty.gguf", b"");
    assert!(matches!(ModelFile::open(&empty), Err(ModelError::Empty { path }) if path == empty));
}

#[cfg(unix)]
#[test]
fn a_device_is_refused_without_being_read() {
    let error = ModelFile::open(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(error, ModelError::NotRegular { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    let path = write(&folder, "secret.gguf", smallest());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    assert!(matches!(
        ModelFile::open(&path),
        Err(ModelError::PermissionDenied { .. })
    ));
}

#[test]
fn a_file_that_is_no_model_names_path_and_reason() {
    let folder = folder();
    let path = write(&folder, "page.gguf", b"<!DOCTYPE html><html></html>");
    let file = ModelFile::open(&path).unwrap();
    let error = file.gguf().unwrap_err();
    assert!(error.to_string().contains("page.gguf"), "{error}");
    let reason = error.source().unwrap().to_string();
    assert!(reason.contains("HTML"), "{reason}");
}

#[test]
fn a_mapped_file_is_the_model_that_was_written() {
    let folder = folder();
    let file = ModelFile::open(&write(&folder, "model.gguf", smallest())).unwrap();
    assert_eq!(file.n_bytes(), smallest().len() as u64);
    for n_places in [0, 1, 3, usize::MAX] {
        file.touch(n_places);
    }
    for how in [
        Prefetch::None,
        Prefetch::Huge,
        Prefetch::ReadAhead,
        Prefetch::Populate,
    ] {
        let mut last = 0;
        file.prefetch(how, |n_bytes| last = n_bytes);
        assert_eq!(last, file.n_bytes(), "{how:?}");
    }
    let gguf = file.gguf().unwrap();
    assert_eq!(Model::from_gguf(&gguf).unwrap().config().n_layer, 2);
}

#[test]
fn a_split_model_opens_from_any_of_its_files() {
    let folder = folder();
    write_shards(&folder);
    for no in 1..=3 {
        let path = folder.path().join(format!("m-{no:05}-of-00003.gguf"));
        let file = ModelFile::open(&path).unwrap();
        assert_eq!(file.paths().len(), 3);
        let gguf = file.gguf().unwrap();
        assert!(
            Model::from_gguf(&gguf)
                .unwrap()
                .weights()
                .unused()
                .is_empty()
        );
    }
}

#[test]
fn a_missing_shard_is_named() {
    let folder = folder();
    let first = write_shards(&folder);
    let second = folder.path().join("m-00002-of-00003.gguf");
    fs::remove_file(&second).unwrap();
    assert!(
        matches!(ModelFile::open(&first), Err(ModelError::NotFound { path }) if path == second)
    );
}

#[test]
fn a_shard_under_another_name_is_refused() {
    let folder = folder();
    let first = write_shards(&folder);
    let reason = |path: &Path| match ModelFile::open(path).and_then(|file| file.gguf().map(|_| ()))
    {
        Err(ModelError::File { source, .. }) => *source,
        other => panic!("{other:?}"),
    };
    let renamed = folder.path().join("renamed.gguf");
    fs::copy(&first, &renamed).unwrap();
    assert!(matches!(reason(&renamed), GgufError::ShardCount { .. }));
    let second = folder.path().join("m-00002-of-00003.gguf");
    fs::copy(&first, &second).unwrap();
    assert!(matches!(reason(&second), GgufError::ShardName { .. }));
}

#[test]
fn a_whole_model_may_be_called_like_a_shard() {
    let folder = folder();
    let path = write(&folder, "whole-00001-of-00002.gguf", smallest());
    assert_eq!(ModelFile::open(&path).unwrap().paths().len(), 1);
}
