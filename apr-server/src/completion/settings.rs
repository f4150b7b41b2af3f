//! How a prompt is continued, as a request says it.
//!
//! Names are OpenAI's and, for what OpenAI does not have, llama-server's. What a request does
//! not say is as the model recommends.

use generate::GenerationConfig;
use sampler::{Mirostat2, SamplerConfig, SamplerError};
use serde_json::{Value, json};
use tokenizer::SpecialTokens;

use super::form::{Form, only};
use crate::{
    api_error::ApiError,
    fields::{Fields, wrong_type},
    model::ServedModel,
    random,
};

/// The most stop strings of a request, and the most bytes of one.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 4096;
/// The most answers to one request.
const MAX_CHOICES: i64 = 64;
/// Any `f32`.
const ANY: std::ops::RangeInclusive<f64> = -(f32::MAX as f64)..=f32::MAX as f64;
const POSITIVE: std::ops::RangeInclusive<f64> = 0.0..=f32::MAX as f64;
const SHARE: std::ops::RangeInclusive<f64> = 0.0..=1.0;
const INT: std::ops::RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;

/// How prompts are continued.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How tokens are drawn. Choice `i` of a request adds `i` to the seed.
    pub(crate) sampler: SamplerConfig,
    /// The most tokens.
    pub(crate) n_predict: Option<usize>,
    pub(crate) stop_strings: Vec<String>,
    /// Continuations of each prompt.
    pub(crate) n: usize,
    pub(crate) ignore_eos: bool,
    pub(crate) use_cache: bool,
    /// What the answer is held to.
    pub(crate) form: Option<Form>,
}

impl Settings {
    /// Reads all settings but the number of tokens, whose name and default differ.
    pub(crate) fn read(fields: &mut Fields, model: &ServedModel) -> Result<Self, ApiError> {
        let mut sampler = model.facts.sampler.clone();
        sampler.seed = seed(fields, model.facts.seed)?;
        truncation(fields, &mut sampler)?;
        penalties(fields, &mut sampler)?;
        dry(fields, &mut sampler, model)?;
        temperature(fields, &mut sampler)?;
        mirostat(fields, &mut sampler)?;
        sampler.logit_bias.extend(logit_bias(fields, model)?);
        fields.refuse("samplers", &[], "the order of the samplers is fixed")?;
        fields.refuse("lora", &[json!([])], "adapters are not supported")?;
        sampler.validate().map_err(|error| named(&error, fields))?;
        let n = fields.integer("n", 1..=MAX_CHOICES)?.unwrap_or(1);
        Ok(Self {
            sampler,
            n_predict: None,
            stop_strings: stop_strings(fields, "stop")?,
            n: usize::try_from(n).unwrap_or(1),
            ignore_eos: fields.bool("ignore_eos")?.unwrap_or(false),
            use_cache: fields.bool("cache_prompt")?.unwrap_or(true),
            form: Form::read(fields)?,
        })
    }

    /// Holds the answer to a form, unless it is held to another.
    pub(crate) fn hold_to(&mut self, form: Option<Form>) -> Result<(), ApiError> {
        self.form = only(self.form.take(), form)?;
        Ok(())
    }

    /// Returns what the engine is told for a choice.
    pub(crate) fn generation(&self, model: &ServedModel, choice: usize) -> GenerationConfig {
        let mut sampler = self.sampler.clone();
        sampler.seed = sampler.seed.wrapping_add(choice as u64);
        let ends = model.tokenizer.end_of_generation();
        let mut stop_tokens = ends.to_vec();
        if self.ignore_eos {
            let never = ends.iter().map(|&id| (id, f32::NEG_INFINITY));
            sampler.logit_bias.extend(never);
            stop_tokens.clear();
        }
        GenerationConfig {
            sampler,
            n_predict: self.n_predict,
            stop_tokens,
        }
    }
}

/// Tells an error of the sampler, which begins with the name of a setting, under the name of the
/// field.
fn named(error: &SamplerError, fields: &Fields) -> ApiError {
    let text = error.to_string();
    let (name, why) = text.split_once(": ").unwrap_or(("", &text));
    ApiError::invalid(fields.path(name), why)
}

/// Reads the most tokens of an answer under any of its names; a negative one is no limit.
pub(crate) fn n_predict(fields: &mut Fields, names: &[&str]) -> Result<Option<usize>, ApiError> {
    let mut limit = None;
    for name in names {
        let value = fields.integer(name, -2..=i64::MAX)?;
        limit = limit.or(value);
    }
    Ok(limit.and_then(|limit| usize::try_from(limit).ok()))
}

