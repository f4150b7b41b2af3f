//! What a model is called, what it was made from, and what it may be used for: the keys
//! `general.*` of a GGUF file, from the card of a checkpoint and the name of its folder, as
//! llama.cpp's conversion has them, and back.

use gguf_format::{Elements, GgufWriter, Metadata};

use crate::{
    SourceTensor, ToolError,
    card::{self, Card},
    naming::{self, ModelId, NameParts},
};

/// Fields of a card, which may have `model_` before them, and the keys they become.
const TEXTS: [(&str, &str); 11] = [
    ("name", "general.name"),
    ("author", "general.author"),
    ("version", "general.version"),
    ("organization", "general.organization"),
    ("description", "general.description"),
    ("finetune", "general.finetune"),
    ("basename", "general.basename"),
    ("size_label", "general.size_label"),
    ("license", "general.license"),
    ("license_name", "general.license.name"),
    ("license_link", "general.license.link"),
];

/// Fields that name other models or texts, each of which becomes several keys.
const NAMED: [(&str, [&str; 3]); 2] = [
    (
        "base_model",
        ["base_model", "base_models", "base_model_sources"],
    ),
    ("dataset", ["datasets", "dataset", "dataset_sources"]),
];

/// Fields that are lists, their key, and the field that the key becomes.
const LISTS: [([&str; 2], &str, &str); 2] = [
    (["tags", "pipeline_tag"], "general.tags", "tags"),
    (["languages", "language"], "general.languages", "language"),
];

/// Returns whether a field of a card becomes a key.
pub(crate) fn is_used(field: &str) -> bool {
    let plain = field.strip_prefix("model_").unwrap_or(field);
    TEXTS.iter().any(|(known, _)| *known == plain)
        || NAMED.iter().any(|(_, fields)| fields.contains(&field))
        || LISTS.iter().any(|(fields, ..)| fields.contains(&field))
        || field == "model_creator"
}

/// Returns whether a key becomes a field of a card.
pub(crate) fn is_carried(key: &str) -> bool {
    TEXTS.iter().any(|(_, known)| *known == key)
        || LISTS.iter().any(|(_, known, _)| *known == key)
        || NAMED.iter().any(|(what, _)| {
            let rest = key.strip_prefix("general.");
            rest.and_then(|rest| rest.strip_prefix(what))
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

/// Sets the keys. What the card does not say is taken from the name.
pub(crate) fn write(
    metadata: &mut GgufWriter,
    id: &ModelId,
    card: &Card,
    tensors: &[SourceTensor<'_>],
) -> Result<(), ToolError> {
    let n_weights = naming::n_weights(tensors);
    let mut parts = NameParts::of(&id.name, n_weights);
    for (field, key) in TEXTS {
        let said = card.one(&[field, &format!("model_{field}")]);
        let text = said.map(str::to_owned).or_else(|| match field {
            "name" => Some(naming::title(&id.name)),
            "author" => card.one(&["model_creator"]).map(str::to_owned),
            "version" => parts.version.take(),
            "organization" => id.organization.as_deref().map(naming::title),
            "finetune" => parts.finetune.take(),
            "basename" => parts.basename.take(),
            "size_label" => {
                let label = parts.size_label.take();
                Some(label.unwrap_or_else(|| naming::size_label(tensors)))
            }
            _ => None,
        });
        if let Some(text) = text {
            metadata.set(key, text)?;
        }
    }
    for (what, fields) in NAMED {
        write_named(metadata, what, &card.all(&fields), n_weights)?;
    }
    for (fields, key, _) in LISTS {
        let values = card.all(&fields);
        if !values.is_empty() {
            metadata.set(key, values)?;
        }
    }
    Ok(())
}

/// Sets what is known of models or texts that are named. They are taken to be of the size of
/// the model.
fn write_named(
    metadata: &mut GgufWriter,
    what: &str,
    names: &[&str],
    n_weights: f64,
) -> Result<(), ToolError> {
    if !names.is_empty() {
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        metadata.set(&format!("general.{what}.count"), count)?;
    }
    for (idx, name) in names.iter().enumerate() {
        let key = |name: &str| format!("general.{what}.{idx}.{name}");
        let Some(id) = ModelId::of_text(name) else {
            metadata.set(&key("repo_url"), *name)?;
            continue;
        };
        metadata.set(&key("name"), naming::title(&id.name))?;
        if let Some(version) = NameParts::of(&id.name, n_weights).version {
            metadata.set(&key("version"), version)?;
        }
        if let Some(organization) = &id.organization {
            metadata.set(&key("organization"), naming::title(organization))?;
            let url = format!("{}{organization}/{}", card::HUB, id.name);
            metadata.set(&key("repo_url"), url)?;
        }
    }
    Ok(())
}

/// Returns what a file says of itself as the card of a checkpoint.
pub(crate) fn card_of(metadata: &Metadata<'_>) -> Result<Card, ToolError> {
    let mut card = Card::default();
    for (field, key) in TEXTS {
        card.push(field, texts(metadata.optional::<&str>(key)?));
    }
    for (what, [field, ..]) in NAMED {
        let count: Option<u64> = metadata.optional(&format!("general.{what}.count"))?;
        let mut names = Vec::new();
        for idx in 0..count.unwrap_or(0).min(metadata.len() as u64) {
            let of_one = |name: &str| {
                let key = format!("general.{what}.{idx}.{name}");
                metadata.optional::<&str>(&key)
            };
            let url = of_one("repo_url")?;
            let id = url.map(|url| url.strip_prefix(card::HUB).unwrap_or(url));
            names.extend(texts(id.or(of_one("name")?)));
        }
        card.push(field, names);
    }
    for (_, key, field) in LISTS {
        let values: Option<Elements<'_, &str>> = metadata.optional(key)?;
        let values = values.into_iter().flatten().map(str::to_owned);
        card.push(field, values.collect());
    }
    Ok(card)
}

fn texts(text: Option<&str>) -> Vec<String> {
    text.map(str::to_owned).into_iter().collect()
}
