//! Decoding gives back what was encoded, and nothing but a template makes control tokens.

use proptest::prelude::*;
use tokenizer::{DecodeStream, SpecialTokens, Tokenizer};

thread_local! {
    static BARD: Tokenizer = Tokenizer::from_json(include_bytes!("data/bard__tokenizer.json"))
        .expect("the vocabulary is sound");
}

/// Texts with everything that steers tokenization.
const TEXTS: &str = r"([a-zA-Z ']{1,8}|[0-9]{1,3}|[ \t\r\n]{1,4}|<\|im_end\|>|<\|im_|<think>|</tool_call>|東京|🙂|[\u{0}-\u{ff}]|\PC){0,24}";

#[test]
fn control_tokens_are_recognised_when_asked_for() {
    BARD.with(|bard| {
        let end = bard.id("<|im_end|>").unwrap();
        assert!(bard.is_control(end));
        assert_eq!(bard.encode("<|im_end|>", SpecialTokens::Recognise), [end]);
        let text = bard.encode("<|im_end|>", SpecialTokens::AsText);
        assert!(text.len() > 1 && !text.contains(&end));
        assert_eq!(bard.decode(&text).unwrap(), b"<|im_end|>");
    });
}

#[test]
fn added_tokens_without_control_are_always_recognised() {
    BARD.with(|bard| {
        let think = bard.id("<think>").unwrap();
        assert!(!bard.is_control(think));
        assert_eq!(bard.encode("<think>", SpecialTokens::AsText), [think]);
    });
}

#[test]
fn an_id_beyond_the_vocabulary_is_an_error_that_says_where() {
    BARD.with(|bard| {
        let error = bard.decode(&[0, 1, 2048]).unwrap_err().to_string();
        assert_eq!(
            error,
            "id 2048 at position 2: the vocabulary has 2048 tokens"
        );
        assert!(bard.decode_lossy(&[u32::MAX]).is_err());
        assert_eq!(bard.token_bytes(u32::MAX), None);
        assert_eq!(bard.token_text(u32::MAX), None);
        assert!(!bard.is_control(u32::MAX));
    });
}

#[test]
fn names_and_ids_belong_together() {
    BARD.with(|bard| {
        for id in (0..).take(bard.n_vocab()) {
            assert_eq!(bard.id(bard.token_text(id).unwrap()), Some(id));
        }
        assert_eq!(bard.id("no such token"), None);
    });
}

#[test]
fn ends_of_generation_are_found_by_name() {
    BARD.with(|bard| {
        let ids = ["<|endoftext|>", "<|im_end|>"].map(|name| bard.id(name).unwrap());
        assert_eq!(bard.end_of_generation(), ids);
        assert_eq!(bard.eot(), Some(ids[1]));
    });
}

#[test]
fn half_a_character_decodes_to_a_replacement() {
    BARD.with(|bard| {
        let ids = bard.encode("🙂", SpecialTokens::AsText);
        assert!(ids.len() > 1);
        assert_eq!(bard.decode_lossy(&ids).unwrap(), "🙂");
        assert_eq!(bard.decode_lossy(&ids[..1]).unwrap(), "\u{fffd}");
    });
}

proptest! {
    #[test]
    fn decoding_inverts_encoding_of_normalized_text(text in TEXTS) {
        BARD.with(|bard| {
            for special in [SpecialTokens::AsText, SpecialTokens::Recognise] {
                let ids = bard.encode(&text, special);
                let once = bard.decode_lossy(&ids).unwrap();
                // Text in normal form C comes back as it is, any other in normal form C.
                prop_assert_eq!(bard.encode(&once, special), ids);
                if text.chars().all(|c| c < '\u{300}') {
                    prop_assert_eq!(&once, &text);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn plain_text_never_makes_a_control_token(text in TEXTS) {
        BARD.with(|bard| {
            let ids = bard.encode(&text, SpecialTokens::AsText);
            prop_assert!(!ids.iter().any(|&id| bard.is_control(id)), "{:?}", ids);
            Ok(())
        })?;
    }

    #[test]
    fn streamed_tokens_equal_the_whole_text(text in TEXTS) {
        BARD.with(|bard| {
            let ids = bard.encode(&text, SpecialTokens::Recognise);
            let mut stream = DecodeStream::new();
            let mut streamed = String::new();
            for &id in &ids {
                let piece = stream.push(bard.token_bytes(id).unwrap());
                let is_broken = piece.contains(char::REPLACEMENT_CHARACTER);
                prop_assert!(!is_broken || text.contains(char::REPLACEMENT_CHARACTER));
                streamed += &piece;
            }
            streamed += &stream.finish();
            prop_assert_eq!(streamed, bard.decode_lossy(&ids).unwrap());
            Ok(())
        })?;
    }

    #[test]
    fn any_ids_decode_or_name_the_first_wrong_one(ids in proptest::collection::vec(0_u32..2100, 0..20)) {
        BARD.with(|bard| {
            let wrong = ids.iter().position(|&id| id >= 2048);
            prop_assert_eq!(bard.decode(&ids).is_ok(), wrong.is_none());
            Ok(())
        })?;
    }
}
