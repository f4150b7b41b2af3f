//! What verification has to find, and what only another copy of the file can tell.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroUsize, ops::ControlFlow, path::Path, time::Duration};

use gguf_format::{GgmlType, Gguf, GgufWriter, Metadata};
use model_tools::{
    CheckpointOptions, CheckpointPlan, NewFolder, Plan, QuantizeOptions, Source, TensorType,
    verify::{
        Caller, Depth, Event, Report, Severity, Stage, StageReport, Verdict, VerifyOptions, hashes,
        read_hashes, verify, verify_path,
    },
};
use moe_model::ModelFile;
use synth_model::{Geometry, SynthModel, TypeMix, Vocab};
use type_mix::Mix;

/// Hears nothing, and has a clock that stands still.
struct Silent;

impl Caller for Silent {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn hear(&mut self, _: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn options() -> VerifyOptions {
    VerifyOptions {
        n_tokens: NonZeroUsize::new(4),
        ..VerifyOptions::new(NonZeroUsize::new(2).unwrap())
    }
}

fn report_with(bytes: Vec<u8>, options: &VerifyOptions) -> Report {
    let file = ModelFile::from_bytes("model", bytes);
    verify(&file, options, &mut Silent).unwrap()
}

fn report(bytes: Vec<u8>) -> Report {
    report_with(bytes, &options())
}

fn stage(report: &Report, stage: Stage) -> &StageReport {
    let mut stages = report.stages.iter();
    &stages
        .find(|timed| timed.report.stage == stage)
        .unwrap()
        .report
}

/// What a stage has found, and where.
fn findings(report: &Report, of: Stage) -> Vec<(Severity, &str)> {
    let findings = stage(report, of).findings.iter();
    findings
        .map(|finding| (finding.severity, finding.place.as_str()))
        .collect()
}

/// Asserts that one stage fails, and returns its errors.
fn errors(report: &Report, failed: Stage) -> String {
    assert_eq!(report.verdict, Verdict::Failed, "{}", report.to_table(100));
    let stage = stage(report, failed);
    assert_eq!(stage.verdict, Verdict::Failed, "{}", report.to_table(100));
    let errors = stage.listed(Severity::Error);
    let lines: Vec<String> = errors
        .map(|finding| format!("{}: {}", finding.place, finding.text))
        .collect();
    lines.join("\n")
}

fn tiny(mix: TypeMix) -> Vec<u8> {
    let model = SynthModel {
        geometry: Geometry::TINY,
        mix,
        vocab: Vocab::ByteLevel,
        seed: 1,
    };
    model.to_bytes().unwrap()
}

/// The file with other metadata.
fn with_metadata(bytes: &[u8], edit: impl FnOnce(&Metadata<'_>, &mut GgufWriter)) -> Vec<u8> {
    let gguf = Gguf::parse(bytes).unwrap();
    let mut header = GgufWriter::new();
    header.set_all(gguf.metadata()).unwrap();
    edit(gguf.metadata(), &mut header);
    let mut data = Vec::new();
    for tensor in gguf.tensors() {
        let info = &tensor.info;
        header.tensor(info.name(), info.ne(), info.ty()).unwrap();
        data.push(tensor.data);
    }
    header.to_bytes(&data).unwrap()
}

/// Where the data of a tensor begins in the file.
fn data_offset(bytes: &[u8], name: &str) -> usize {
    let gguf = Gguf::parse(bytes).unwrap();
    (gguf.data_offset() + gguf.tensor(name).unwrap().info.offset()) as usize
}

/// 31 layers of 98 experts, as small as `Q6_K` allows.
fn many_experts() -> Vec<u8> {
    let model = SynthModel {
        geometry: Geometry {
            n_layer: 31,
            n_head: 2,
            n_head_kv: 1,
            n_expert: 98,
            n_ff_exp: 32,
            n_vocab: 300,
            ..Geometry::TINY
        },
        mix: TypeMix::Named(Mix::Q4_0),
        vocab: Vocab::ByteLevel,
        seed: 1,
    };
    let file = ModelFile::from_bytes("many experts", model.to_bytes().unwrap());
    let source = Source::from_gguf(&file.gguf().unwrap()).unwrap();
    let options = QuantizeOptions {
        pure: true,
        tensor_types: vec![r"blk\.30\.ffn_up_exps=q6_k".parse::<TensorType>().unwrap()],
        allow_requantize: true,
        ..QuantizeOptions::new(Mix::Q4_0)
    };
    let plan = Plan::new(source, &options, None).unwrap();
    let threads = NonZeroUsize::new(2).unwrap();
    plan.write(Vec::new(), threads, |_| ControlFlow::Continue(()))
        .unwrap()
}

#[test]
fn a_sound_model_passes() {
    for mix in [TypeMix::Named(Mix::Q4_K_M), TypeMix::Named(Mix::F32)] {
        let report = report(tiny(mix));
        assert_eq!(report.verdict, Verdict::Passed, "{}", report.to_table(100));
        let has_findings = report.stages.iter().any(|timed| {
            timed.report.verdict == Verdict::Passed && !timed.report.findings.is_empty()
        });
        assert!(!has_findings, "{}", report.to_table(100));
        assert_eq!(report.tensors.len(), 27);
    }
}

/// Of the 16 bits of the scale, the higher ones of the exponent make weights of a size that no
/// training makes. The others change a few weights by a little: for them there are hashes.
#[test]
fn a_flipped_bit_in_a_scale_of_one_expert_is_found() {
    const NAME: &str = "blk.30.ffn_up_exps.weight";
    const ROW: usize = 5;
    const SCALE: usize = 208;
    let sound = many_experts();
    let block = data_offset(&sound, NAME) + (97 * 32 + ROW) * 210;
    let recorded = {
        let file = ModelFile::from_bytes("sound", sound.clone());
        hashes(&file, &options(), &mut Silent).unwrap()
    };
    let flipped = |byte: usize, bit: u32| {
        let mut bytes = sound.clone();
        bytes[block + byte] ^= 1 << bit;
        bytes
    };
    // The highest bit of the exponent: 65,536 times as large.
    let seen = errors(&report(flipped(SCALE + 1, 6)), Stage::Numbers);
    assert!(
        seen.starts_with(&format!("{NAME}, expert 97, row {ROW}, column ")),
        "{seen}"
    );
    // The lowest bit of the fraction, and that of the first sub-block's scale.
    for byte in [SCALE, SCALE - 16] {
        let options = VerifyOptions {
            compare: Some(recorded.clone()),
            ..options()
        };
        let seen = errors(&report_with(flipped(byte, 0), &options), Stage::Numbers);
        assert!(
            seen.starts_with(&format!("{NAME}: has other weights")),
            "{seen}"
        );
        assert_eq!(seen.lines().count(), 1);
    }
}

#[test]
fn numbers_that_no_model_has_are_found() {
    // A norm is F32, the scale of Q8_0 is before its block's 32 weights.
    struct Case {
        name: &'static str,
        at: usize,
        bytes: &'static [u8],
        place: &'static str,
        text: &'static str,
    }
    let cases = [
        Case {
            name: "blk.1.attn_norm.weight",
            at: 4 * 7,
            bytes: &[0, 0, 0xc0, 0x7f],
            place: "blk.1.attn_norm.weight, row 0, column 7",
            text: "NaN or infinite; 1 of 256",
        },
        Case {
            name: "blk.0.ffn_gate_exps.weight",
            at: (3 * 256 + 2) * 272 + 34,
            bytes: &[0, 0x7c],
            place: "blk.0.ffn_gate_exps.weight, expert 3, row 2, column 32",
            text: "NaN or infinite; 32 of 524288",
        },
        Case {
            name: "blk.0.ffn_gate_exps.weight",
            at: 5 * 256 * 272,
            bytes: &[0; 256 * 272],
            place: "blk.0.ffn_gate_exps.weight, expert 5",
            text: "all weights are zero",
        },
    ];
    let sound = tiny("pure-q8_0".parse().unwrap());
    for case in cases {
        let mut bytes = sound.clone();
        let start = data_offset(&bytes, case.name) + case.at;
        bytes[start..start + case.bytes.len()].copy_from_slice(case.bytes);
        let seen = errors(&report(bytes), Stage::Numbers);
        assert!(
            seen.starts_with(case.place) && seen.contains(case.text),
            "{seen}"
        );
    }
}

#[test]
fn what_is_only_odd_is_a_warning() {
    let mut bytes = tiny("pure-q8_0".parse().unwrap());
    let name = "blk.1.attn_q.weight";
    let start = data_offset(&bytes, name);
    // Row 3 is zero, and a block of row 9 has lost its scale.
    bytes[start + 3 * 272..start + 4 * 272].fill(0);
    bytes[start + 9 * 272 + 34..start + 9 * 272 + 36].fill(0);
    let report = report(bytes);
    assert_eq!(report.verdict, Verdict::Passed);
    let warnings: Vec<_> = stage(&report, Stage::Numbers)
        .listed(Severity::Warning)
        .map(|finding| finding.place.clone())
        .collect();
    let expected = [
        format!("{name}, row 3"),
        format!("{name}, row 9, column 32"),
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_truncated_tensor_is_a_wrong_file() {
    let mut bytes = tiny(TypeMix::Named(Mix::Q4_K_M));
    bytes.truncate(bytes.len() - 1000);
    let report = report(bytes.clone());
    let seen = errors(&report, Stage::File);
    assert!(seen.contains("output.weight"), "{seen}");
    assert!(
        report.stages[1..]
            .iter()
            .all(|timed| timed.report.verdict == Verdict::Skipped)
    );
    assert_eq!(report.stages.len(), Stage::ALL.len());
    // The same through a path; a path that leads nowhere is an error of the system.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.gguf");
    std::fs::write(&path, bytes).unwrap();
    let of_path = verify_path(&path, &options(), &mut Silent).unwrap();
    errors(&of_path, Stage::File);
    assert!(verify_path(Path::new("no/such.gguf"), &options(), &mut Silent).is_err());
}

#[test]
fn a_missing_part_of_a_split_model_is_a_wrong_file() {
    let bytes = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |_, header| {
        header.set("split.no", 0_u16).unwrap();
        header.set("split.count", 2_u16).unwrap();
        header.set("split.tensors.count", 30_i32).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m-00001-of-00002.gguf");
    std::fs::write(&path, bytes).unwrap();
    let report = verify_path(&path, &options(), &mut Silent).unwrap();
    let seen = errors(&report, Stage::File);
    assert!(seen.contains("m-00002-of-00002.gguf"), "{seen}");
}

#[test]
fn unknown_keys_and_tensors_are_named() {
    let gguf = tiny(TypeMix::Named(Mix::Q4_K_M));
    let sound = Gguf::parse(&gguf).unwrap();
    let mut header = GgufWriter::new();
    header.set_all(sound.metadata()).unwrap();
    header.set("qwen3moe.attention.sinks", 4_u32).unwrap();
    header.set("my.key", true).unwrap();
    let mut data = Vec::new();
    for tensor in sound.tensors() {
        let info = &tensor.info;
        header.tensor(info.name(), info.ne(), info.ty()).unwrap();
        data.push(tensor.data);
    }
    header
        .tensor("blk.0.attn_sinks", &[1], GgmlType::F32)
        .unwrap();
    data.push(&[0; 4]);
    let report = report(header.to_bytes(&data).unwrap());
    let found = findings(&report, Stage::File);
    let expected = [
        (Severity::Warning, "qwen3moe.attention.sinks"),
        (Severity::Note, "my.key"),
        (Severity::Warning, "blk.0.attn_sinks"),
    ];
    assert_eq!(found, expected);
    // They are no reason not to trust the model, but the hash of a tensor is among the others.
    assert_eq!(stage(&report, Stage::File).verdict, Verdict::Passed);
    assert!(
        report
            .tensors
            .iter()
            .any(|hash| hash.name == "blk.0.attn_sinks")
    );
}

#[test]
fn unknown_fields_and_tensors_of_a_checkpoint_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("model");
    let gguf = ModelFile::from_bytes("tiny", tiny(TypeMix::Named(Mix::BF16)));
    let gguf = gguf.gguf().unwrap();
    let plan = CheckpointPlan::new(&gguf, &CheckpointOptions::default()).unwrap();
    let new = NewFolder::create(&folder).unwrap();
    let threads = NonZeroUsize::new(2).unwrap();
    plan.write(&new, threads, |_| ControlFlow::Continue(()))
        .unwrap();
    new.finish().unwrap();
    let path = folder.join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config.replacen('{', "{\"num_sinks\": 4,", 1);
    std::fs::write(&path, config).unwrap();
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let sound = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let sinks = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]);
    let tensors = sound.iter().chain([("model.sinks", sinks.unwrap())]);
    let more = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(&path, more).unwrap();
    let quick = VerifyOptions {
        depth: Depth::Quick,
        ..options()
    };
    let report = verify_path(&folder, &quick, &mut Silent).unwrap();
    let found = findings(&report, Stage::File);
    let expected = [
        (Severity::Warning, "config.json, `num_sinks`"),
        (Severity::Warning, "model.sinks"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn two_swapped_merges_are_found() {
    let bytes = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |metadata, header| {
        let mut merges: Vec<&str> = metadata.require("tokenizer.ggml.merges").unwrap();
        merges.swap(20, 31);
        header.set("tokenizer.ggml.merges", merges).unwrap();
    });
    let report = report(bytes);
    let seen = errors(&report, Stage::Text);
    assert!(
        seen.starts_with("merge 21: ") && seen.contains("in 2 places"),
        "{seen}"
    );
    // A model computes from ids: the other stages mean something all the same.
    assert_eq!(stage(&report, Stage::Kernels).verdict, Verdict::Passed);
}

#[test]
fn a_template_that_asks_for_no_reply_is_found() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}";
    let bytes = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |_, header| {
        header.set("tokenizer.chat_template", template).unwrap();
    });
    let seen = errors(&report(bytes), Stage::Text);
    assert!(seen.contains("no generation prompt"), "{seen}");
}

#[test]
fn a_turn_that_ends_with_no_end_of_a_reply_is_found() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_start|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let bytes = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |_, header| {
        header.set("tokenizer.chat_template", template).unwrap();
    });
    let seen = errors(&report(bytes), Stage::Text);
    assert!(seen.contains("`<|im_start|>` ends the turn"), "{seen}");
}

