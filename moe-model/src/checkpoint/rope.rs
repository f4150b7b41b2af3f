//! The rotary embedding, read from `config.json`.
//!
//! Older files have `rope_theta` and, where the context is stretched, `rope_scaling`; newer ones
//! have both in `rope_parameters`. Scaling is that of transformers' `modeling_rope_utils`; a
//! field of it that is not known here may change the answer and is refused.

use super::document::Document;
use crate::{ModelError, RopeConfig, RopeScaling, Yarn};

const THETA: &str = "rope_theta";
const NEW: &str = "rope_parameters";
const OLD: &str = "rope_scaling";
const TYPE: &str = "rope_type";
const OLD_TYPE: &str = "type";
const FACTOR: &str = "factor";
const ORIGINAL: &str = "original_max_position_embeddings";

/// Fields of every kind of scaling.
const COMMON: [&str; 4] = [THETA, TYPE, OLD_TYPE, "partial_rotary_factor"];

impl RopeConfig {
    /// Reads the rotary embedding of a model that was made for `n_ctx` positions.
    pub(super) fn read_document(file: &Document<'_>, n_ctx: usize) -> Result<Self, ModelError> {
        let (new, old) = (file.object(NEW)?, file.object(OLD)?);
        if let (Some(_), Some(_)) = (&new, &old) {
            let expected = format!("nothing beside `{NEW}`");
            return Err(file.invalid(OLD, &expected, "an object"));
        }
        let parameters = new.or(old);
        let bases = [Some(file), parameters.as_ref()];
        let mut freq_base = None;
        for place in bases.into_iter().flatten() {
            check_whole(place)?;
            let Some(found) = base(place)? else { continue };
            if let Some(before) = freq_base.filter(|&before| before != found) {
                let expected = format!("{before}, as it says elsewhere");
                return Err(place.invalid(THETA, &expected, found));
            }
            freq_base = Some(found);
        }
        Ok(Self {
            freq_base: file.require(THETA, "a number above 1", freq_base)?,
            scaling: match &parameters {
                None => RopeScaling::None,
                Some(parameters) => scaling(parameters, n_ctx)?,
            },
        })
    }
}

fn base(place: &Document<'_>) -> Result<Option<f32>, ModelError> {
    let base = place.number(THETA)?;
    match base.filter(|&base| base <= 1.0) {
        Some(found) => Err(place.invalid(THETA, "a number above 1", found)),
        None => Ok(base),
    }
}

/// Refuses heads of which only a part is rotated.
fn check_whole(place: &Document<'_>) -> Result<(), ModelError> {
    const NAME: &str = "partial_rotary_factor";
    match place.number(NAME)?.filter(|&part| part != 1.0) {
        Some(found) => Err(place.invalid(NAME, "1, which is all that is implemented", found)),
        None => Ok(()),
    }
}

fn scaling(parameters: &Document<'_>, n_ctx: usize) -> Result<RopeScaling, ModelError> {
    let (new, old) = (parameters.text(TYPE)?, parameters.text(OLD_TYPE)?);
    if let (Some(new), Some(old)) = (&new, &old)
        && new != old
    {
        let expected = format!("`{new}`, as `{TYPE}` says");
        return Err(parameters.invalid(OLD_TYPE, &expected, format!("`{old}`")));
    }
    match new.or(old).as_deref() {
        None | Some("default") => {
            check_known(parameters, &[])?;
            Ok(RopeScaling::None)
        }
        Some("linear") => {
            check_known(parameters, &[FACTOR])?;
            Ok(RopeScaling::Linear {
                factor: factor(parameters)?,
                attn_factor: 1.0,
            })
        }
        Some("yarn") => yarn(parameters, n_ctx).map(RopeScaling::Yarn),
        Some(other) => {
            let found = format!("`{other}`");
            Err(parameters.invalid(TYPE, "default, linear or yarn", found))
        }
    }
}

fn yarn(parameters: &Document<'_>, n_ctx: usize) -> Result<Yarn, ModelError> {
    let known = [
        FACTOR,
        ORIGINAL,
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "truncate",
    ];
    check_known(parameters, &known)?;
    if parameters.flag("truncate")? == Some(false) {
        let expected = "true, which is all that is implemented";
        return Err(parameters.invalid("truncate", expected, false));
    }
    let yarn = Yarn {
        factor: factor(parameters)?,
        n_ctx_orig: parameters.size(ORIGINAL)?.unwrap_or(n_ctx),
        beta_fast: positive(parameters, "beta_fast")?.unwrap_or(32.0),
        beta_slow: positive(parameters, "beta_slow")?.unwrap_or(1.0),
        ext_factor: 1.0,
        attn_factor: 1.0,
        log_multiplier: 0.0,
    };
    Ok(match positive(parameters, "attention_factor")? {
        None => yarn,
        // There it is the whole factor of cosines and sines, here one on top of YaRN's own.
        Some(whole) => Yarn {
            attn_factor: (f64::from(whole) / yarn.magnitude()) as f32,
            ..yarn
        },
    })
}

fn factor(parameters: &Document<'_>) -> Result<f32, ModelError> {
    let factor = positive(parameters, FACTOR)?;
    parameters.require(FACTOR, "a number above 0", factor)
}

fn positive(parameters: &Document<'_>, name: &str) -> Result<Option<f32>, ModelError> {
    let value = parameters.number(name)?;
    match value.filter(|&value| value <= 0.0) {
        Some(found) => Err(parameters.invalid(name, "a number above 0", found)),
        None => Ok(value),
    }
}

fn check_known(parameters: &Document<'_>, known: &[&str]) -> Result<(), ModelError> {
    let mut names = parameters.names();
    match names.find(|name| !COMMON.contains(name) && !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let expected = "no such field: it would be ignored";
            let found = parameters.get(name).map(ToString::to_string);
            Err(parameters.invalid(name, expected, found.unwrap_or_default()))
        }
    }
}
