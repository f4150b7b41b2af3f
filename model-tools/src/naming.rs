//! What a model is called, from what its folder is called, by the rules of llama.cpp's
//! `gguf-py/gguf/metadata.py` and `utility.py`.

use std::{fs, path::Path};

use crate::SourceTensor;

/// A model as the hub names it: `Qwen/Qwen3-30B-A3B`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelId {
    pub(crate) organization: Option<String>,
    pub(crate) name: String,
}

impl ModelId {
    /// Reads `organization/name`, `name` alone, or a page of the hub.
    pub(crate) fn of_text(text: &str) -> Self {
        let text = text.strip_prefix(super::card::HUB).unwrap_or(text);
        match text.split_once('/') {
            Some((organization, name)) if !organization.is_empty() => Self {
                organization: Some(organization.to_owned()),
                name: name.to_owned(),
            },
            _ => Self {
                organization: None,
                name: text.to_owned(),
            },
        }
    }

    /// Takes the name of a folder; of one in the hub's cache, where it is that of a commit, the
    /// name of the model.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let above = folder.parent().filter(|above| name(above) == "snapshots");
        let cached = above.and_then(Path::parent).map(name);
        let cached = cached
            .as_deref()
            .and_then(|name| name.strip_prefix("models--"));
        match cached.and_then(|name| name.split_once("--")) {
            Some((organization, name)) => Self {
                organization: Some(organization.to_owned()),
                name: name.to_owned(),
            },
            None => Self {
                organization: None,
                name: name(&folder),
            },
        }
    }
}

/// Returns a name in words: hyphens become spaces, and words without a capital get some, unless
/// they are numbers.
pub(crate) fn title(name: &str) -> String {
    let words = name.split(['-', ' ']).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(word).collect();
    words.join(" ")
}

fn word(word: &str) -> String {
    let number = word.strip_prefix('v').unwrap_or(word);
    let is_version = !number.is_empty() && number.split('.').all(is_number);
    let has_capital = word.chars().any(char::is_uppercase);
    if has_capital || is_version || word.starts_with(|c: char| c.is_ascii_digit()) {
        return word.to_owned();
    }
    let mut is_inside = false;
    word.chars()
        .flat_map(|c| {
            let starts = !std::mem::replace(&mut is_inside, c.is_alphabetic());
            let capital = starts.then(|| c.to_uppercase());
            let other = (!starts).then_some(c);
            capital.into_iter().flatten().chain(other)
        })
        .collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the size of a model as its name has it, such as `30B-A3B`, if that may be true, or
/// the number of experts and the weights of a model with one of them, such as `16x2.6M`.
pub(crate) fn size_label(name: &str, tensors: &[SourceTensor<'_>]) -> String {
    let n_weights = |tensor: &SourceTensor<'_>| (tensor.n_cols() * tensor.n_rows()) as f64;
    let n_experts = |tensor: &SourceTensor<'_>| tensor.ne.get(2).map_or(1, |&n| n.max(1));
    let total: f64 = tensors.iter().map(n_weights).sum();
    let parts = name.split('-').skip(1).filter(|part| is_size(part, total));
    let parts: Vec<String> = parts.map(str::to_uppercase).collect();
    if parts
        .iter()
        .any(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    {
        return parts.join("-");
    }
    let with_one: f64 = tensors
        .iter()
        .map(|tensor| n_weights(tensor) / n_experts(tensor) as f64)
        .sum();
    let n_experts = tensors.iter().map(n_experts).max().unwrap_or(1);
    format!("{n_experts}x{}", rounded(with_one))
}

/// Whether a part of a name, such as `30B` or `A3B`, is a size that a model of `total` weights
/// may have.
fn is_size(part: &str, total: f64) -> bool {
    let Some(unit) = part.chars().next_back() else {
        return false;
    };
    let scale = match unit.to_ascii_uppercase() {
        'K' => 1e3,
        'M' => 1e6,
        'B' => 1e9,
        'T' => 1e12,
        _ => return false,
    };
    let number = &part[..part.len() - unit.len_utf8()];
    if let Some(active) = number.strip_prefix(['A', 'a']) {
        return active.parse::<f64>().is_ok() && active.starts_with(|c: char| c.is_ascii_digit());
    }
    let is_plain = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let size = number.parse::<f64>().ok().filter(|_| is_plain);
    size.is_some_and(|size| (size * scale - total).abs() <= 7.0 * total / 8.0)
}

/// Two digits and a unit.
fn rounded(n_weights: f64) -> String {
    let (scale, unit) = match n_weights {
        n if n > 1e12 => (1e12, "T"),
        n if n > 1e9 => (1e9, "B"),
        n if n > 1e6 => (1e6, "M"),
        _ => (1e3, "K"),
    };
    let scaled = n_weights / scale;
    let digits = match scaled.round_ties_even() {
        n if n < 1.0 => 2,
        n if n < 10.0 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use gguf_format::GgmlType;

    use super::*;
    use crate::source::TensorData;

    fn tensor(ne: &[u64]) -> SourceTensor<'static> {
        SourceTensor {
            name: "x".to_owned(),
            ne: ne.to_vec(),
            data: TensorData::Bytes {
                ty: GgmlType::F32,
                bytes: Cow::Borrowed(&[]),
            },
            becomes: None,
        }
    }

    #[test]
    fn names_become_words() {
        let cases = [
            ("bard", "Bard"),
            ("Qwen3-30B-A3B-Instruct-2507", "Qwen3 30B A3B Instruct 2507"),
            ("my-model-v1.5-a3b", "My Model v1.5 A3B"),
            ("v2-30b", "v2 30b"),
        ];
        for (name, expected) in cases {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn sizes_are_taken_from_the_name_if_they_may_be_true() {
        // 30.5 billion weights, 3.7 with one of 128 experts.
        let large = [
            tensor(&[2_000_000_000]),
            tensor(&[28_500_000_000 / 128, 1, 128]),
        ];
        assert_eq!(size_label("Qwen3-30B-A3B", &large), "30B-A3B");
        assert_eq!(size_label("Qwen3-coder-30b-a3b", &large), "30B-A3B");
        assert_eq!(size_label("Qwen3-4M-A3B", &large), "128x2.2B");
        assert_eq!(size_label("bard", &large), "128x2.2B");
        let small = [tensor(&[1_854_208]), tensor(&[786_432, 1, 16])];
        assert_eq!(size_label("bard", &small), "16x2.6M");
    }

    #[test]
    fn a_folder_of_the_hubs_cache_has_the_name_of_its_model() {
        let temp = tempfile::tempdir().unwrap();
        let snapshot = "models--Qwen--Qwen3-30B-A3B/snapshots/0123abcd";
        let folder = temp.path().join(snapshot);
        fs::create_dir_all(&folder).unwrap();
        let expected = ModelId::of_text("Qwen/Qwen3-30B-A3B");
        assert_eq!(expected.organization.as_deref(), Some("Qwen"));
        assert_eq!(ModelId::of_folder(&folder), expected);
        let page = ModelId::of_text("https://huggingface.co/Qwen/Qwen3-30B-A3B");
        assert_eq!(page, expected);
        let plain = ModelId::of_folder(&temp.path().join("models--Qwen--Qwen3-30B-A3B"));
        assert_eq!(plain.name, "models--Qwen--Qwen3-30B-A3B");
    }
}
