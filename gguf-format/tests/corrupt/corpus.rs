//! The files the fuzzer starts from, read by the ordinary tests as well.

use std::{fs, path::Path};

use gguf_format::{Gguf, GgufSet};

use crate::read_all;

/// The name of an error, as the corpus spells it: `fault__duplicate_key`.
fn spelled(error: &dyn std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{error:?}")
        .chars()
        .take_while(|c| c.is_alphanumeric())
    {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

#[test]
fn the_corpus_is_read_as_its_file_names_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/parse");
    let Ok(files) = fs::read_dir(&folder) else {
        eprintln!("skipped: the corpus is part of the repository, not of the package");
        return;
    };
    let mut n_files = 0;
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = fs::read(&path).unwrap();
        match name.split_once("__").unwrap() {
            ("fault", expected) => assert_eq!(spelled(&read_all(&bytes).unwrap_err()), expected),
            ("kind", _) => assert_eq!(
                spelled(&read_all(&bytes).unwrap_err()),
                "not_gguf",
                "{name}"
            ),
            ("set", expected) => {
                let gguf = Gguf::parse(&bytes).unwrap();
                assert_eq!(spelled(&GgufSet::new(vec![gguf]).unwrap_err()), expected);
            }
            _ => read_all(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")),
        }
        n_files += 1;
    }
    assert!(n_files >= 40, "{n_files} files");
}
