//! `apr convert`: from folder to file and back, what is said, and what is left after a failure.

use std::{fs, path::PathBuf};

use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use tempfile::TempDir;

use crate::{BUILTIN, done, json, stderr, stdout};

/// A folder with a model `bf16.gguf` in it.
struct Folder {
    temp: TempDir,
}

impl Folder {
    fn new(geometry: Geometry) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let model = SynthModel {
            geometry,
            mix: TypeMix::Named("bf16".parse().unwrap()),
            vocab: Vocab::ByteLevel,
            seed: 1,
        };
        fs::write(temp.path().join("bf16.gguf"), model.to_bytes().unwrap()).unwrap();
        Self { temp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.temp.path()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_becomes_a_folder_and_the_folder_a_file() {
    let files = Folder::new(Geometry::TINY);
    let [given, folder, back] = ["bf16.gguf", "model", "back.gguf"].map(|name| files.text(name));
    let made = done(&["convert", &given, &folder]);
    assert_eq!(
        (made.status.code(), stdout(&made)),
        (Some(0), ""),
        "{}",
        stderr(&made)
    );
    assert!(
        stderr(&made).contains("model: 1 file of weights"),
        "{}",
        stderr(&made)
    );
    let quiet = done(&["convert", "-q", "-t", "1", &folder, &back]);
    assert_eq!((quiet.status.code(), stderr(&quiet)), (Some(0), ""));
    let run = |model: &str| {
        let args = [
            "run", "-m", model, "-p", "x", "-n", "4", "--temp", "0", "-q",
        ];
        let run = done(&args);
        assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
        stdout(&run).to_owned()
    };
    assert_eq!(run(&folder), run(&given));
    assert_eq!(run(&back), run(&given));
    let metadata = |model: &str| json(&["inspect", "--json", "-m", model])["metadata"].clone();
    let (mut found, expected) = (metadata(&back), metadata(&given));
    let added = found.as_object_mut().unwrap().remove("general.size_label");
    assert!(added.is_some());
    assert_eq!(found, expected);
    assert_eq!(files.names(), ["back.gguf", "bf16.gguf", "model"]);

    let [one, other] = ["a.gguf", "b.gguf"].map(|name| files.text(name));
    assert_eq!(
        done(&["quantize", "-q", &folder, &one, "q4_k_m"])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(
        done(&["quantize", "-q", &back, &other, "q4_k_m"])
            .status
            .code(),
        Some(0)
    );
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap());
    let args = ["convert", "-q", &folder, &back, "--outtype", "Q8_0"];
    assert_eq!(done(&args).status.code(), Some(0));
    assert_eq!(metadata(&back)["general.file_type"], 7);
}

#[test]
fn quantized_weights_become_floats_and_it_is_said() {
    let files = Folder::new(Geometry::TINY);
    let folder = files.text("model");
    let made = done(&["convert", "-q", BUILTIN, &folder]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let says = "weights become BF16; what quantizing lost of them does not come back\n";
    assert!(stderr(&made).ends_with(says), "{}", stderr(&made));
    let ids = |model: &str| {
        let output = done(&["tokenize", "-m", model, "-p", "To be, or not to be <think>"]);
        stdout(&output).to_owned()
    };
    assert_eq!(ids(&folder), ids(BUILTIN));
    let config = fs::read_to_string(files.path("model/config.json")).unwrap();
    assert!(config.contains("\"torch_dtype\": \"bfloat16\""), "{config}");
}

#[test]
fn failures_have_their_codes_and_leave_nothing() {
    let files = Folder::new(Geometry::TINY);
    let [given, folder, full] = ["bf16.gguf", "model", "full"].map(|name| files.text(name));
    assert_eq!(
        done(&["convert", "-q", &given, &folder]).status.code(),
        Some(0)
    );
    fs::create_dir(files.path("full")).unwrap();
    fs::write(files.path("full/precious"), "old").unwrap();
    let [out, weights] = ["out", "model/model.safetensors"].map(|name| files.text(name));
    let before = files.names();
    let cases: [(&[&str], i32, &str); 8] = [
        (&[&given, &full], 4, "found one with files in it"),
        (&[&given, &files.text("out.gguf")], 2, "becomes a folder"),
        (&[&given, &given], 2, "becomes a folder"),
        (&[&given, &out, "--outtype", "q8_0"], 2, "not Q8_0"),
        (&[&folder, &full], 2, "becomes a GGUF file"),
        (&[&folder, &weights], 2, "is one of those to read"),
        (&[&given, "/no/such/folder/out"], 4, "/no/such/folder/out"),
        (&[&full, &out], 3, "without config.json"),
    ];
    for (args, code, says) in cases {
        let output = done(&[&["convert"], args].concat());
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
        assert_eq!(files.names(), before, "{args:?}");
    }
    fs::write(
        files.path("model/tokenizer_config.json"),
        "{\"add_eos_token\": true}",
    )
    .unwrap();
    let refused = done(&["convert", &folder, &out]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("add_eos_token"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(files.names(), before);
}

#[cfg(unix)]
mod unix {
    use std::{
        process::{Command, Output, Stdio},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::apr;

    /// Runs with a limit on the size of files, in units of 512 bytes.
    fn limited(args: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_apr");
        let script = "ulimit -f 64; exec \"$@\"";
        let args = [&["-c", script, "sh", program], args].concat();
        Command::new("sh").args(args).output().unwrap()
    }

    #[test]
    fn a_limit_on_the_size_of_files_is_an_error_and_leaves_nothing() {
        let files = Folder::new(Geometry::TINY);
        let [given, folder, out] = ["bf16.gguf", "model", "out.gguf"].map(|name| files.text(name));
        assert_eq!(
            done(&["convert", "-q", &given, &folder]).status.code(),
            Some(0)
        );
        fs::write(&out, "precious").unwrap();
        let before = files.names();
        let new = files.text("new");
        for args in [
            &["convert", &folder, &out][..],
            &["convert", &given, &new],
            &["quantize", &given, &out, "q8_0"],
        ] {
            let output = limited(args);
            assert_eq!(
                output.status.code(),
                Some(4),
                "{args:?}: {}",
                stderr(&output)
            );
            assert!(stderr(&output).contains(args[2]), "{}", stderr(&output));
            assert_eq!(files.names(), before, "{args:?}");
            assert_eq!(fs::read(&out).unwrap(), b"precious");
        }
    }

    /// Begins a work and sends a signal in the midst of it.
    fn ended_by(signal: &str, work: &[&str], files: &Folder) -> Output {
        let before = files.names();
        let child = apr(work).stderr(Stdio::piped()).spawn().unwrap();
        while files.names() == before {
            thread::sleep(Duration::from_millis(1));
        }
        let id = child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        child.wait_with_output().unwrap()
    }

    /// From a file to a folder, from the folder to a file, and from a file to a smaller one.
    #[test]
    fn a_work_that_is_ended_leaves_what_was_there() {
        // Long enough for one thread.
        let files = Folder::new(Geometry {
            n_layer: 6,
            ..Geometry::SMALL
        });
        let [given, model] = ["bf16.gguf", "model"].map(|name| files.text(name));
        let made = done(&["convert", "-q", &given, &model]);
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
        let [folder, file, smaller] = ["folder", "file", "smaller"].map(|name| files.text(name));
        let old = || [&file, &smaller].map(|path| fs::read_to_string(path).unwrap());
        fs::write(&file, "precious").unwrap();
        fs::write(&smaller, "precious").unwrap();
        let before = files.names();
        let to_f32 = ["convert", "-t", "1", "--outtype", "f32"];
        for work in [
            &[&to_f32[..], &[&given, &folder]].concat(),
            &[&to_f32[..], &[&model, &file]].concat(),
            &["quantize", "-t", "1", &given, &smaller, "iq4_xs"][..],
        ] {
            let ended = |signal: &str, code: Option<i32>| {
                let output = ended_by(signal, work, &files);
                assert_eq!(output.status.code(), code, "{work:?}: {}", stderr(&output));
                assert_eq!(old(), ["precious"; 2]);
                let mut left = files.names();
                left.retain(|name| !before.contains(name));
                left
            };
            assert_eq!(ended("-INT", Some(130)), [""; 0], "{work:?}");
            // Nobody can clean up then, but the next one does.
            let left = ended("-KILL", None);
            let is_partial = matches!(left.as_slice(), [one] if one.ends_with(".partial"));
            assert!(is_partial, "{work:?}: {left:?}");
            assert_eq!(ended("-TERM", Some(130)), [""; 0], "{work:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_that_is_full_is_named() {
        let files = Folder::new(Geometry::TINY);
        let output = done(&["quantize", &files.text("bf16.gguf"), "/dev/full", "q8_0"]);
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains("/dev/full"), "{}", stderr(&output));
    }
}