#[test]
fn unsound_special_ids_are_found() {
    let out_of_range = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |_, header| {
        header.set("tokenizer.ggml.eos_token_id", 512_u32).unwrap();
    });
    let seen = errors(&report(out_of_range), Stage::Text);
    assert!(seen.contains("tokenizer.ggml.eos_token_id"), "{seen}");
    let no_control = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |_, header| {
        header.set("tokenizer.ggml.eos_token_id", 65_u32).unwrap();
    });
    let seen = errors(&report(no_control), Stage::Text);
    assert!(
        seen.starts_with("end of text: `b` is no control token"),
        "{seen}"
    );
}

#[test]
fn hashes_go_through_json_and_samples_have_none() {
    let sound = tiny(TypeMix::Named(Mix::Q4_K_M));
    let whole = report(sound.clone());
    let json = serde_json::to_vec(&whole).unwrap();
    assert_eq!(read_hashes(&json).unwrap(), whole.tensors);
    let quick = VerifyOptions {
        depth: Depth::Quick,
        ..options()
    };
    let quick = report_with(sound, &quick);
    assert_eq!(quick.verdict, Verdict::Passed);
    assert!(quick.quick && quick.tensors.is_empty());
    let error = read_hashes(&serde_json::to_vec(&quick).unwrap()).unwrap_err();
    assert!(error.to_string().contains("no hashes"), "{error}");
    assert!(read_hashes(b"{}").is_err());
}

