//! What a model is called, from what its folder is called, by the rules of llama.cpp's
//! `gguf-py/gguf/metadata.py` and `utility.py`.
//!
//! Names of the hub are words between hyphens: `Qwen3-30B-A3B-Instruct-2507` is the base name
//! `Qwen3`, a size, what it was trained for besides, and a version.

use std::{fs, path::Path};

use crate::SourceTensor;

/// A model as the hub names it: `Qwen/Qwen3-30B-A3B`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelId {
    pub(crate) organization: Option<String>,
    pub(crate) name: String,
}

impl ModelId {
    /// Reads `organization/name`, `name` alone, or a page of the hub; `None` for the address of
    /// another page, which names nothing.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let text = text.strip_prefix(super::card::HUB).unwrap_or(text);
        if text.contains("://") {
            return None;
        }
        Some(match text.split_once('/') {
            Some((organization, name)) if !organization.is_empty() => Self {
                organization: Some(organization.to_owned()),
                name: name.to_owned(),
            },
            _ => Self {
                organization: None,
                name: text.to_owned(),
            },
        })
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

/// What the words of a name say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameParts {
    pub(crate) basename: Option<String>,
    pub(crate) size_label: Option<String>,
    pub(crate) finetune: Option<String>,
    pub(crate) version: Option<String>,
}

/// What a word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    Size,
    Finetune,
    Version,
    /// A type of weights, which is not the model's but a file's.
    Type,
}

impl NameParts {
    /// Reads the name of a model of so many weights. A name with spaces is a sentence, and one
    /// word that is no size, no version and nothing usual says too little.
    pub(crate) fn of(name: &str, n_weights: f64) -> Self {
        if name.contains(' ') {
            return Self::default();
        }
        let words = name.split('-').filter(|word| !word.is_empty());
        let mut words: Vec<(String, Option<Kind>)> = words
            .enumerate()
            .map(|(idx, word)| kind(word, idx == 0, n_weights))
            .collect();
        let is_number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
        let is_size = |kind: Option<Kind>| kind == Some(Kind::Size);
        if words
            .iter()
            .any(|(word, kind)| is_size(*kind) && is_number(word))
        {
            // `large` beside `70B` is no size.
            for (word, kind) in &mut words {
                if is_size(*kind) && !is_number(word) {
                    *kind = None;
                }
            }
        }
        find_basename(&mut words);
        let of = |kind: Kind| {
            let mut found: Vec<&str> = Vec::new();
            for (word, its) in &words {
                let is_twice = kind == Kind::Size && found.contains(&word.as_str());
                if *its == Some(kind) && !is_twice {
                    found.push(word);
                }
            }
            (!found.is_empty()).then(|| found.join("-"))
        };
        let parts = Self {
            basename: None,
            size_label: of(Kind::Size),
            finetune: of(Kind::Finetune),
            version: of(Kind::Version),
        };
        if parts == Self::default() {
            return parts;
        }
        Self {
            basename: of(Kind::Base),
            ..parts
        }
    }
}

/// The base name is the words at the beginning that say nothing else, and versions among them
/// but not at the end of the name. Words behind it that say nothing else are what the model was
/// trained for.
fn find_basename(words: &mut [(String, Option<Kind>)]) {
    let is_base = |(word, kind): &(String, Option<Kind>)| match kind {
        None => word.starts_with(char::is_alphabetic),
        Some(Kind::Version) => true,
        Some(_) => false,
    };
    let mut n_base = words.iter().take_while(|word| is_base(word)).count();
    if n_base == words.len() {
        let is_version = |word: &&(String, Option<Kind>)| word.1 == Some(Kind::Version);
        n_base -= words.iter().rev().take_while(is_version).count();
    }
    for (idx, (_, kind)) in words.iter_mut().enumerate() {
        if idx < n_base {
            *kind = Some(Kind::Base);
        } else if kind.is_none() {
            *kind = Some(Kind::Finetune);
        }
    }
}

