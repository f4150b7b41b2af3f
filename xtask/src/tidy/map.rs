//! ARCHITECTURE.md as a map: every file it names is there, and so is every function it leads
//! through.
//!
//! What stands in backticks is a path if it has a slash; a folder ends in one. A path and a
//! function in one row of a table, as in `` `a/src/b.rs` | `C::d` ``, say that the file
//! defines `fn d`.

use super::{
    Violation,
    rust_code::{code, lines_with},
};
use crate::workspace::SourceFile;

const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let Some(map) = files.iter().find(|file| file.path == MAP) else {
        return vec![Violation::new(MAP, "there is no map")];
    };
    let lines = (1..).zip(map.text.lines());
    lines
        .flat_map(|(number, line)| check_line(number, line, files))
        .collect()
}

fn check_line(number: usize, line: &str, files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |message| violations.push(Violation::new(format!("{MAP}:{number}"), message));
    let quoted = || line.split('`').skip(1).step_by(2);
    let mut named = None;
    for path in quoted().filter(|word| word.contains('/')) {
        let is_there = |file: &&SourceFile| match path.ends_with('/') {
            true => file.path.starts_with(path) || file.path.contains(&format!("/{path}")),
            false => file.path == path,
        };
        named = files.iter().find(is_there);
        if named.is_none() {
            report(format!("`{path}` is not there"));
        }
    }
    let Some(file) = named.filter(|_| line.starts_with('|')) else {
        return violations;
    };
    let text = code(&file.text);
    for function in quoted().filter_map(function) {
        if lines_with(&text, &format!("fn {function}"))
            .next()
            .is_none()
        {
            report(format!("{} has no `fn {function}`", file.path));
        }
    }
    violations
}

/// Returns the function that `Type::function` or `function()` names.
fn function(word: &str) -> Option<&str> {
    match word.rsplit_once("::") {
        Some((_, function)) => Some(function),
        None => word.strip_suffix("()"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{broken, file},
        *,
    };

    #[test]
    fn files_and_functions_that_are_not_there_are_found() {
        let map = "`a/src/b.rs` and `a/src/gone.rs`, `blocks/`, `none/`, `b.rs`\n\
            | 1 | `a/src/b.rs` | `B::here`, `here()`, `B::lost`, `T` |\n";
        let files = [
            file("ARCHITECTURE.md", map),
            file("a/src/b.rs", "fn here() {} // fn lost()"),
            file("a/src/blocks/c.rs", ""),
        ];
        assert_eq!(
            broken(check, &files),
            [
                "ARCHITECTURE.md:1: `a/src/gone.rs` is not there",
                "ARCHITECTURE.md:1: `none/` is not there",
                "ARCHITECTURE.md:2: a/src/b.rs has no `fn lost`",
            ]
        );
        assert_eq!(broken(check, &[]), ["ARCHITECTURE.md: there is no map"]);
    }
}
