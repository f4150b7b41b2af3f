//! What an answer has cost: tokens and times.

use std::time::{Duration, Instant};

use generate::CacheMiss;
use serde_json::{Map, Value, json};

use crate::{completion::piece, model::ServedModel};

/// Tokens and times of one choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) n_prompt: usize,
    /// Tokens of the prompt that were found in the cache.
    pub(crate) n_cached: usize,
    pub(crate) n_generated: usize,
    /// Those of them that were thoughts.
    pub(crate) n_reasoning: usize,
    pub(crate) miss: Option<CacheMiss>,
    pub(crate) submitted: Instant,
    pub(crate) started: Option<Instant>,
    pub(crate) prefilled: Option<Instant>,
    pub(crate) last_token: Option<Instant>,
}

impl Figures {
    pub(crate) const fn new(n_prompt: usize, submitted: Instant) -> Self {
        Self {
            n_prompt,
            n_cached: 0,
            n_generated: 0,
            n_reasoning: 0,
            miss: None,
            submitted,
            started: None,
            prefilled: None,
            last_token: None,
        }
    }

    /// What the part of the prompt took that was not in the cache.
    pub(crate) fn prompt_time(&self) -> Duration {
        span(self.started, self.prefilled)
    }

    /// What the tokens took.
    pub(crate) fn predicted_time(&self) -> Duration {
        span(self.prefilled, self.last_token)
    }
}

fn span(from: Option<Instant>, to: Option<Instant>) -> Duration {
    match (from, to) {
        (Some(from), Some(to)) => to.saturating_duration_since(from),
        _ => Duration::ZERO,
    }
}

/// Returns milliseconds with three places, which is more than a clock gives.
pub(super) fn seconds_to_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the tokens of all choices as OpenAI counts them: prompts once each, whatever the
/// number of their continuations.
pub(crate) fn usage(choices: &[Figures], n_per_prompt: usize) -> Value {
    let firsts = || choices.iter().step_by(n_per_prompt.max(1));
    let n_prompt: usize = firsts().map(|choice| choice.n_prompt).sum();
    let n_cached: usize = firsts().map(|choice| choice.n_cached).sum();
    let n_generated: usize = choices.iter().map(|choice| choice.n_generated).sum();
    let n_reasoning: usize = choices.iter().map(|choice| choice.n_reasoning).sum();
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": {"cached_tokens": n_cached},
        "completion_tokens_details": {"reasoning_tokens": n_reasoning},
    })
}

/// Returns the times of a choice under llama-server's names, and where its prompt left the
/// nearest one in the cache.
pub(crate) fn timings(choice: &Figures, model: &ServedModel) -> Value {
    let mut fields = Map::new();
    fields.insert("cache_n".to_owned(), choice.n_cached.into());
    let n_computed = choice.n_prompt.saturating_sub(choice.n_cached);
    let mut add = |name: &str, n: usize, time: Duration| {
        let ms = seconds_to_ms(time);
        let each = if n == 0 { 0.0 } else { ms / n as f64 };
        let rate = if ms > 0.0 { n as f64 * 1e3 / ms } else { 0.0 };
        fields.insert(format!("{name}_n"), n.into());
        fields.insert(format!("{name}_ms"), ms.into());
        fields.insert(format!("{name}_per_token_ms"), each.into());
        fields.insert(format!("{name}_per_second"), rate.into());
    };
    add("prompt", n_computed, choice.prompt_time());
    add("predicted", choice.n_generated, choice.predicted_time());
    if let Some(miss) = choice.miss {
        let token = |id: u32| json!({"id": id, "piece": piece(&model.tokenizer, id)});
        let miss = json!({
            "position": miss.position,
            "cached": token(miss.cached),
            "found": token(miss.found),
        });
        fields.insert("cache_miss".to_owned(), miss);
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_count_once_and_continuations_each() {
        let choice = |n_prompt, n_generated| Figures {
            n_generated,
            n_cached: 1,
            ..Figures::new(n_prompt, Instant::now())
        };
        let choices = [choice(5, 1), choice(5, 2), choice(7, 3), choice(7, 4)];
        let usage = usage(&choices, 2);
        assert_eq!(usage["prompt_tokens"], 12);
        assert_eq!(usage["completion_tokens"], 10);
        assert_eq!(usage["total_tokens"], 22);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 2);
    }
}
