//! Every failure: its code, one line that says what is wrong, and nothing on stdout.

use std::fs;

use crate::{apr, done, fed, stderr, stdout};

struct Case<'a> {
    args: &'a [&'a str],
    code: i32,
    says: &'a [&'a str],
}

fn check(case: &Case<'_>) {
    let output = done(case.args);
    assert_eq!(
        output.status.code(),
        Some(case.code),
        "{:?}: {}",
        case.args,
        stderr(&output)
    );
    assert_eq!(stdout(&output), "", "{:?}", case.args);
    for part in case.says {
        assert!(
            stderr(&output).contains(part),
            "{:?}: {}",
            case.args,
            stderr(&output)
        );
    }
}

#[test]
fn files_that_are_no_models_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (garbage, empty) = (path("garbage.gguf"), path("empty.gguf"));
    fs::write(&garbage, "<!DOCTYPE html><html></html>").unwrap();
    fs::write(&empty, "").unwrap();
    let (missing, directory) = (path("missing.gguf"), path(""));
    for verb in ["run", "inspect", "tokenize"] {
        let cases = [(&missing, 4), (&directory, 4), (&garbage, 3), (&empty, 3)];
        for (file, code) in cases {
            check(&Case {
                args: &[verb, "-m", file],
                code,
                says: &["error: ", file],
            });
        }
    }
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let cases: [&[&str]; 16] = [
        &["--frobnicate"],
        &["frobnicate"],
        &["run", "-p", "x", "-f", "y"],
        &["run", "-p", ""],
        &["run", "-p", "x", "-t", "0"],
        &["run", "-p", "x", "-n", "-5"],
        &["run", "-p", "x", "-c", "99999999"],
        &["run", "-p", "x", "-b", "0"],
        &["run", "-p", "x", "--isa", "mmx"],
        &["run", "-p", "x", "--temp", "nan"],
        &["run", "-p", "x", "--top-p", "1.5"],
        &["run", "-p", "x", "-ctk", "q3_k"],
        &["run", "-p", "x", "-l", "5"],
        &["run", "-p", "x", "-l", "999999+1"],
        &["logits", "-p", "x"],
        &["bench", "-r", "0"],
    ];
    for args in cases {
        check(&Case {
            args,
            code: 2,
            says: &["error"],
        });
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_named_with_both_counts() {
    let prompt = "to be or not to be ".repeat(20);
    let args = ["run", "-p", &prompt, "-c", "16"];
    check(&Case {
        args: &args,
        code: 1,
        says: &["the prompt has ", "the context holds 16"],
    });
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_place() {
    let output = fed(&["run"], b"ROMEO: \xff\xfe");
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("stdin: byte 7 is no UTF-8"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x").to_str().unwrap().to_owned();
    let cases: [(&[&str], i32); 4] = [
        (&["logits", "--tokens", "1,2048", "-o", &out], 2),
        (&["logits", "--tokens", "1,-2", "-o", &out], 2),
        (&["logits", "--tokens", "", "-o", &out], 2),
        (&["detokenize", "--tokens", "99999"], 3),
    ];
    for (args, code) in cases {
        check(&Case {
            args,
            code,
            says: &["error: "],
        });
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no part of a file may be left"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_a_system_error() {
    let args = ["logits", "-p", "x", "-o", "/no/such/folder/x.safetensors"];
    check(&Case {
        args: &args,
        code: 4,
        says: &["/no/such/folder/x.safetensors"],
    });
}

#[test]
fn an_environment_variable_is_checked_like_its_flag() {
    let output = apr(&["run", "-p", "x"])
        .env("APR_THREADS", "many")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("many"));
}

#[test]
fn help_is_no_failure() {
    for args in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let output = done(args);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stderr(&output), "");
        assert!(stdout(&output).contains("apr"));
    }
}
