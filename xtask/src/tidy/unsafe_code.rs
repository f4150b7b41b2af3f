//! Where unsafe code may live. Everywhere else the compiler forbids it, and this rule checks
//! that it was told to.

use super::{
    Violation,
    rust_code::{code, lines_with, rust_files},
};
use crate::workspace::SourceFile;

/// The files that may say `unsafe`, and why.
const ALLOWED: [(&str, &str); 14] = [
    ("moe-model/src/file.rs", "the memory map"),
    (
        "apr-cli/src/heap.rs",
        "functions of the C library that hand memory back",
    ),
    (
        "quant-kernels/src/pool.rs",
        "threads share the work of a phase",
    ),
    (
        "quant-kernels/src/pool/parts.rs",
        "threads write disjoint parts of one buffer",
    ),
    (
        "quant-kernels/src/lanes.rs",
        "the border to code compiled with features",
    ),
    (
        "quant-kernels/src/product.rs",
        "the border to code compiled with features",
    ),
    (
        "quant-kernels/src/avx2.rs",
        "the border to code compiled with features",
    ),
    (
        "quant-kernels/src/avx2/dwords.rs",
        "trait methods cannot carry the feature attribute",
    ),
    (
        "quant-kernels/src/avx2/lanes.rs",
        "trait methods cannot carry the feature attribute",
    ),
    (
        "quant-kernels/src/avx2/load.rs",
        "loads and stores take pointers",
    ),
    (
        "quant-kernels/src/avx512.rs",
        "the border to code compiled with features",
    ),
    (
        "quant-kernels/src/avx512/dwords.rs",
        "trait methods cannot carry the feature attribute",
    ),
    (
        "quant-kernels/src/avx512/lanes.rs",
        "trait methods cannot carry the feature attribute",
    ),
    (
        "quant-kernels/src/avx512/load.rs",
        "loads and stores take pointers",
    ),
];

/// Where tests may, that count allocations.
const TESTS: &str = "/tests/";

/// Crates whose roots cannot forbid unsafe code, because files of theirs are allowed it.
const EXCEPTIONS: [&str; 3] = ["apr-cli/", "moe-model/", "quant-kernels/"];

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = unlisted(files);
    for file in rust_files(files) {
        let path = file.path.as_str();
        let code = code(&file.text);
        let allowed = ALLOWED.iter().any(|(allowed, _)| *allowed == path) || path.contains(TESTS);
        if !allowed {
            violations.extend(lines_with(&code, "unsafe").map(|line| {
                let message = "unsafe code lives in the files listed in `xtask tidy` only";
                Violation::new(format!("{path}:{line}"), message)
            }));
        }
        let says = lines_with(&code, "unsafe").next().is_some();
        if ALLOWED.iter().any(|(allowed, _)| *allowed == path) && !says {
            violations.push(Violation::new(
                path,
                "says no `unsafe`, so needs no exception",
            ));
        }
        let is_root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
        let is_exception = EXCEPTIONS.iter().any(|krate| path.starts_with(krate));
        if is_root && !is_exception && !code.contains("#![forbid(unsafe_code)]") {
            violations.push(Violation::new(path, "says no `#![forbid(unsafe_code)]`"));
        }
    }
    violations
}

/// Returns the allowed files that the table in ARCHITECTURE.md leaves out.
fn unlisted(files: &[SourceFile]) -> Vec<Violation> {
    let map = files.iter().find(|file| file.path == "ARCHITECTURE.md");
    let is_listed = |map: &SourceFile, path: &str| map.text.contains(&format!("| `{path}` |"));
    let missing = ALLOWED
        .iter()
        .filter(|(path, _)| map.is_some_and(|map| !is_listed(map, path)));
    missing
        .map(|(path, _)| {
            let message = format!("unsafe code in `{path}` is not listed");
            Violation::new("ARCHITECTURE.md", message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{broken, file},
        *,
    };

    #[test]
    fn unsafe_outside_its_files_is_found() {
        let block = "// unsafe\nfn f() { unsafe {} }";
        let files = [
            file("moe-model/src/file.rs", block),
            file("moe-model/src/forward.rs", block),
            file("sampler/tests/no_allocation.rs", block),
            file("sampler/src/lib.rs", "#![forbid(unsafe_code)]\n// unsafe\n"),
            file("tokenizer/src/lib.rs", "// #![forbid(unsafe_code)]"),
            file("quant-kernels/src/lib.rs", ""),
            file("quant-kernels/src/pool.rs", "// unsafe"),
        ];
        assert_eq!(
            broken(check, &files),
            [
                "moe-model/src/forward.rs:2: unsafe code lives in the files listed in \
                 `xtask tidy` only",
                "tokenizer/src/lib.rs: says no `#![forbid(unsafe_code)]`",
                "quant-kernels/src/pool.rs: says no `unsafe`, so needs no exception",
            ]
        );
    }

    #[test]
    fn the_map_lists_every_file_that_may() {
        let rows = ALLOWED[1..]
            .iter()
            .map(|(path, _)| format!("| `{path}` | x |\n"));
        let map = file("ARCHITECTURE.md", &rows.collect::<String>());
        assert_eq!(
            broken(check, &[map]),
            ["ARCHITECTURE.md: unsafe code in `moe-model/src/file.rs` is not listed"]
        );
    }
}
