//! File names and lengths: a file answers one question, and its name says which.

use super::{Violation, rust_code::rust_files};
use crate::workspace::SourceFile;

/// The most lines of a file in `src`.
const MAX_LINES: usize = 600;

/// Names that say nothing.
const EMPTY_NAMES: [&str; 5] = ["mod.rs", "utils.rs", "util.rs", "helpers.rs", "misc.rs"];

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    rust_files(files)
        .flat_map(|file| [name(file), length(file)])
        .flatten()
        .collect()
}

fn name(file: &SourceFile) -> Option<Violation> {
    let name = file.path.rsplit('/').next()?;
    let advice = match name {
        "mod.rs" => "a module is `foo.rs` beside `foo/`",
        _ => "the name does not say what the file is for",
    };
    EMPTY_NAMES
        .contains(&name)
        .then(|| Violation::new(&file.path, advice))
}

fn length(file: &SourceFile) -> Option<Violation> {
    let n_lines = file.text.lines().count();
    let is_source = file.path.split('/').any(|part| part == "src");
    (is_source && n_lines > MAX_LINES).then(|| {
        let message = format!("{n_lines} lines, more than {MAX_LINES}; split it by idea");
        Violation::new(&file.path, message)
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{broken, file},
        *,
    };

    #[test]
    fn long_files_and_empty_names_are_found() {
        let long = "\n".repeat(601);
        let files = [
            file("a/src/lib.rs", &long[1..]),
            file("a/src/reader.rs", &long),
            file("a/tests/corrupt.rs", &long),
            file("a/src/blocks/mod.rs", ""),
            file("a/src/utils.rs", ""),
            file("a/mod.rs.md", &long),
        ];
        assert_eq!(
            broken(check, &files),
            [
                "a/src/reader.rs: 601 lines, more than 600; split it by idea",
                "a/src/blocks/mod.rs: a module is `foo.rs` beside `foo/`",
                "a/src/utils.rs: the name does not say what the file is for",
            ]
        );
    }
}
