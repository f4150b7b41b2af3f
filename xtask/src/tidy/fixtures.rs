//! Reference data: small, named `subject__case.ext`, and listed with its origin.
//!
//! A line of `tests/data/README.md` may stand for several files: in the names it gives in
//! backticks, `*` and `TYPE` stand for anything.

use super::Violation;
use crate::workspace::SourceFile;

/// The most bytes of a fixture.
const MAX_BYTES: u64 = 100_000;

const FOLDER: &str = "tests/data/";

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let fixtures = || {
        files.iter().filter_map(|file| {
            let at = file.path.find(FOLDER)? + FOLDER.len();
            let (folder, name) = file.path.split_at(at);
            (name != "README.md").then_some((file, folder, name))
        })
    };
    let mut violations = Vec::new();
    for (file, folder, name) in fixtures() {
        let mut report = |message: &str| violations.push(Violation::new(&file.path, message));
        if file.n_bytes > MAX_BYTES {
            report(&format!("{} bytes, more than {MAX_BYTES}", file.n_bytes));
        }
        if !name.contains("__") {
            report("fixtures are named `subject__case.ext`");
        }
        let readme = format!("{folder}README.md");
        let readme = files.iter().find(|file| file.path == readme);
        if !readme.is_some_and(|readme| listed(readme).any(|pattern| matches(pattern, name))) {
            report("not listed in README.md beside it");
        }
    }
    for readme in files
        .iter()
        .filter(|file| file.path.ends_with("tests/data/README.md"))
    {
        let folder = readme.path.trim_end_matches("README.md");
        for pattern in listed(readme) {
            let exists = fixtures().any(|(_, at, name)| at == folder && matches(pattern, name));
            if !exists {
                let message = format!("lists `{pattern}`, which is not there");
                violations.push(Violation::new(&readme.path, message));
            }
        }
    }
    violations
}

/// Returns the names of fixtures that a list gives in backticks.
fn listed(readme: &SourceFile) -> impl Iterator<Item = &str> {
    let quoted = readme.text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains("__") && name.contains('.'))
}

fn matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.replace("TYPE", "*");
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| name.strip_prefix(start)) else {
        return false;
    };
    let Some(end) = pattern.contains('*').then(|| parts.next_back()).flatten() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{broken, file},
        *,
    };

    #[test]
    fn unlisted_large_and_misnamed_fixtures_are_found() {
        let readme = "| `a__b.bin` | x |\n| `TYPE__ggml.bin` | `f32` |\n| `gone__now.bin` | |";
        let files = [
            file("k/tests/data/README.md", readme),
            file("k/tests/data/a__b.bin", &"x".repeat(100_001)),
            file("k/tests/data/q4_k__ggml.bin", ""),
            file("k/tests/data/c__d.bin", ""),
            file("k/tests/data/plain.bin", ""),
            file("m/tests/data/e__f.bin", ""),
            file("k/tests/golden.rs", ""),
        ];
        assert_eq!(
            broken(check, &files),
            [
                "k/tests/data/a__b.bin: 100001 bytes, more than 100000",
                "k/tests/data/c__d.bin: not listed in README.md beside it",
                "k/tests/data/plain.bin: fixtures are named `subject__case.ext`",
                "k/tests/data/plain.bin: not listed in README.md beside it",
                "m/tests/data/e__f.bin: not listed in README.md beside it",
                "k/tests/data/README.md: lists `gone__now.bin`, which is not there",
            ]
        );
    }

    #[test]
    fn patterns_stand_for_several_names() {
        assert!(matches("a__b.bin", "a__b.bin"));
        assert!(!matches("a__b.bin", "a__b.bin2"));
        assert!(matches("template__*.jinja", "template__Qwen3.jinja"));
        assert!(matches("*__*.bin", "a__b.bin"));
        assert!(!matches("*__*.bin", "a_b.bin"));
        assert!(!matches("TYPE__ggml.bin", "q4_k__ggml.txt"));
    }
}
