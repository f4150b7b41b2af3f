//! Every token there and back, and the merges in their order.
//!
//! A trained vocabulary numbers its tokens as its merges made them. Where nearly all merges
//! are in that order and a few are not, those were moved: texts are cut otherwise than in
//! training, which nothing else shows. And merging the bytes of a token gives that token.

use tokenizer::{SpecialTokens, TokenKind, Tokenizer};

use super::token;
use crate::verify::StageReport;

/// Merges out of order, in a hundred, above which there was no order.
const PERCENT_MOVED: usize = 1;

pub(super) fn check(tokenizer: &Tokenizer, report: &mut StageReport) {
    let made = tokenizer.made_by_merges();
    report.figure("tokens", tokenizer.n_vocab(), "");
    report.figure("merges", made.len(), "");
    check_order(tokenizer, &made, report);

    let mut is_made = vec![false; tokenizer.n_vocab()];
    for &id in &made {
        is_made[id as usize] = true;
    }
    let mut n_control = 0_usize;
    let mut lost = Lost::default();
    for id in 0..tokenizer.n_vocab() as u32 {
        match tokenizer.kind(id) {
            Some(TokenKind::Normal) => {
                let back = tokenizer.merged(id).unwrap_or_default();
                if back != [id] && is_made[id as usize] {
                    lost.misread.push(id);
                } else if back != [id] {
                    lost.unmade.push(id);
                }
            }
            Some(kind @ (TokenKind::Control | TokenKind::UserDefined)) => {
                n_control += usize::from(kind == TokenKind::Control);
                let text = tokenizer.token_text(id).unwrap_or_default();
                if tokenizer.encode(text, SpecialTokens::Recognise) != [id] {
                    lost.unseen.push(id);
                }
            }
            Some(TokenKind::Unused) | None => {}
        }
    }
    report.figure("control tokens", n_control, "");
    lost.report(tokenizer, report);
}

/// Tokens that do not come back.
#[derive(Default)]
struct Lost {
    /// A merge makes them, and yet their bytes become others.
    misread: Vec<u32>,
    /// No merge makes them.
    unmade: Vec<u32>,
    /// Their name is not recognised.
    unseen: Vec<u32>,
}

impl Lost {
    fn report(&self, tokenizer: &Tokenizer, report: &mut StageReport) {
        let others = |ids: &[u32]| match ids.len() {
            1 => String::new(),
            n => format!("; so it is with {n} tokens"),
        };
        if let Some(&first) = self.misread.first() {
            let back = tokenizer.merged(first).unwrap_or_default();
            let back: Vec<String> = back.iter().map(|&id| token(tokenizer, id)).collect();
            let text = format!(
                "{} is encoded as {}{}",
                token(tokenizer, first),
                back.join(" "),
                others(&self.misread)
            );
            report.error(format!("token {first}"), text);
        }
        if let Some(&first) = self.unmade.first() {
            let text = format!(
                "no merge makes {}, so no text is encoded as it{}",
                token(tokenizer, first),
                others(&self.unmade)
            );
            report.warning(format!("token {first}"), text);
        }
        if let Some(&first) = self.unseen.first() {
            let text = format!(
                "{} is not encoded as itself{}",
                token(tokenizer, first),
                others(&self.unseen)
            );
            report.error(format!("token {first}"), text);
        }
    }
}

/// Finds merges that are not where the numbers of their tokens say.
fn check_order(tokenizer: &Tokenizer, made: &[u32], report: &mut StageReport) {
    // Another merge may make a token again, later.
    let mut seen = vec![false; tokenizer.n_vocab()];
    let mut first = made.iter().enumerate();
    let mut last: Option<u32> = None;
    let mut moved = Vec::new();
    for (rank, &id) in &mut first {
        if std::mem::replace(&mut seen[id as usize], true) {
            continue;
        }
        if let Some(last) = last.filter(|&last| last > id) {
            moved.push((rank, last, id));
        }
        last = Some(id);
    }
    let Some(&(rank, before, id)) = moved.first() else {
        return;
    };
    if moved.len() * 100 > made.len() * PERCENT_MOVED {
        let text = "merges are not in the order of their tokens, so theirs cannot be checked";
        report.note("merges", text);
        return;
    }
    let text = format!(
        "makes {} (token {id}) right after {} (token {before}): merges are out of order in {} \
         {}, and texts are cut otherwise than in training",
        token(tokenizer, id),
        token(tokenizer, before),
        moved.len(),
        if moved.len() == 1 { "place" } else { "places" }
    );
    report.error(format!("merge {rank}"), text);
}