/// Returns what a word is, if it can be told from the word alone, and how it is written.
fn kind(word: &str, is_first: bool, n_weights: f64) -> (String, Option<Kind>) {
    let lower = word.to_ascii_lowercase();
    if is_version(&lower) {
        return (word.to_owned(), Some(Kind::Version));
    }
    if is_type(&lower) {
        return (word.to_uppercase(), Some(Kind::Type));
    }
    if is_first {
        return (word.to_owned(), None);
    }
    if ["chat", "instruct", "vision", "lora"].contains(&lower.as_str()) {
        return (word.to_owned(), Some(Kind::Finetune));
    }
    if ["small", "mini", "medium", "large", "xl", "xxl"].contains(&lower.as_str()) {
        return (word.to_owned(), Some(Kind::Size));
    }
    let Some(Size {
        number,
        unit,
        n_weights: said,
    }) = Size::of(&lower)
    else {
        return (word.to_owned(), None);
    };
    // Far from the size of the model it is the length of a context.
    if said.is_some_and(|said| (said - n_weights).abs() > 7.0 * n_weights / 8.0) {
        return (format!("{number}{unit}"), Some(Kind::Finetune));
    }
    let unit = unit.to_ascii_uppercase();
    (format!("{number}{unit}"), Some(Kind::Size))
}

/// `2507`, `v1.5` or `iter3`, in small letters.
fn is_version(lower: &str) -> bool {
    let number = lower.strip_prefix('v').or(lower.strip_prefix("iter"));
    number.unwrap_or(lower).split('.').all(is_number)
}

/// `bf16`, `q8_0` or `iq4_xs`, in small letters.
fn is_type(lower: &str) -> bool {
    let float = lower.strip_prefix('b').unwrap_or(lower);
    let quantized = lower.strip_prefix('i').unwrap_or(lower).strip_prefix('q');
    let is_quantized = quantized.is_some_and(|rest| {
        let mut rest = rest.chars();
        rest.next().is_some_and(|c| c.is_ascii_digit()) && rest.next().is_none_or(|c| c == '_')
    });
    is_quantized || ["f16", "f32", "fp16", "fp32"].contains(&float)
}

/// A size in numbers: `30B`, `A3B`, `8x7B`, `0_5b` or `7b1`.
struct Size {
    number: String,
    unit: char,
    /// Of a plain number.
    n_weights: Option<f64>,
}

impl Size {
    /// Reads a word in small letters.
    fn of(lower: &str) -> Option<Self> {
        let lower = lower.replace('_', ".");
        let (number, rest) = lower.split_at(lower.find(['k', 'm', 'b', 't'])?);
        let mut rest = rest.chars();
        let unit = rest.next()?;
        let (before, plain) = match (number.strip_prefix('a'), number.split_once('x')) {
            (Some(active), _) => ("A".to_owned(), active),
            (None, Some((n_experts, each))) if is_number(n_experts) => {
                (format!("{n_experts}x"), each)
            }
            (None, _) => (String::new(), number),
        };
        let mut plain = plain.to_owned();
        // `7b1` is 7.1 billion.
        if let Some(tenth) = rest.next() {
            plain = format!("{plain}.{tenth}");
        }
        let is_decimal = match plain.split_once('.') {
            Some((whole, part)) => is_number(whole) && is_number(part),
            None => is_number(&plain),
        };
        if !is_decimal || rest.next().is_some() {
            return None;
        }
        let scale = match unit {
            'k' => 1e3,
            'm' => 1e6,
            'b' => 1e9,
            _ => 1e12,
        };
        let n_weights = plain.parse::<f64>().ok().map(|size| size * scale);
        Some(Self {
            n_weights: n_weights.filter(|_| before.is_empty()),
            number: before + &plain,
            unit,
        })
    }
}

/// Returns a name in words: hyphens become spaces, and words without a capital get some, unless
/// they are numbers.
pub(crate) fn title(name: &str) -> String {
    let words = name.split(['-', ' ']).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(capitalized).collect();
    words.join(" ")
}

