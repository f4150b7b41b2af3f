//! llama.cpp's flags of one dash and several letters, which clap cannot spell.

use std::ffi::{OsStr, OsString};

/// What people type, and what clap knows.
const ALIASES: [(&str, &str); 7] = [
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-jf", "--json-schema-file"),
    ("-np", "--parallel"),
    ("-pg", "--prompt-gen"),
    ("-sys", "--system-prompt"),
    ("-to", "--timeout"),
];

/// Flags whose value is a text, which may look like a flag.
const TEXT_FLAGS: [&str; 13] = [
    "-p",
    "--prompt",
    "-r",
    "--reverse-prompt",
    "--stop",
    "-sys",
    "--system-prompt",
    "--dry-sequence-breaker",
    "-j",
    "--json-schema",
    "--grammar",
    "--regex",
    "--choice",
];

/// Replaces the flags of [`ALIASES`], alone or with `=value`.
pub(crate) fn expand(args: Vec<OsString>) -> Vec<OsString> {
    let may_be_flag = flag_places(&args);
    args.into_iter()
        .zip(may_be_flag)
        .map(|(arg, may)| if may { expand_one(arg) } else { arg })
        .collect()
}

/// Returns for each argument whether it may be a flag: it is no text of a flag before it, and
/// not behind a `--`.
pub(crate) fn flag_places(args: &[OsString]) -> Vec<bool> {
    let (mut is_literal, mut is_text) = (false, false);
    let places = args.iter().map(|arg| {
        let may = !is_literal && !is_text;
        is_literal |= may && arg == "--";
        is_text = may && TEXT_FLAGS.iter().any(|flag| arg == flag);
        may
    });
    places.collect()
}

fn expand_one(arg: OsString) -> OsString {
    let (flag, value) = match arg.to_str().and_then(|text| text.split_once('=')) {
        Some((flag, value)) => (OsStr::new(flag), Some(value)),
        None => (arg.as_os_str(), None),
    };
    let Some((_, long)) = ALIASES.into_iter().find(|(short, _)| flag == *short) else {
        return arg;
    };
    match value {
        Some(value) => format!("{long}={value}").into(),
        None => long.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_several_letters_are_spelled_out() {
        let args = [
            "apr", "run", "-ctk", "q8_0", "-ctv=f16", "-c", "9", "-np", "4", "-p", "-sys", "--",
            "-pg",
        ];
        let expanded = expand(args.map(OsString::from).to_vec());
        let expected = [
            "apr",
            "run",
            "--cache-type-k",
            "q8_0",
            "--cache-type-v=f16",
            "-c",
            "9",
            "--parallel",
            "4",
            "-p",
            "-sys",
            "--",
            "-pg",
        ];
        assert_eq!(expanded, expected);
    }
}
