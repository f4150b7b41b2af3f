//! `POST /v1/embeddings`
//!
//! The mean of a text's hidden states after the final norm, at unit length. A model that was
//! trained to continue texts gives vectors that compare texts roughly; those of a model that
//! was trained for it are better.

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::prompts;
use crate::{
    api_error::ApiError,
    call::Call,
    completion::{Job, Running, Update, Work, usage},
    fields::Fields,
    model::ServedModel,
    routes::json as json_response,
};

/// Answers texts with vectors.
pub(crate) async fn embeddings(call: Call) -> Result<Response, ApiError> {
    call.app.check_queue()?;
    let (app, request) = call.read(|body, app| read(body, app.model()?)).await?;
    let (job, is_base64) = request;
    let mut running = Running::start(&app, job)?;
    let mut data = vec![Value::Null; running.job().n_choices()];
    while let Some(update) = running.next().await? {
        if let Update::Embedding { choice, values } = update {
            let values = normalised(&values);
            let embedding = match is_base64 {
                true => base64(&values).into(),
                false => Value::from(values),
            };
            data[choice] = json!({"object": "embedding", "index": choice, "embedding": embedding});
        }
    }
    let usage = usage(&running.all_figures(), 1);
    Ok(json_response(&json!({
        "object": "list",
        "data": data,
        "model": running.model()?.name(),
        "usage": {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["total_tokens"]},
    })))
}

fn read(body: Value, model: &ServedModel) -> Result<(Job, bool), ApiError> {
    let mut fields = Fields::of_body(body)?;
    model.check_name(&mut fields)?;
    let inputs = prompts::read(fields.required("input")?, "input", model)?;
    let is_base64 = match fields.string("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(ApiError::invalid(
                "encoding_format",
                "expected float or base64",
            ));
        }
    };
    let own = [json!(model.facts.n_embd)];
    let why = "vectors have the width of the model";
    fields.refuse("dimensions", &own, why)?;
    fields.finish()?;
    let job = Job {
        prompts: inputs.into_iter().map(|input| input.ids).collect(),
        param: "input",
        work: Work::Embed,
    };
    Ok((job, is_base64))
}

/// Returns a vector of the same direction and of length 1; one without length stays.
fn normalised(values: &[f32]) -> Vec<f32> {
    let square: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = if square > 0.0 {
        square.sqrt().recip()
    } else {
        1.0
    };
    let scaled = values.iter().map(|&x| (f64::from(x) * scale) as f32);
    scaled.collect()
}

/// Returns the bytes of numbers, lowest first, as OpenAI's clients ask for them.
fn base64(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one() {
        assert_eq!(normalised(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(normalised(&[0.0]), [0.0]);
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.0]), "AACAPwAAAMA=");
        assert_eq!(base64(&[1.0, -2.0, 0.5]), "AACAPwAAAMAAAAA/");
    }
}
