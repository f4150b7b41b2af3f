//! Records what a model is and says.

use quant_kernels::{Cpu, Isa};

use super::{
    GOLDEN_SCHEMA, Golden, GoldenGreedy, GoldenPerplexity, GoldenRequest, GoldenStep, answers,
    facts, tensors::hash_all, wrong,
};
use crate::{
    ToolError,
    verify::{Progress, Subject, VerifyOptions, tensors::tensors, tokens},
};

/// Logits of a step that are recorded.
const N_TOP: usize = 8;

/// Tokens of a prompt that is ids for want of a tokenizer.
const N_IDS: usize = 8;

/// Records a model.
pub(in crate::verify) fn record(
    subject: &Subject<'_>,
    request: &GoldenRequest,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<Golden, ToolError> {
    let model = &subject.model;
    let cpu = Cpu::new(Isa::detect(), options.n_threads)?;
    let (prompt, prompt_ids) = match &subject.tokenizer {
        Ok(tokenizer) => (
            Some(request.prompt.clone()),
            answers::encode(tokenizer, &request.prompt),
        ),
        Err(_) => (None, tokens::spread(N_IDS, model.config().n_vocab)),
    };
    if prompt_ids.is_empty() {
        return Err(wrong("the prompt has no tokens"));
    }
    let mut steps = Vec::new();
    answers::walk(&cpu, model, &prompt_ids, request.n_steps, |_, logits| {
        let step = step(logits)?;
        let token = step.token;
        steps.push(step);
        Ok(token)
    })?;
    Ok(Golden {
        schema: GOLDEN_SCHEMA,
        environment: options.environment.clone(),
        model: facts::facts(model.config()),
        tokenizer: facts::tokenizer(subject),
        chat_template: facts::chat_template(subject),
        tensors: hash_all(&tensors(&subject.contents), options, progress)?,
        greedy: GoldenGreedy {
            prompt,
            prompt_ids,
            steps,
        },
        perplexity: perplexity(subject, &cpu, &request.text)?,
    })
}

fn step(logits: &[f32]) -> Result<GoldenStep, ToolError> {
    let token = sampler::argmax(logits).map_err(generate::GenerateError::from)?;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |id: u32| logits[id as usize];
    // As `argmax` does, the lower id of equal ones is taken first.
    order.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)).then(a.cmp(&b)));
    let top = order.into_iter().take(N_TOP);
    Ok(GoldenStep {
        token,
        logits_xxh3: answers::hash(logits),
        top: top.map(|id| (id, f64::from(logit(id)))).collect(),
    })
}

fn perplexity(
    subject: &Subject<'_>,
    cpu: &Cpu,
    text: &str,
) -> Result<Option<GoldenPerplexity>, ToolError> {
    let Ok(tokenizer) = &subject.tokenizer else {
        return Ok(None);
    };
    let ids = answers::encode(tokenizer, text);
    let Some(n_ctx) = answers::window(ids.len()) else {
        return Ok(None);
    };
    let (value, n_tokens) = answers::perplexity(cpu, &subject.model, tokenizer, &ids, n_ctx)?;
    Ok(Some(GoldenPerplexity {
        text: text.to_owned(),
        n_ctx,
        n_tokens,
        value,
    }))
}
