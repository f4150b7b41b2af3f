//! Generation as text: pieces, ends and cancellation.

use std::sync::LazyLock;

use generate::{
    CancelFlag, FinishReason, GenerationConfig, Generator, Step, TextConfig, TokenLoop, TokenStep,
};
use sampler::SamplerConfig;
use tokenizer::Tokenizer;

use crate::{FILE, PROMPT, sequence};

pub(crate) static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_gguf(FILE.gguf().unwrap().metadata()).unwrap());

/// Random enough for a varied text.
fn config(n_predict: Option<usize>) -> GenerationConfig {
    GenerationConfig {
        sampler: SamplerConfig {
            seed: 11,
            ..SamplerConfig::neutral()
        },
        n_predict,
        stop_tokens: Vec::new(),
    }
}

/// Text, tokens and end of a generation in a context of `n_ctx`.
fn generated(
    n_ctx: usize,
    config: &GenerationConfig,
    stop_strings: &[&str],
) -> (String, Vec<u32>, FinishReason) {
    let (mut s, cancel) = (sequence(n_ctx, 512), CancelFlag::new());
    s.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
    let text = TextConfig {
        stop_strings: stop_strings.iter().map(ToString::to_string).collect(),
        show_control: true,
    };
    let mut generator = Generator::new(&TOKENIZER, &s, config, &text).unwrap();
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match generator.step(&mut s, &cancel).unwrap() {
            Step::Piece(piece) => {
                text.push_str(&piece.text);
                tokens.push(piece.token);
            }
            Step::Finished { reason, text: rest } => return (text + &rest, tokens, reason),
        }
    }
}

#[test]
fn pieces_are_the_text_of_all_tokens() {
    let (text, tokens, reason) = generated(128, &config(Some(100)), &[]);
    assert_eq!((tokens.len(), reason), (100, FinishReason::Length));
    assert_eq!(text, TOKENIZER.decode_lossy(&tokens).unwrap());
}

#[test]
fn a_stop_string_cuts_the_text_before_it() {
    let (whole, ..) = generated(128, &config(Some(60)), &[]);
    // Bytes that are no text cannot be looked for.
    let mut words = whole
        .split('\u{fffd}')
        .filter(|word| word.chars().count() > 3);
    let stop: String = words.next_back().unwrap().chars().take(4).collect();
    let place = whole.find(&stop).unwrap();
    let (text, tokens, reason) = generated(128, &config(Some(60)), &["\u{0}\u{0}", &stop]);
    assert_eq!(reason, FinishReason::StopString(1));
    assert_eq!(text, whole[..place]);
    assert!(tokens.len() < 60);
}

#[test]
fn a_stop_token_is_no_text_and_a_full_context_is_an_end() {
    let (_, tokens, reason) = generated(16, &config(None), &[]);
    assert_eq!(reason, FinishReason::ContextFull);
    // The last one was drawn but has no place any more.
    assert_eq!(tokens.len(), 16 - PROMPT.len() + 1);
    let stop = tokens[4];
    let first = tokens.iter().position(|&token| token == stop).unwrap();
    let with_stop = GenerationConfig {
        stop_tokens: vec![stop],
        ..config(None)
    };
    let (_, fewer, reason) = generated(16, &with_stop, &[]);
    assert_eq!(reason, FinishReason::StopToken(stop));
    assert_eq!(fewer, &tokens[..first]);
}

#[test]
fn cancelling_ends_between_tokens_and_the_end_stays() {
    let (mut s, cancel) = (sequence(64, 512), CancelFlag::new());
    s.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
    let mut tokens = TokenLoop::new(&s, &config(None)).unwrap();
    for _ in 0..3 {
        assert!(matches!(
            tokens.step(&mut s, &cancel).unwrap(),
            TokenStep::Token(_)
        ));
    }
    cancel.cancel();
    let end = TokenStep::Finished(FinishReason::Cancelled);
    assert_eq!(tokens.step(&mut s, &cancel).unwrap(), end);
    cancel.reset();
    assert_eq!(tokens.step(&mut s, &cancel).unwrap(), end);
}

#[test]
fn control_tokens_are_shown_only_on_request() {
    let id = TOKENIZER.id("<|im_start|>").unwrap();
    let forced = GenerationConfig {
        sampler: SamplerConfig {
            logit_bias: vec![(id, 1e6)],
            ..SamplerConfig::greedy()
        },
        ..config(Some(2))
    };
    for (show_control, expected) in [(false, ""), (true, "<|im_start|>")] {
        let (mut s, cancel) = (sequence(64, 512), CancelFlag::new());
        s.prefill(&PROMPT, &cancel, &mut |_| ()).unwrap();
        let text = TextConfig {
            show_control,
            ..TextConfig::default()
        };
        let mut generator = Generator::new(&TOKENIZER, &s, &forced, &text).unwrap();
        let Step::Piece(piece) = generator.step(&mut s, &cancel).unwrap() else {
            panic!("the first step gives a token");
        };
        assert_eq!((piece.token, piece.text.as_str()), (id, expected));
    }
}
