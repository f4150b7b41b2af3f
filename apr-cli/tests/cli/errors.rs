//! Every failure: its code, one line that says what is wrong, and nothing on stdout.

use std::fs;

use gguf_format::{Encode, Gguf, GgufWriter};

use crate::{BUILTIN, apr, done, fed, stderr, stdout};

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
        let cases = [(&missing, 4), (&directory, 3), (&garbage, 3), (&empty, 3)];
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
fn a_flag_counts_before_an_environment_variable() {
    let run = |args: &[&str], name: &str, value: &str| {
        let mut command = apr(args);
        command.env(name, value).output().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (text, out) = (path("text"), path("out"));
    fs::write(&text, "ROMEO:").unwrap();
    let args = ["run", "-q", "-n", "0"];
    let output = run(&[&args[..], &["-f", &text]].concat(), "APR_PROMPT", "hello");
    assert_eq!(stdout(&output), "ROMEO:", "{}", stderr(&output));
    let output = run(&[&args[..], &["-p", "hi"]].concat(), "APR_FILE", &text);
    assert_eq!(stdout(&output), "hi", "{}", stderr(&output));
    let output = run(&args, "APR_FILE", &text);
    assert_eq!(stdout(&output), "ROMEO:", "{}", stderr(&output));

    let args = ["logits", "-o", &out];
    let ids = run(&args, "APR_TOKENS", "1,2,3,4,5,6,7");
    assert!(stderr(&ids).contains("7 tokens"), "{}", stderr(&ids));
    let args = [&args[..], &["-p", "a"]].concat();
    let prompt = run(&args, "APR_TOKENS", "1,2,3,4,5,6,7");
    assert!(stderr(&prompt).contains("1 token "), "{}", stderr(&prompt));
    let both = done(&[&args[..], &["--tokens", "1"]].concat());
    assert_eq!(both.status.code(), Some(2));
    assert!(stderr(&both).contains("--tokens cannot be used together with --prompt"));
}

#[test]
fn flags_of_llama_cpp_without_a_meaning_are_named() {
    for (flag, says) in [
        ("-ngl", "no GPU"),
        ("-fa", "attention"),
        ("-cnv", "`apr chat`"),
    ] {
        check(&Case {
            args: &["run", "-p", "x", flag, "1"],
            code: 2,
            says: &[&format!("{flag} has no meaning here"), says],
        });
    }
}

#[test]
fn a_command_line_without_a_verb_is_told_of_verbs() {
    for args in [["-p", "hi"], ["-m", "x.gguf"]] {
        check(&Case {
            args: &args,
            code: 2,
            says: &[args[0], "`apr run -p TEXT`"],
        });
    }
}

#[test]
fn a_value_out_of_its_range_names_its_flag() {
    let cases = [
        ("--top-p", "2", "0 to 1"),
        ("--temp", "-1", "0, which is greedy"),
        ("--batch-size", "0", "1 to 65536"),
        ("--repeat-last-n", "-2", "-1 for all"),
        ("--logit-bias", "999999+1", "an id below 2048"),
    ];
    for (flag, value, says) in cases {
        check(&Case {
            args: &["run", "-p", "x", flag, value],
            code: 2,
            says: &[flag, says],
        });
    }
}

/// Writes the built-in model with one more metadata value.
fn changed_model(path: &str, key: &str, value: impl Encode) {
    let bytes = fs::read(BUILTIN).unwrap();
    let builtin = Gguf::parse(&bytes).unwrap();
    let mut writer = GgufWriter::new();
    writer.set_all(builtin.metadata()).unwrap();
    writer.set(key, value).unwrap();
    let mut data = Vec::new();
    for tensor in builtin.tensors() {
        let info = tensor.info;
        writer.tensor(info.name(), info.ne(), info.ty()).unwrap();
        data.push(tensor.data);
    }
    fs::write(path, writer.to_bytes(&data).unwrap()).unwrap();
}

#[test]
fn a_context_beyond_all_memory_is_refused_before_it_is_filled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf").to_str().unwrap().to_owned();
    changed_model(&path, "qwen3moe.context_length", u32::MAX);
    check(&Case {
        args: &["run", "-m", &path, "-p", "x", "-c", "4000000000"],
        code: 5,
        says: &["not enough memory", "4000000000 tokens", "--ctx-size"],
    });
}

#[test]
fn an_order_that_the_file_recommends_in_vain_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join("order.gguf")
        .to_str()
        .unwrap()
        .to_owned();
    changed_model(&path, "general.sampling.sequence", "temperature;top_k");
    let run = |more: &[&str]| done(&[&["run", "-m", &path, "-p", "x", "-n", "1"], more].concat());
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stderr(&output).matches("order temperature;top_k").count(),
        1
    );
    assert_eq!(stderr(&run(&["-q"])), "");
    assert!(!stderr(&done(&["run", "-p", "x", "-n", "1"])).contains("order"));
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
