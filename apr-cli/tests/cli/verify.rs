//! `apr verify`: verdicts, reports and exit codes.

use std::{fs, path::PathBuf};

use serde_json::Value;
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use tempfile::TempDir;

use crate::{done, stderr, stdout};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let model = SynthModel {
            geometry: Geometry::TINY,
            mix: TypeMix::Named("q4_k_m".parse().unwrap()),
            vocab: Vocab::ByteLevel,
            seed: 1,
        };
        fs::write(folder.path("m.gguf"), model.to_bytes().unwrap()).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Changes the last byte of a copy: a weight of the output.
    fn damage(&self) {
        let mut bytes = fs::read(self.path("m.gguf")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(self.path("other.gguf"), bytes).unwrap();
    }
}

fn report_of(output: &std::process::Output) -> Value {
    serde_json::from_str(stdout(output)).unwrap()
}

#[test]
fn the_built_in_model_is_verified_without_a_file() {
    let quick = done(&["verify", "--quick"]);
    assert_eq!(quick.status.code(), Some(0), "{}", stderr(&quick));
    assert_eq!(stderr(&quick), "");
    let text = stdout(&quick);
    let stages = [
        "file",
        "numbers",
        "text",
        "kernels",
        "forward",
        "invariance",
    ];
    for stage in stages {
        let line = text.lines().find(|line| line.starts_with(stage)).unwrap();
        assert!(line.contains("passed"), "{text}");
    }
    let last = text.lines().last().unwrap();
    assert_eq!(last, "built-in model: passed, as far as samples show");
}

#[test]
fn a_wrong_file_is_a_report_and_6_and_a_missing_one_an_error_and_4() {
    let folder = Folder::new();
    let bytes = fs::read(folder.path("m.gguf")).unwrap();
    fs::write(folder.path("short.gguf"), &bytes[..bytes.len() - 99]).unwrap();
    let (short, junit) = (folder.text("short.gguf"), folder.text("report.xml"));
    let wrong = done(&["verify", &short, "--junit", &junit]);
    assert_eq!(wrong.status.code(), Some(6));
    assert!(
        stdout(&wrong).starts_with("file        FAILED"),
        "{}",
        stdout(&wrong)
    );
    assert_eq!(
        stderr(&wrong),
        format!("error: {short}: verification failed\n")
    );
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains("tests=\"7\" failures=\"1\"") && xml.contains("output.weight"));
    let missing = done(&["verify", "no/such.gguf"]);
    assert_eq!(missing.status.code(), Some(4));
    assert_eq!(stdout(&missing), "");
}

#[test]
fn copies_are_compared_with_each_other_and_with_a_report() {
    let folder = Folder::new();
    folder.damage();
    let (model, other) = (folder.text("m.gguf"), folder.text("other.gguf"));
    let report = done(&["verify", &model, "--json", "--tokens", "2"]);
    assert_eq!(report_of(&report)["verdict"], "passed");
    fs::write(folder.path("m.json"), stdout(&report)).unwrap();
    let same = done(&[
        "verify",
        &model,
        "--tokens",
        "2",
        "--compare",
        &folder.text("m.json"),
    ]);
    assert_eq!(same.status.code(), Some(0), "{}", stdout(&same));
    for known in [&model, &folder.text("m.json")] {
        let differs = done(&["verify", &other, "--json", "--compare", known]);
        assert_eq!(differs.status.code(), Some(6));
        let findings = &report_of(&differs)["stages"][1]["findings"];
        assert_eq!(findings.as_array().unwrap().len(), 1);
        assert_eq!(findings[0]["place"], "output.weight");
    }
}

#[test]
fn a_model_is_held_to_its_record() {
    let folder = Folder::new();
    folder.damage();
    let (model, other) = (folder.text("m.gguf"), folder.text("other.gguf"));
    let record = folder.text("record.json");
    let recorded = done(&["verify", &model, "--tokens", "2", "--record", &record]);
    assert_eq!(recorded.status.code(), Some(0), "{}", stderr(&recorded));
    let same = done(&["verify", &model, "--tokens", "2", "--against", &record]);
    assert_eq!(same.status.code(), Some(0), "{}", stdout(&same));
    let differs = done(&["verify", &other, "--tokens", "2", "--against", &record]);
    assert_eq!(differs.status.code(), Some(6));
    assert!(
        stdout(&differs).contains("error: output.weight"),
        "{}",
        stdout(&differs)
    );
    // A record that no such model can have made is refused before anything is computed.
    let mut long: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    long["greedy"]["prompt_ids"] = vec![1; 100_000].into();
    fs::write(&record, long.to_string()).unwrap();
    let endless = done(&["verify", &model, "--quick", "--against", &record]);
    assert_eq!(endless.status.code(), Some(3));
    assert!(
        stderr(&endless).contains("golden record: `greedy` has "),
        "{}",
        stderr(&endless)
    );
    // Never in the place of what is read.
    for (flag, target) in [
        ("--record", &model),
        ("--record", &other),
        ("--junit", &other),
    ] {
        let refused = done(&["verify", &model, "--compare", &other, flag, target]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    }
    assert!(
        fs::read(folder.path("m.gguf"))
            .unwrap()
            .starts_with(b"GGUF")
    );
}

#[test]
fn what_cannot_be_written_is_said_before_anything_is_verified() {
    let folder = Folder::new();
    let (model, nowhere) = (folder.text("m.gguf"), folder.text("no/such.xml"));
    for flag in ["--junit", "--record"] {
        let refused = done(&["verify", "--quick", &model, flag, &nowhere]);
        assert_eq!((refused.status.code(), stdout(&refused)), (Some(4), ""));
        assert!(
            stderr(&refused).contains("no/such.xml"),
            "{}",
            stderr(&refused)
        );
    }
    let unread = ["--record", &folder.text("r.json"), "--text", "no/such.txt"];
    let refused = done(&[&["verify", "--quick", &model], &unread[..]].concat());
    assert_eq!((refused.status.code(), stdout(&refused)), (Some(4), ""));
    let twice = [
        "--junit",
        &folder.text("r"),
        "--record",
        &folder.text("./r"),
    ];
    let refused = done(&[&["verify", "--quick", &model], &twice[..]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(!folder.path("r").exists() && !folder.path("r.json").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_verdict_counts_before_a_report_that_cannot_be_kept() {
    let folder = Folder::new();
    fs::write(folder.path("bad.gguf"), "GGUF").unwrap();
    let bad = folder.text("bad.gguf");
    let wrong = done(&["verify", &bad, "--json", "--junit", "/dev/full"]);
    assert_eq!(wrong.status.code(), Some(6));
    assert_eq!(report_of(&wrong)["verdict"], "failed");
    assert!(stderr(&wrong).contains("/dev/full"), "{}", stderr(&wrong));
}

#[test]
fn numbers_of_tokens_that_no_reference_can_hold_are_refused() {
    for n in ["0", "1025", "4000000000", "18446744073709551615"] {
        let refused = done(&["verify", "--quick", "--tokens", n]);
        assert_eq!(refused.status.code(), Some(2), "{n}");
    }
}
