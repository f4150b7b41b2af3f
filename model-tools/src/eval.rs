//! How good a model is at questions whose answers are known, and at foretelling texts.
//!
//! [`Item`]s are lines of JSON. A [`Form`] says how they become token ids, [`Request::score`]
//! how likely those are, an [`Outcome`] what that says about the item, and [`Tally`] what all
//! outcomes say about the model.
//!
//! Requests and measures are those of lm-evaluation-harness, so that figures may
//! be set beside its own: where a context ends and a continuation begins (`_encode_pair` in
//! `lm_eval/api/model.py`), what is counted as right (`process_results` in
//! `lm_eval/api/task.py`), how that is summed up (`lm_eval/api/metrics.py`). Where the harness
//! cuts what does not fit, here is an error.

mod item;
mod outcome;
mod request;
mod tally;

pub use item::{Item, Question};
pub use outcome::{Outcome, Picked};
pub use request::{Form, Request, Scored};
pub use tally::{Kind, Metric, Row, Tally};

/// Whether Python's `str.isspace` and `\s` take a character for white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
