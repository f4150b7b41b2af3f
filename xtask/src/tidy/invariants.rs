//! What a crate must not know: the invariants of ARCHITECTURE.md that show in the source.

use super::{
    Violation,
    rust_code::{code, lines_with, rust_files, without_tests},
};
use crate::workspace::SourceFile;

/// Something that crates do not do, and the words that give it away.
struct Invariant {
    /// The crates' folders.
    crates: &'static [&'static str],
    /// Files that may all the same.
    except: &'static [&'static str],
    words: &'static [&'static str],
    message: &'static str,
}

const LIBRARIES: [&str; 10] = [
    "gguf-format",
    "quant-kernels",
    "moe-model",
    "tokenizer",
    "sampler",
    "reply-parser",
    "generate",
    "synth-model",
    "type-mix",
    "model-tools",
];

const INVARIANTS: [Invariant; 7] = [
    Invariant {
        crates: &LIBRARIES,
        except: &[],
        words: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "process::exit",
            "process::abort",
        ],
        message: "libraries neither print nor exit",
    },
    Invariant {
        crates: &LIBRARIES,
        // How long a thread spins before it sleeps changes no answer.
        except: &["quant-kernels/src/pool.rs"],
        words: &[
            "std::env",
            "env::var",
            "env::args",
            "Instant::now",
            "SystemTime::now",
        ],
        message: "only binaries read arguments, environment and clock",
    },
    Invariant {
        crates: &[
            "gguf-format",
            "quant-kernels",
            "sampler",
            "reply-parser",
            "synth-model",
            "type-mix",
        ],
        except: &[],
        words: &["std::fs", "fs::", "File::open", "std::net"],
        message: "this crate opens no file",
    },
    Invariant {
        crates: &LIBRARIES,
        // The team; templates nest as deep as they like, on a stack of their own, and so do
        // grammars, of which what comes next is found out beside the team's work; files of the
        // prefix cache are written behind.
        except: &[
            "generate/src/prefix_cache/disk.rs",
            "quant-kernels/src/pool.rs",
            "sampler/src/grammar/compile.rs",
            "sampler/src/grammar/worker.rs",
            "tokenizer/src/template/limits.rs",
        ],
        words: &[
            "thread::spawn",
            "thread::scope",
            "thread::Builder",
            "process::Command",
        ],
        message: "threads are started in quant-kernels/src/pool.rs",
    },
    Invariant {
        crates: &[
            "gguf-format",
            "quant-kernels",
            "moe-model",
            "tokenizer",
            "sampler",
            "reply-parser",
            "generate",
            "type-mix",
        ],
        except: &[],
        words: &["rayon"],
        message: "work is shared by the team of quant-kernels alone",
    },
    Invariant {
        crates: &[
            "gguf-format",
            "moe-model",
            "tokenizer",
            "sampler",
            "reply-parser",
            "generate",
            "synth-model",
            "type-mix",
            "model-tools",
        ],
        except: &[],
        words: &["std::arch", "core::arch", "is_x86_feature_detected!"],
        message: "instruction sets are the business of quant-kernels",
    },
    Invariant {
        crates: &["apr-server"],
        except: &[],
        words: &[
            "println!",
            "eprintln!",
            "process::exit",
            "std::env",
            "std::fs",
            "fs::",
            "File::open",
            "thread::spawn",
            "thread::Builder",
            "process::Command",
        ],
        message: "the server speaks HTTP and does nothing else",
    },
];

pub(super) fn check(files: &[SourceFile]) -> Vec<Violation> {
    rust_files(files).flat_map(broken_by).collect()
}

fn broken_by(file: &SourceFile) -> Vec<Violation> {
    let Some((krate, _)) = file.path.split_once("/src/") else {
        return Vec::new();
    };
    let code = code(&file.text);
    let code = without_tests(&code);
    let mut violations = Vec::new();
    for invariant in &INVARIANTS {
        let path = file.path.as_str();
        if !invariant.crates.contains(&krate) || invariant.except.contains(&path) {
            continue;
        }
        for word in invariant.words {
            violations.extend(lines_with(code, word).map(|line| {
                let message = format!("`{word}`: {}", invariant.message);
                Violation::new(format!("{path}:{line}"), message)
            }));
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
    fn each_invariant_finds_its_words() {
        for invariant in &INVARIANTS {
            for word in invariant.words {
                let path = format!("{}/src/x.rs", invariant.crates[0]);
                let found = broken(check, &[file(&path, &format!("\n{word}(x)"))]);
                let expected = format!("{path}:2: `{word}`: {}", invariant.message);
                assert!(found.contains(&expected), "{word}: {found:?}");
            }
        }
    }

    #[test]
    fn tests_comments_binaries_and_exceptions_are_free() {
        let files = [
            file(
                "sampler/src/a.rs",
                "// println!\n#[cfg(test)]\nmod tests { println!() }",
            ),
            file("sampler/tests/a.rs", "println!()"),
            file("apr-cli/src/main.rs", "println!(); std::env::args()"),
            file(
                "quant-kernels/src/pool.rs",
                "Instant::now(); std::thread::spawn(f)",
            ),
            file("gguf-format/src/a.rs", "offs::x"),
        ];
        assert_eq!(broken(check, &files), Vec::<String>::new());
    }
}
