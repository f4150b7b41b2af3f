//! Flags of llama.cpp that have no meaning here.
//!
//! People paste whole command lines. Clap would read `-ngl` as `-n gl` and complain of a
//! number, so these flags are refused before it, each with its reason.

use std::ffi::OsString;

use crate::args_alias;

const NO_GPU: &str = "there is no GPU to offload to, all is computed on the CPU";
const CHAT: &str = "a conversation is `apr chat`";
const MAPPED: &str = "a model's file is always mapped into memory";
const NO_LOCK: &str = "weights stay in the page cache and are not locked there";
const NO_DOWNLOAD: &str = "nothing is downloaded, give a file with -m";

/// The spellings of a flag, and why it has no meaning.
const FOREIGN: [(&[&str], &str); 17] = [
    (&["-ngl", "--gpu-layers", "--n-gpu-layers"], NO_GPU),
    (&["-sm", "--split-mode", "-ts", "--tensor-split"], NO_GPU),
    (&["-mg", "--main-gpu", "-dev", "--device"], NO_GPU),
    (
        &["-nkvo", "--no-kv-offload", "-ot", "--override-tensor"],
        NO_GPU,
    ),
    (&["-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe"], NO_GPU),
    (
        &["-fa", "--flash-attn"],
        "there is one way of computing attention, and nothing to switch",
    ),
    (&["--mlock"], NO_LOCK),
    (&["-mmp", "--mmap", "--no-mmap"], MAPPED),
    (&["-cnv", "--conversation"], CHAT),
    (&["-i", "--interactive", "-if", "--interactive-first"], CHAT),
    (&["-st", "--single-turn"], "pipe one line into `apr chat`"),
    (
        &["-no-cnv", "--no-conversation"],
        "`apr run` is no conversation anyway",
    ),
    (&["-ub", "--ubatch-size"], "-b is what is computed together"),
    (&["-tb", "--threads-batch"], "-t counts for prompts too"),
    (&["-hf", "--hf-repo", "-mu", "--model-url"], NO_DOWNLOAD),
    (
        &["--jinja", "--chat-template", "--chat-template-file"],
        "`apr chat` uses the template in the model's file",
    ),
    (
        &["--samplers", "--sampling-seq", "--sampler-seq"],
        "the order of the samplers is fixed",
    ),
];

/// Returns why a command line is refused, if it has a flag of [`FOREIGN`].
pub(crate) fn refusal(args: &[OsString]) -> Option<String> {
    let may_be_flag = args_alias::flag_places(args);
    let flags = args.iter().zip(may_be_flag).filter(|(_, may)| *may);
    flags.filter_map(|(arg, _)| arg.to_str()).find_map(|arg| {
        let flag = arg.split_once('=').map_or(arg, |(flag, _)| flag);
        let (_, why) = FOREIGN.iter().find(|(names, _)| names.contains(&flag))?;
        Some(format!("{flag} has no meaning here: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Option<String> {
        refusal(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn foreign_flags_are_named_with_a_reason() {
        for args in [
            &["apr", "run", "-ngl", "99"],
            &["apr", "run", "-ngl=99", "x"],
        ] {
            let why = of(args).unwrap();
            assert!(why.starts_with("-ngl ") && why.contains("GPU"), "{why}");
        }
        assert!(of(&["apr", "run", "-p", "hi", "-no-cnv"]).is_some());
    }

    #[test]
    fn texts_are_no_flags() {
        assert_eq!(of(&["apr", "run", "-p", "-i", "-n", "3"]), None);
        assert_eq!(of(&["apr", "run", "--", "-ngl"]), None);
        assert!(of(&["apr", "run", "-p", "-p", "-i"]).is_some());
    }
}
