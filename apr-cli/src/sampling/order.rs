//! The order of the stages that a file may recommend.

use moe_model::SamplingHints;

use crate::terminal;

/// The order of the sampler, by llama.cpp's names, in which files write theirs.
const FIXED: [&str; 9] = [
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
];

/// Returns what to say of a recommended order, unless it is the one that is used.
pub(super) fn note(hints: &SamplingHints) -> Option<String> {
    let names = hints.sequence.as_deref()?;
    let is_fixed = names.split(';').map(stage).eq(FIXED);
    (!is_fixed).then(|| {
        format!(
            "note: the file recommends the sampling order {}; the order used is {}",
            terminal::one_line(names),
            FIXED.join(";")
        )
    })
}

/// Returns the name in [`FIXED`] for the other spellings of it.
fn stage(name: &str) -> String {
    let name = name.trim().replace('-', "_");
    match name.as_str() {
        "temp" => "temperature".to_owned(),
        "typical" | "typical_p" | "typ" => "typ_p".to_owned(),
        "nucleus" => "top_p".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sequence: Option<&str>) -> Option<String> {
        note(&SamplingHints {
            sequence: sequence.map(str::to_owned),
            ..SamplingHints::default()
        })
    }

    #[test]
    fn only_another_order_is_worth_a_note() {
        assert_eq!(of(None), None);
        let same = "penalties;dry;top-n-sigma;top-k;typical;top-p;min-p;xtc;temp";
        assert_eq!(of(Some(same)), None);
        let note = of(Some("temperature;top_k\u{1b}")).unwrap();
        assert!(note.contains("temperature;top_k\\u{1b}"), "{note}");
    }
}