/// Reads strings that end the text: one or several.
pub(crate) fn stop_strings(fields: &mut Fields, name: &str) -> Result<Vec<String>, ApiError> {
    let path = fields.path(name);
    let items = match fields.value(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => return Err(wrong_type(&path, "a string or an array of strings", &other)),
    };
    if items.len() > MAX_STOPS {
        let message = format!("expected at most {MAX_STOPS}, found {}", items.len());
        return Err(ApiError::invalid(path, message));
    }
    let string = |(idx, item): (usize, Value)| {
        let path = format!("{path}[{idx}]");
        match item {
            Value::String(text) if text.is_empty() => Err(ApiError::invalid(
                path,
                "an empty string would end every text",
            )),
            Value::String(text) if text.len() > MAX_STOP_BYTES => {
                let message = format!("expected at most {MAX_STOP_BYTES} bytes");
                Err(ApiError::invalid(path, message))
            }
            Value::String(text) => Ok(text),
            other => Err(wrong_type(&path, "a string", &other)),
        }
    };
    items.into_iter().enumerate().map(string).collect()
}

fn seed(fields: &mut Fields, usual: Option<u64>) -> Result<u64, ApiError> {
    // Any whole number is a seed; -1 is what llama.cpp's users write for another one each time.
    match fields.value("seed") {
        None => Ok(usual.unwrap_or_else(random::number)),
        Some(value) => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => Ok(seed),
            (None, Some(-1)) => Ok(random::number()),
            (None, Some(seed)) => Ok(seed.cast_unsigned()),
            (None, None) => Err(wrong_type(&fields.path("seed"), "a whole number", &value)),
        },
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn int(fields: &mut Fields, name: &str, place: &mut i32) -> Result<(), ApiError> {
    let value = fields.integer(name, INT)?;
    set(place, value.and_then(|value| i32::try_from(value).ok()));
    Ok(())
}

fn truncation(fields: &mut Fields, sampler: &mut SamplerConfig) -> Result<(), ApiError> {
    int(fields, "top_k", &mut sampler.top_k)?;
    set(&mut sampler.top_p, fields.number("top_p", SHARE)?);
    set(&mut sampler.min_p, fields.number("min_p", SHARE)?);
    set(&mut sampler.typical_p, fields.number("typical_p", SHARE)?);
    set(&mut sampler.top_n_sigma, fields.number("top_n_sigma", ANY)?);
    let probability = fields.number("xtc_probability", SHARE)?;
    set(&mut sampler.xtc_probability, probability);
    let threshold = fields.number("xtc_threshold", SHARE)?;
    set(&mut sampler.xtc_threshold, threshold);
    set(&mut sampler.min_keep, fields.count("min_keep", 1 << 20)?);
    Ok(())
}

fn penalties(fields: &mut Fields, sampler: &mut SamplerConfig) -> Result<(), ApiError> {
    let repeat = fields.number("repeat_penalty", POSITIVE)?;
    // vLLM's name of the same.
    let repeat = repeat.or(fields.number("repetition_penalty", POSITIVE)?);
    set(&mut sampler.repeat_penalty, repeat);
    int(fields, "repeat_last_n", &mut sampler.repeat_last_n)?;
    let presence = fields.number("presence_penalty", ANY)?;
    set(&mut sampler.presence_penalty, presence);
    let frequency = fields.number("frequency_penalty", ANY)?;
    set(&mut sampler.frequency_penalty, frequency);
    Ok(())
}

fn dry(
    fields: &mut Fields,
    sampler: &mut SamplerConfig,
    model: &ServedModel,
) -> Result<(), ApiError> {
    let multiplier = fields.number("dry_multiplier", POSITIVE)?;
    set(&mut sampler.dry_multiplier, multiplier);
    set(&mut sampler.dry_base, fields.number("dry_base", ANY)?);
    let allowed = fields.count("dry_allowed_length", 1 << 20)?;
    set(&mut sampler.dry_allowed_length, allowed);
    int(
        fields,
        "dry_penalty_last_n",
        &mut sampler.dry_penalty_last_n,
    )?;
    if fields.has("dry_sequence_breakers") {
        let texts = stop_strings(fields, "dry_sequence_breakers")?;
        let encode = |text: &String| model.tokenizer.encode(text, SpecialTokens::AsText);
        let breakers = texts.iter().map(encode);
        sampler.dry_sequence_breakers = breakers.filter(|ids| !ids.is_empty()).collect();
    }
    Ok(())
}

fn temperature(fields: &mut Fields, sampler: &mut SamplerConfig) -> Result<(), ApiError> {
    set(&mut sampler.temp, fields.number("temperature", POSITIVE)?);
    let range = fields.number("dynatemp_range", POSITIVE)?;
    set(&mut sampler.dynatemp_range, range);
    let exponent = fields.number("dynatemp_exponent", POSITIVE)?;
    set(&mut sampler.dynatemp_exponent, exponent);
    Ok(())
}

fn mirostat(fields: &mut Fields, sampler: &mut SamplerConfig) -> Result<(), ApiError> {
    let usual = sampler
        .mirostat2
        .unwrap_or(Mirostat2 { tau: 5.0, eta: 0.1 });
    let version = fields.integer("mirostat", INT)?;
    let tau = fields.number("mirostat_tau", POSITIVE)?;
    let eta = fields.number("mirostat_eta", POSITIVE)?;
    let is_on = match version {
        None => sampler.mirostat2.is_some(),
        Some(0) => false,
        Some(2) => true,
        Some(other) => {
            let message = format!("expected 0 or 2, found {other}");
            return Err(ApiError::unsupported(fields.path("mirostat"), message));
        }
    };
    sampler.mirostat2 = is_on.then_some(Mirostat2 {
        tau: tau.unwrap_or(usual.tau),
        eta: eta.unwrap_or(usual.eta),
    });
    Ok(())
}

/// Reads the biases of tokens that the model has.
fn logit_bias(fields: &mut Fields, model: &ServedModel) -> Result<Vec<(u32, f32)>, ApiError> {
    let biases = biases(fields)?;
    let n_vocab = model.facts.n_vocab;
    match biases.iter().find(|(id, _)| *id as usize >= n_vocab) {
        None => Ok(biases),
        Some((id, _)) => {
            let message = format!("expected token ids below {n_vocab}, found {id}");
            Err(ApiError::invalid(fields.path("logit_bias"), message))
        }
    }
}

/// Reads OpenAI's map from ids to numbers, or llama-server's pairs, where `false` is never.
fn biases(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let path = fields.path("logit_bias");
    let pairs: Vec<(String, Value)> = match fields.value("logit_bias") {
        None => Vec::new(),
        Some(Value::Object(map)) => map.into_iter().collect(),
        Some(Value::Array(pairs)) => {
            let pair = |pair: Value| match pair {
                Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                    Ok([id, bias]) => Ok((id.to_string(), bias)),
                    Err(_) => Err(ApiError::invalid(&*path, "expected pairs of id and bias")),
                },
                other => Err(wrong_type(&path, "pairs of id and bias", &other)),
            };
            pairs.into_iter().map(pair).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(&path, "a map from ids to numbers", &other)),
    };
    let bias = |(id, bias): (String, Value)| {
        let id: u32 = id
            .parse()
            .map_err(|_| ApiError::invalid(&*path, "expected token ids as names"))?;
        let bias = match bias {
            Value::Bool(false) => f32::NEG_INFINITY,
            bias => match bias.as_f64() {
                Some(bias) if ANY.contains(&bias) => bias as f32,
                _ => return Err(wrong_type(&path, "a number for each token", &bias)),
            },
        };
        Ok((id, bias))
    };
    pairs.into_iter().map(bias).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of_body(value).unwrap()
    }

    fn param(error: &ApiError) -> Value {
        error.to_json()["error"]["param"].clone()
    }

    #[test]
    fn biases_are_a_map_or_pairs() {
        let map = biases(&mut fields(json!({"logit_bias": {"5": -1.5, "7": 100}})));
        assert_eq!(map.unwrap(), [(5, -1.5), (7, 100.0)]);
        let pairs = biases(&mut fields(json!({"logit_bias": [[5, false], [7, 1]]})));
        assert_eq!(pairs.unwrap(), [(5, f32::NEG_INFINITY), (7, 1.0)]);
        for bad in [
            json!({"x": 1}),
            json!({"-1": 1}),
            json!({"4294967296": 1}),
            json!({"5": "a"}),
            json!({"5": 1e300}),
            json!([[5]]),
            json!([5]),
            json!("5"),
        ] {
            let error = biases(&mut fields(json!({"logit_bias": bad}))).unwrap_err();
            assert_eq!(param(&error), "logit_bias", "{bad}");
        }
    }

    #[test]
    fn stops_are_one_string_or_several_and_never_empty() {
        let read = |stop: Value| stop_strings(&mut fields(json!({"stop": stop})), "stop");
        assert_eq!(read(json!("a")).unwrap(), ["a"]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(read(Value::Null).unwrap(), [""; 0]);
        assert_eq!(param(&read(json!(["a", ""])).unwrap_err()), "stop[1]");
        assert_eq!(param(&read(json!([1])).unwrap_err()), "stop[0]");
        assert_eq!(param(&read(json!(vec!["a"; 65])).unwrap_err()), "stop");
    }

    #[test]
    fn every_whole_number_is_a_seed() {
        let read = |value: Value| seed(&mut fields(json!({"seed": value})), None);
        assert_eq!(read(json!(7)).unwrap(), 7);
        assert_eq!(read(json!(u64::MAX)).unwrap(), u64::MAX);
        assert_eq!(read(json!(-7)).unwrap(), (-7_i64).cast_unsigned());
        assert_ne!(read(json!(-1)).unwrap(), read(json!(-1)).unwrap());
        assert_eq!(param(&read(json!(1.5)).unwrap_err()), "seed");
    }

    #[test]
    fn a_negative_length_is_no_limit() {
        let names = ["max_completion_tokens", "max_tokens"];
        let read = |value| n_predict(&mut fields(value), &names);
        assert_eq!(read(json!({})).unwrap(), None);
        assert_eq!(read(json!({"max_tokens": -1})).unwrap(), None);
        assert_eq!(read(json!({"max_tokens": 3})).unwrap(), Some(3));
        let both = json!({"max_tokens": 3, "max_completion_tokens": 5});
        assert_eq!(read(both).unwrap(), Some(5));
        assert!(read(json!({"max_tokens": -9})).is_err());
    }
}
