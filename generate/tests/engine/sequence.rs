//! Sequences: what is kept, what is computed, and what is refused.

use generate::{CancelFlag, GenerateError, Prefill, Progress, Sequence, Windows};
use moe_model::Route;

use crate::{PROMPT, bits, sequence};

#[test]
fn what_prompts_share_is_computed_once_and_changes_no_bit() {
    let cancel = CancelFlag::new();
    let mut kept = sequence(32, 4);
    let mut prefill = |prompt: &[u32]| {
        let prefill = kept.prefill(prompt, &cancel, &mut |_| ()).unwrap();
        let mut fresh = sequence(32, 512);
        fresh.prefill(prompt, &cancel, &mut |_| ()).unwrap();
        assert_eq!(bits(kept.logits()), bits(fresh.logits()), "{prompt:?}");
        assert_eq!(kept.tokens(), prompt);
        (prefill.n_cached, prefill.n_computed)
    };
    assert_eq!(prefill(&PROMPT), (0, 7));
    assert_eq!(prefill(&[&PROMPT[..], &[8, 9]].concat()), (7, 2));
    assert_eq!(prefill(&[1, 20, 300, 5]), (3, 1));
    assert_eq!(
        prefill(&[1, 20]),
        (1, 1),
        "the last token is needed for its logits"
    );
    assert_eq!(prefill(&[2]), (0, 1));
}

#[test]
fn tokens_pushed_one_by_one_are_a_prompt() {
    let cancel = CancelFlag::new();
    let mut pushed = sequence(32, 512);
    for token in PROMPT {
        pushed.push(token, &cancel).unwrap();
    }
    let mut whole = sequence(32, 512);
    whole.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
    assert_eq!(bits(pushed.logits()), bits(whole.logits()));
}

#[test]
fn progress_rises_to_the_end() {
    let mut seen = Vec::new();
    let mut s = sequence(32, 3);
    s.prefill(&PROMPT, &CancelFlag::new(), &mut |at| seen.push(at))
        .unwrap();
    assert!(seen.is_sorted_by_key(|at| at.n_done));
    let end = Progress {
        n_done: 7,
        n_total: 7,
    };
    // Two layers for each of three batches.
    assert_eq!((seen.len(), seen.last()), (6, Some(&end)));
}

#[test]
fn prompts_that_cannot_be_are_refused_and_leave_the_sequence_alone() {
    let cancel = CancelFlag::new();
    let mut s = sequence(8, 512);
    s.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
    let mut refuse = |prompt: &[u32], says: &str| {
        let error = s.prefill(prompt, &cancel, &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), says);
        assert_eq!(s.tokens(), PROMPT);
    };
    refuse(&[], "the prompt is empty, expected at least one token");
    refuse(&[1; 9], "the prompt has 9 tokens, the context holds 8");
    refuse(
        &[1, 512],
        "token 512 at position 1 of the prompt: expected an id below 512",
    );
}

#[test]
fn a_cancelled_prefill_keeps_its_whole_batches() {
    let cancel = CancelFlag::new();
    let mut s = sequence(32, 3);
    let mut calls = 0;
    let result = s.prefill(&PROMPT, &cancel, &mut |_| {
        calls += 1;
        if calls == 3 {
            cancel.cancel();
        }
    });
    assert!(matches!(result, Err(GenerateError::Cancelled)));
    assert_eq!(calls, 3, "no layer comes after the flag was seen");
    assert_eq!(s.tokens(), &PROMPT[..3]);
    cancel.reset();
    let resumed = s.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
    let expected = Prefill {
        n_cached: 3,
        n_computed: 4,
    };
    assert_eq!(resumed, expected);
}

#[test]
fn visited_logits_are_those_of_each_prefix() {
    let cancel = CancelFlag::new();
    let mut rows = Vec::new();
    let visit = |idx: usize, logits: &[f32]| -> Result<(), GenerateError> {
        rows.push((idx, bits(logits)));
        Ok(())
    };
    sequence(32, 2)
        .visit_logits(&PROMPT, &(2..6), &cancel, visit)
        .unwrap();
    assert_eq!(
        rows.iter().map(|(idx, _)| *idx).collect::<Vec<_>>(),
        [2, 3, 4, 5]
    );
    for (idx, row) in rows {
        let mut s = sequence(32, 512);
        s.prefill(&PROMPT[..=idx], &cancel, &mut |_| ()).unwrap();
        assert_eq!(row, bits(s.logits()), "token {idx}");
    }
}

