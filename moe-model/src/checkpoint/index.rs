//! The index of a checkpoint in several files: which tensor is in which.
//!
//! The names of files come from the index, so they are held to be plain names: nothing
//! outside the folder is opened, and nothing but safetensors files. Index and files must then
//! agree on every tensor.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    path::Path,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{Checkpoint, INDEX, PathBytes, header::Name};
use crate::{
    ModelError,
    error::{json_error, quote},
};

const FIELD: &str = "weight_map";

/// The document; `metadata` beside the map concerns nobody.
#[derive(Deserialize)]
struct Index<'a> {
    #[serde(borrow)]
    weight_map: WeightMap<'a>,
}

/// Names of tensors and of their files, in the order of the document.
struct WeightMap<'a>(Vec<(&'a str, &'a str)>);

/// Returns the names of all files that an index names, in alphabetical order.
pub(crate) fn shards<'a>((path, bytes): PathBytes<'a>) -> Result<BTreeSet<&'a str>, ModelError> {
    let WeightMap(map) = read(path, bytes)?;
    if map.is_empty() {
        return Err(fault(path, FIELD, "at least one tensor", "none"));
    }
    for (name, file) in &map {
        if !is_plain(file) {
            let field = format!("{FIELD}.{}", quote(name));
            let expected = "a safetensors file in the same folder";
            return Err(fault(path, &field, expected, &format!("`{}`", quote(file))));
        }
    }
    Ok(map.into_iter().map(|(_, file)| file).collect())
}

/// Checks that the files hold what the index says, and nothing else.
pub(super) fn check(checkpoint: &Checkpoint<'_>) -> Result<(), ModelError> {
    let Some((path, bytes)) = checkpoint.path_bytes(INDEX) else {
        return Ok(());
    };
    let WeightMap(map) = read(path, bytes)?;
    for &(name, file) in &map {
        let field = || format!("{FIELD}.{}", quote(name));
        let found = checkpoint.find(name).ok_or_else(|| {
            let expected = format!("a tensor of {}", quote(file));
            fault(path, &field(), &expected, "no such tensor")
        })?;
        if !found.path.ends_with(file) {
            let expected = format!("a tensor of {}", quote(file));
            let found = format!("it in {}", found.path.display());
            return Err(fault(path, &field(), &expected, &found));
        }
    }
    let known: HashSet<&str> = map.iter().map(|&(name, _)| name).collect();
    match checkpoint
        .tensors()
        .find(|tensor| !known.contains(tensor.name))
    {
        None => Ok(()),
        Some(tensor) => {
            Err(tensor.fault("a tensor that the index names", "it left out".to_owned()))
        }
    }
}

fn read<'a>(path: &Path, bytes: &'a [u8]) -> Result<WeightMap<'a>, ModelError> {
    let index: Index<'_> =
        serde_json::from_slice(bytes).map_err(|error| json_error(path, &error))?;
    Ok(index.weight_map)
}

fn fault(path: &Path, field: &str, expected: &str, found: &str) -> ModelError {
    ModelError::Field {
        path: path.to_owned(),
        field: field.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

/// Whether a name is that of a safetensors file and no path, on any system.
fn is_plain(file: &str) -> bool {
    let is_name = !file.contains(['/', '\\', ':', '\0']);
    is_name
        && file
            .strip_suffix(".safetensors")
            .is_some_and(|stem| !stem.is_empty())
}

impl<'de: 'a, 'a> Deserialize<'de> for WeightMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor name to file name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut entries, mut names) = (Vec::new(), HashSet::new());
                while let Some((Name(name), Name(file))) = map.next_entry()? {
                    if !names.insert(name) {
                        let message = format!("tensor `{}` comes twice", quote(name));
                        return Err(A::Error::custom(message));
                    }
                    entries.push((name, file));
                }
                Ok(WeightMap(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_of_safetensors_files_are_opened() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        assert!(is_plain("..safetensors"));
        for name in [
            "",
            ".safetensors",
            "../model.safetensors",
            "/etc/model.safetensors",
            "a/model.safetensors",
            "..\\model.safetensors",
            "C:model.safetensors",
            "pytorch_model.bin",
            "a\0.safetensors",
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
