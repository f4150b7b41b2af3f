//! How many tokens of which prompt go into a step.
//!
//! Requests that generate have one token in every step. Beside them there is room for pieces
//! of prompts: as much as keeps the step within its time, which is learnt from the steps
//! before, so it needs no knowledge of model and machine. All prompts get an equal share of
//! the room, so a short one is not kept waiting by a long one; what one does not need, others
//! take.

use std::time::Duration;

/// The least that a prompt goes on by in a step, however slow the model: of fewer tokens each
/// costs so much more that nobody would gain.
const LEAST_PIECE: usize = 16;
/// The room of the first step.
const FIRST_ROOM: usize = 64;

/// Learns how much room there is for prompts in a step that others wait for.
#[derive(Debug)]
pub(super) struct Budget {
    /// Tokens of prompts that fit into the time of a step.
    room: f64,
    batch_len: usize,
    step_time: Duration,
}

impl Budget {
    pub(super) fn new(batch_len: usize, step_time: Duration) -> Self {
        Self {
            room: FIRST_ROOM.min(batch_len) as f64,
            batch_len,
            step_time,
        }
    }

    /// Returns the tokens of prompts in the next step, in which requests that generate have
    /// `n_generating` tokens.
    pub(super) fn room(&self, n_generating: usize) -> usize {
        let left = self.batch_len.saturating_sub(n_generating).max(1);
        match n_generating {
            0 => left,
            _ => (self.room as usize).min(left),
        }
    }

    /// Takes in how long a step took that had both generated tokens and `n_prompt` of prompts.
    pub(super) fn learn(&mut self, n_prompt: usize, took: Duration) {
        // A step that was not full says little of what a full one takes, unless it took longer
        // than a full one may.
        let is_full = n_prompt >= self.room as usize;
        if !is_full && took < self.step_time {
            return;
        }
        let ratio = self.step_time.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let least = LEAST_PIECE.min(self.batch_len) as f64;
        self.room = (self.room * ratio.clamp(0.5, 2.0)).clamp(least, self.batch_len as f64);
    }
}

/// Divides `room` among prompts that have `pending` tokens left each, first come first. Returns
/// how many tokens of each go into the step.
pub(super) fn divide(room: usize, pending: &[usize]) -> Vec<usize> {
    let mut pieces = vec![0; pending.len()];
    let mut left = room;
    // Each round gives everybody the same; a round in which nobody has enough ends it.
    while left > 0 {
        let open = pieces
            .iter()
            .zip(pending)
            .filter(|(n, most)| n < most)
            .count();
        if open == 0 {
            break;
        }
        let share = (left / open).max(LEAST_PIECE);
        for (n, &most) in pieces.iter_mut().zip(pending) {
            let more = share.min(most - *n).min(left);
            *n += more;
            left -= more;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_divided_equally_and_used_up() {
        assert_eq!(divide(100, &[1000, 1000]), [50, 50]);
        assert_eq!(divide(100, &[1000, 10, 1000]), [49, 10, 41]);
        assert_eq!(divide(100, &[20, 10]), [20, 10]);
        assert_eq!(divide(20, &[100, 100, 100]), [16, 4, 0]);
        assert_eq!(divide(0, &[5]), [0]);
        assert_eq!(divide(5, &[]), [0; 0]);
    }

    #[test]
    fn a_step_that_takes_too_long_leaves_less_room_and_a_short_one_more() {
        let mut budget = Budget::new(512, Duration::from_millis(200));
        let before = budget.room(1);
        budget.learn(before, Duration::from_millis(400));
        assert_eq!(budget.room(1), before / 2);
        for _ in 0..20 {
            budget.learn(budget.room(1), Duration::from_millis(1));
        }
        assert_eq!(budget.room(12), 500);
        for _ in 0..20 {
            budget.learn(budget.room(1), Duration::from_secs(9));
        }
        assert_eq!(budget.room(1), LEAST_PIECE);
        assert_eq!(budget.room(0), 512);
    }
}