#[test]
fn continuations_are_as_likely_as_their_tokens_and_share_what_they_can() {
    let cancel = CancelFlag::new();
    let context = &PROMPT[..4];
    let continuations: [&[u32]; 5] = [&[7, 8], &[7, 9, 10], &[7, 30], &[], &[7, 9, 11]];
    let mut s = sequence(32, 2);
    let scores = s.likelihoods(context, &continuations, &cancel).unwrap();
    for (continuation, found) in continuations.into_iter().zip(&scores.likelihoods) {
        let (mut logprob, mut is_greedy) = (0.0, true);
        let mut fresh = sequence(32, 512);
        for (idx, &token) in continuation.iter().enumerate() {
            let before = [context, &continuation[..idx]].concat();
            fresh.prefill(&before, &cancel, &mut |_| ()).unwrap();
            let table = sampler::LogSoftmax::new(fresh.logits()).unwrap();
            logprob += table.logprob(token).unwrap();
            is_greedy &= table.top(1)[0].id == token;
        }
        assert_eq!(found.logprob.to_bits(), f64::to_bits(logprob));
        assert_eq!(
            (found.is_greedy, found.n_tokens),
            (is_greedy, continuation.len())
        );
    }
    // The context with the first token, and once more the context's last token with two.
    let expected = Prefill {
        n_cached: 3,
        n_computed: 5 + 3,
    };
    assert_eq!(scores.work, expected);

    let too_long = [9; 30];
    let error = s.likelihoods(context, &[&too_long], &cancel).unwrap_err();
    assert!(error.to_string().contains("33 tokens"), "{error}");
    let error = s.likelihoods(&[], &[&[1]], &cancel).unwrap_err();
    assert!(matches!(error, GenerateError::EmptyPrompt));
}

#[test]
fn windows_score_their_second_half() {
    let text: Vec<u32> = (0..27).collect();
    let windows = Windows {
        n_ctx: 8,
        limit: None,
        bos: None,
    };
    let mut scored = Vec::new();
    sequence(8, 512)
        .visit_windows(&text, windows, &CancelFlag::new(), |at| {
            scored.push((at.window, at.token));
            Ok::<(), GenerateError>(())
        })
        .unwrap();
    let expected: Vec<(usize, u32)> = (0..3)
        .flat_map(|w| (5..8).map(move |i| (w, w as u32 * 8 + i)))
        .collect();
    assert_eq!(scored, expected);
}

/// The choices for all tokens of a sequence, layer by layer.
fn choices(s: &Sequence<'_>) -> Vec<Vec<Route>> {
    let routing = s.routing().unwrap();
    let tokens = 0..routing.n_tokens();
    tokens
        .map(|token| routing.of(token).flatten().copied().collect())
        .collect()
}

#[test]
fn routing_is_kept_for_the_tokens_in_the_cache_however_they_came_there() {
    let cancel = CancelFlag::new();
    let mut whole = sequence(16, 512);
    assert!(whole.routing().is_none());
    whole.keep_routing();
    whole.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
    let expected = choices(&whole);
    assert_eq!(expected.len(), PROMPT.len());
    let all = expected.iter().flatten().map(|route| route.weight);
    assert!((all.sum::<f32>() - (PROMPT.len() * 2) as f32).abs() < 1e-4);

    let mut pieces = sequence(16, 3);
    pieces.keep_routing();
    let other = [&PROMPT[..4], &[9, 9, 9, 9, 9]].concat();
    pieces.prefill(&other, &cancel, &mut |_| ()).unwrap();
    assert_eq!(choices(&pieces).len(), 9);
    let prefill = pieces.prefill(&PROMPT[..6], &cancel, &mut |_| ()).unwrap();
    assert_eq!(prefill.n_cached, 4);
    pieces.push(PROMPT[6], &cancel).unwrap();
    assert_eq!(choices(&pieces), expected);

    pieces.push(9999, &cancel).unwrap_err();
    assert_eq!(choices(&pieces), expected, "what failed is not kept");
    pieces.clear();
    assert!(choices(&pieces).is_empty());
}

#[test]
fn routing_of_a_batch_that_was_cancelled_is_not_kept() {
    let cancel = CancelFlag::new();
    let mut s = sequence(16, 4);
    s.keep_routing();
    let mut n_seen = 0;
    let result = s.prefill(&PROMPT, &cancel, &mut |_| {
        n_seen += 1;
        if n_seen == 3 {
            cancel.cancel();
        }
    });
    assert!(matches!(result, Err(GenerateError::Cancelled)));
    assert_eq!((s.tokens().len(), choices(&s).len()), (4, 4));
}
