//! Traces of unfinished work, and lints that were silenced for good.

use super::{
    Violation,
    rust_code::{lines_with, rust_files},
};
use crate::workspace::SourceFile;

/// Words, and what to do instead. They are spelled in two parts so that this file passes.
const MARKERS: [(&str, &str, &str); 6] = [
    ("TO", "DO", "finish it or leave it out"),
    ("FIX", "ME", "finish it or leave it out"),
    ("todo", "!", "finish it or leave it out"),
    ("unimplemented", "!", "finish it or leave it out"),
    ("#[ig", "nore", "a test runs or goes"),
    (
        "#[al",
        "low(",
        "`#[expect(…, reason)]` says when it is no longer needed",
    ),
];

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in rust_files(files) {
        for (start, end, advice) in MARKERS {
            let word = [start, end].concat();
            for line in lines_with(&file.text, &word) {
                let place = format!("{}:{line}", file.path);
                violations.push(Violation::new(place, format!("`{word}`: {advice}")));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{broken, file},
        *,
    };

    #[test]
    fn each_marker_is_found_with_its_line() {
        for (start, end, advice) in MARKERS {
            let word = [start, end].concat();
            let files = [file(
                "a/src/lib.rs",
                &format!("fn a() {{}}\n    {word} later"),
            )];
            assert_eq!(
                broken(check, &files),
                [format!("a/src/lib.rs:2: `{word}`: {advice}")]
            );
        }
        let harmless = [
            file("a/src/lib.rs", "a masTODOn"),
            file("a.md", "TO".repeat(2).as_str()),
        ];
        assert!(check(&harmless).is_empty());
    }
}
