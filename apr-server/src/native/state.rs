//! How the server is: health, metrics, properties, slots. Fields are those of llama-server.

use axum::response::Response;
use sampler::SamplerConfig;
use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    app::Phase,
    call::Call,
    routes::{json as json_response, text},
};

/// `GET /health`
pub(crate) async fn health(call: Call) -> Result<Response, ApiError> {
    call.app.model()?;
    Ok(json_response(&json!({"status": "ok"})))
}

/// `GET /metrics`
pub(crate) async fn metrics(call: Call) -> Result<Response, ApiError> {
    let status = call.app.loaded().ok().map(|model| model.engine.status());
    let page = call.app.metrics.to_text(status.as_ref());
    Ok(text(page, "text/plain; version=0.0.4; charset=utf-8"))
}

/// `GET /props`
pub(crate) async fn props(call: Call) -> Result<Response, ApiError> {
    let model = call.app.loaded()?;
    let status = model.engine.status();
    let special = |id: Option<u32>| id.and_then(|id| model.tokenizer.token_text(id));
    Ok(json_response(&json!({
        "default_generation_settings": {
            "n_ctx": model.engine.n_ctx(),
            "params": sampling(&model.facts.sampler),
        },
        "total_slots": status.slots.len(),
        "model_alias": model.name(),
        "system_fingerprint": model.facts.fingerprint,
        "chat_template": model.tokenizer.chat_template(),
        "bos_token": special(model.tokenizer.bos()),
        "eos_token": special(model.tokenizer.eos()),
        "modalities": {"vision": false, "audio": false},
        "build_info": model.facts.build,
        "is_sleeping": false,
        "is_draining": call.app.phase() != Phase::Open,
    })))
}

/// `GET /slots`
pub(crate) async fn slots(call: Call) -> Result<Response, ApiError> {
    let model = call.app.loaded()?;
    let n_ctx = model.engine.n_ctx();
    let slots = model.engine.status().slots;
    let slot = |(id, slot): (usize, &Option<generate::SlotStatus>)| match slot {
        None => json!({"id": id, "n_ctx": n_ctx, "is_processing": false}),
        Some(slot) => json!({
            "id": id,
            "n_ctx": n_ctx,
            "is_processing": true,
            "id_task": slot.id,
            "n_prompt_tokens": slot.n_prompt,
            "n_prompt_tokens_processed": slot.n_prompt_done,
            "next_token": {"n_decoded": slot.n_generated},
        }),
    };
    let slots: Vec<Value> = slots.iter().enumerate().map(slot).collect();
    Ok(json_response(&Value::from(slots)))
}

/// Returns the settings as a request would say them.
fn sampling(config: &SamplerConfig) -> Value {
    let mirostat = config.mirostat2;
    json!({
        "temperature": short(config.temp),
        "dynatemp_range": short(config.dynatemp_range),
        "dynatemp_exponent": short(config.dynatemp_exponent),
        "top_k": config.top_k,
        "top_p": short(config.top_p),
        "min_p": short(config.min_p),
        "top_n_sigma": short(config.top_n_sigma),
        "xtc_probability": short(config.xtc_probability),
        "xtc_threshold": short(config.xtc_threshold),
        "typical_p": short(config.typical_p),
        "repeat_last_n": config.repeat_last_n,
        "repeat_penalty": short(config.repeat_penalty),
        "presence_penalty": short(config.presence_penalty),
        "frequency_penalty": short(config.frequency_penalty),
        "dry_multiplier": short(config.dry_multiplier),
        "dry_base": short(config.dry_base),
        "dry_allowed_length": config.dry_allowed_length,
        "dry_penalty_last_n": config.dry_penalty_last_n,
        "mirostat": if mirostat.is_some() { 2 } else { 0 },
        "mirostat_tau": short(mirostat.map_or(5.0, |it| it.tau)),
        "mirostat_eta": short(mirostat.map_or(0.1, |it| it.eta)),
        "min_keep": config.min_keep,
    })
}

/// Returns the shortest number that reads back as this `f32`: 0.7, not 0.699999988.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_as_people_write_them() {
        let shown = sampling(&SamplerConfig::default());
        assert_eq!(shown["temperature"].to_string(), "0.7");
        assert_eq!(shown["top_p"].to_string(), "0.8");
        assert_eq!(shown["mirostat_eta"].to_string(), "0.1");
    }
}