fn capitalized(word: &str) -> String {
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

/// Returns the number of weights.
pub(crate) fn n_weights(tensors: &[SourceTensor<'_>]) -> f64 {
    tensors.iter().map(of_tensor).sum()
}

/// Returns the number of experts and the weights of a model with one of them, such as
/// `16x2.6M`.
pub(crate) fn size_label(tensors: &[SourceTensor<'_>]) -> String {
    let n_experts = |tensor: &SourceTensor<'_>| tensor.ne.get(2).map_or(1, |&n| n.max(1));
    let with_one: f64 = tensors
        .iter()
        .map(|tensor| of_tensor(tensor) / n_experts(tensor) as f64)
        .sum();
    let n_experts = tensors.iter().map(n_experts).max().unwrap_or(1);
    format!("{n_experts}x{}", rounded(with_one))
}

fn of_tensor(tensor: &SourceTensor<'_>) -> f64 {
    (tensor.n_cols() * tensor.n_rows()) as f64
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

    /// What `Metadata.get_model_id_components` of gguf-py finds, but for capitals.
    #[test]
    fn the_words_of_a_name_are_told_apart() {
        // Name, weights in billions; base name, size, finetune, version.
        let cases = [
            ("Qwen3-30B-A3B", 30.5, "Qwen3 30B-A3B - -"),
            (
                "Qwen3-30B-A3B-Instruct-2507",
                30.5,
                "Qwen3 30B-A3B Instruct 2507",
            ),
            (
                "Qwen3-Coder-30B-A3B-Instruct",
                30.5,
                "Qwen3-Coder 30B-A3B Instruct -",
            ),
            (
                "Qwen3-235B-A22B-Thinking-2507-FP8",
                235.0,
                "Qwen3 235B-A22B Thinking-FP8 2507",
            ),
            ("qwen3-30b-a3b-BF16", 30.5, "qwen3 30B-A3B - -"),
            (
                "Mixtral-8x7B-Instruct-v0.1",
                46.7,
                "Mixtral 8x7B Instruct v0.1",
            ),
            ("Meta-Llama-3-8B", 8.0, "Meta-Llama-3 8B - -"),
            ("Llama-3", 8.0, "Llama - - 3"),
            ("Phi-3-mini-4k-instruct", 3.8, "Phi-3 mini 4k-instruct -"),
            ("Mistral-large-70B", 70.0, "Mistral-large 70B - -"),
            ("bloom-7b1-petals", 7.1, "bloom 7.1B petals -"),
            ("Qwen2-0_5b-0.5B", 0.5, "Qwen2 0.5B - -"),
            ("Qwen3-4M-A3B", 30.5, "Qwen3 A3B 4m -"),
            ("v2-30b", 30.0, "v2 30B - -"),
            ("a-3x-b", 1.0, "a - 3x-b -"),
            // Too little, or a sentence.
            ("bard", 0.014, "- - - -"),
            ("my-model", 1.0, "- - - -"),
            ("A model of 30B", 30.0, "- - - -"),
            ("", 1.0, "- - - -"),
        ];
        for (name, billions, expected) in cases {
            let NameParts {
                basename,
                size_label,
                finetune,
                version,
            } = NameParts::of(name, billions * 1e9);
            let found = [basename, size_label, finetune, version];
            let found = found.map(|part| part.unwrap_or_else(|| "-".to_owned()));
            assert_eq!(found.join(" "), expected, "{name}");
        }
    }

    #[test]
    fn a_size_that_no_name_says_is_counted() {
        let small = [tensor(&[1_854_208]), tensor(&[786_432, 1, 16])];
        assert_eq!(size_label(&small), "16x2.6M");
        // 30.5 billion weights, 2.2 with one of 128 experts.
        let large = [
            tensor(&[2_000_000_000]),
            tensor(&[28_500_000_000 / 128, 1, 128]),
        ];
        assert_eq!(size_label(&large), "128x2.2B");
        assert_eq!((n_weights(&large) / 1e8).round(), 305.0);
    }

    #[test]
    fn a_folder_of_the_hubs_cache_has_the_name_of_its_model() {
        let temp = tempfile::tempdir().unwrap();
        let snapshot = "models--Qwen--Qwen3-30B-A3B/snapshots/0123abcd";
        let folder = temp.path().join(snapshot);
        fs::create_dir_all(&folder).unwrap();
        let expected = ModelId::of_text("Qwen/Qwen3-30B-A3B").unwrap();
        assert_eq!(expected.organization.as_deref(), Some("Qwen"));
        assert_eq!(ModelId::of_folder(&folder), expected);
        let page = ModelId::of_text("https://huggingface.co/Qwen/Qwen3-30B-A3B");
        assert_eq!(page, Some(expected));
        assert_eq!(ModelId::of_text("https://example.org/Qwen3"), None);
        let plain = ModelId::of_folder(&temp.path().join("models--Qwen--Qwen3-30B-A3B"));
        assert_eq!(plain.name, "models--Qwen--Qwen3-30B-A3B");
    }
}
