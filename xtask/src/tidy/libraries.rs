//! What a library shows to those who might use it: a README with an example that compiles,
//! and one use in `examples/`.

use super::{Violation, rust_code::code};
use crate::workspace::SourceFile;

const INCLUDES_README: &str = "#![doc = include_str!(\"../README.md\")]";

/// The most lines of an example, for its use to be seen at a glance.
const MAX_LINES: usize = 40;

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let roots = files.iter().filter_map(|file| {
        let krate = file.path.strip_suffix("/src/lib.rs")?;
        Some((krate, file))
    });
    roots
        .flat_map(|(krate, root)| check_library(krate, root, files))
        .collect()
}

fn check_library(krate: &str, root: &SourceFile, files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |place: &str, message: &str| violations.push(Violation::new(place, message));
    let readme = format!("{krate}/README.md");
    if !files.iter().any(|file| file.path == readme) {
        report(&readme, "every library has a README");
    }
    if !root.text.contains(INCLUDES_README) {
        let message = format!("says no `{INCLUDES_README}`, so its example is not compiled");
        report(&root.path, &message);
    }
    let folder = format!("{krate}/examples/");
    let mut n_examples = 0;
    for file in files.iter().filter(|file| file.path.starts_with(&folder)) {
        n_examples += usize::from(code(&file.text).contains("fn main()"));
        let n_lines = file.text.lines().count();
        if n_lines > MAX_LINES {
            report(
                &file.path,
                &format!("{n_lines} lines, more than {MAX_LINES}"),
            );
        }
    }
    if n_examples == 0 {
        report(&folder, "every library shows one use");
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
    fn a_library_has_readme_and_examples() {
        let files = [
            file("a/src/lib.rs", INCLUDES_README),
            file("a/README.md", ""),
            file("a/examples/use.rs", "fn main() {}"),
            file("b/src/lib.rs", "//! b"),
            file("c/src/lib.rs", INCLUDES_README),
            file("c/README.md", ""),
            file(
                "c/examples/use.rs",
                &format!("// fn main(){}", "\n".repeat(41)),
            ),
            file("d/src/main.rs", ""),
        ];
        assert_eq!(
            broken(check, &files),
            [
                "b/README.md: every library has a README".to_owned(),
                format!(
                    "b/src/lib.rs: says no `{INCLUDES_README}`, so its example is not compiled"
                ),
                "b/examples/: every library shows one use".to_owned(),
                "c/examples/use.rs: 41 lines, more than 40".to_owned(),
                "c/examples/: every library shows one use".to_owned(),
            ]
        );
    }
}
