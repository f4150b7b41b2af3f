//! llama.cpp's flags of one dash and several letters, which clap cannot spell.

use std::ffi::{OsStr, OsString};

/// What people type, and what clap knows.
const ALIASES: [(&str, &str); 4] = [
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-pg", "--prompt-gen"),
    ("-sys", "--system-prompt"),
];

/// Replaces the flags of [`ALIASES`], alone or with `=value`, up to a `--`.
pub(crate) fn expand(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_literal = false;
    args.map(|arg| {
        is_literal |= arg == "--";
        if is_literal { arg } else { expand_one(arg) }
    })
    .collect()
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
            "apr", "run", "-ctk", "q8_0", "-ctv=f16", "-c", "9", "--", "-pg",
        ];
        let expanded = expand(args.into_iter().map(OsString::from));
        let expected = [
            "apr",
            "run",
            "--cache-type-k",
            "q8_0",
            "--cache-type-v=f16",
            "-c",
            "9",
            "--",
            "-pg",
        ];
        assert_eq!(expanded, expected);
    }
}