/// Every field of the JSON is described, and nothing is described that is not there.
#[test]
fn the_json_is_as_documented() {
    fn paths(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    paths(value, &path, found);
                    found.push(path.trim_start_matches('.').to_owned());
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    paths(item, &format!("{path}[]"), found);
                }
            }
            _ => {}
        }
    }
    let mut options = options();
    options.environment = vec![("cpu".to_owned(), "any".to_owned())];
    let bytes = with_metadata(&tiny(TypeMix::Named(Mix::Q4_K_M)), |_, header| {
        header.set("my.key", true).unwrap();
    });
    let json = serde_json::to_value(report_with(bytes, &options)).unwrap();
    let mut found = Vec::new();
    paths(&json, "", &mut found);
    found.sort();
    found.dedup();
    let documentation = include_str!("../../docs/verify.md");
    let (_, section) = documentation.split_once("\n## JSON\n").unwrap();
    let mut documented: Vec<String> = section
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` | ")?.0.to_owned()))
        .collect();
    documented.sort();
    assert_eq!(found, documented);
    assert_eq!(json["schema"], 1);
    assert_eq!(json["stages"][0]["stage"], "file");
    assert_eq!(json["stages"][0]["findings"][0]["severity"], "note");
}

#[test]
fn whoever_waits_can_end_it() {
    struct Impatient;
    impl Caller for Impatient {
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn hear(&mut self, event: Event<'_>) -> ControlFlow<()> {
            match event {
                Event::Progress { done, .. } if done > 0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let file = ModelFile::from_bytes("tiny", tiny(TypeMix::Named(Mix::Q4_K_M)));
    let error = verify(&file, &options(), &mut Impatient).unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
}
