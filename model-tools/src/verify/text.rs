//! Whether tokenizer and chat template fit each other and the model.

mod conversation;
mod vocabulary;

use tokenizer::{TokenKind, Tokenizer};

use super::{Stage, StageReport, Subject, file::chain};
use crate::error::quote;

/// Asks the tokenizer for every token, and the template for conversations of all kinds.
pub(super) fn check(subject: &Subject<'_>) -> StageReport {
    let mut report = StageReport::new(Stage::Text);
    let tokenizer = match &subject.tokenizer {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            report.error("tokenizer", chain(error));
            return report;
        }
    };
    vocabulary::check(tokenizer, &mut report);
    check_size(tokenizer, subject.model.config().n_vocab, &mut report);
    check_special(tokenizer, &mut report);
    match tokenizer.chat_template() {
        Some(source) => conversation::check(tokenizer, source, &mut report),
        None => report.warning("chat template", "there is none: the model cannot chat"),
    }
    report
}

/// Every token has a row in the embedding; rows without a token are usual.
fn check_size(tokenizer: &Tokenizer, n_rows: usize, report: &mut StageReport) {
    let n_tokens = tokenizer.n_vocab();
    if n_tokens > n_rows {
        let text = format!("{n_tokens} tokens, but the embedding has {n_rows} rows");
        report.error("vocabulary", text);
    } else if n_tokens < n_rows {
        let n = n_rows - n_tokens;
        let text = format!("{n} rows of the embedding belong to no token");
        report.note("vocabulary", text);
    }
}

/// Tokens with a role are control tokens, and one of them ends a reply.
fn check_special(tokenizer: &Tokenizer, report: &mut StageReport) {
    let roles = [
        ("end of text", tokenizer.eos(), true),
        ("end of turn", tokenizer.eot(), true),
        ("beginning of text", tokenizer.bos(), false),
        ("padding", tokenizer.padding(), false),
    ];
    for (role, id, ends) in roles {
        let Some(id) = id else { continue };
        if tokenizer.kind(id) == Some(TokenKind::Control) {
            continue;
        }
        let text = format!("{} is no control token", token(tokenizer, id));
        if ends {
            report.error(role, format!("{text}: a user could write it"));
        } else {
            report.warning(role, text);
        }
    }
    let ends = tokenizer.end_of_generation();
    if ends.is_empty() {
        report.error("end of generation", "no token ends a reply");
    }
    let names: Vec<String> = ends.iter().map(|&id| token(tokenizer, id)).collect();
    report.figure("a reply ends with", names.join(" "), "");
}

/// Returns how a token is spelled.
fn token(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.token_text(id) {
        Some(text) => format!("`{}`", quote(text)),
        None => format!("token {id}"),
    }
}
