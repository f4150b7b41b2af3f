//! How many tokens of which prompt go into a step.
//!
//! Requests that generate have one token in every step. Beside them there is room for pieces
//! of prompts, and for what a grammar forces: as much as keeps the step within its time, which
//! is learnt from the steps before, so it needs no knowledge of model and machine. All get an
//! equal share of the room, so a short prompt is not kept waiting by a long one; what one does
//! not need, others take; and where there is not enough for all, those come first that have
//! gone without for the longest. (Shortest first would be sooner done with most of them, and
//! never with a long one while short ones come.)
//!
//! Where nobody generates, nobody waits for a token, and long passes cost the least by far. A
//! request alone has all there is. Several prompts do too, as long as nobody leaves: a pass that
//! is longer than a step may take is given up for one that leaves, the next one is short and is
//! not, and from there on they grow again.

use std::time::Duration;

/// The least that a prompt goes on by in a step, however slow the model: of fewer tokens each
/// costs so much more that nobody would gain.
const LEAST_PIECE: usize = 16;
/// The room of the first step.
const FIRST_ROOM: usize = 64;

/// Learns how much room there is in a step beside the tokens of those that generate.
#[derive(Debug)]
pub(super) struct Budget {
    /// Tokens that fit into the time of a step.
    room: f64,
    /// Tokens of a step of several prompts and nobody who generates.
    long: usize,
    batch_len: usize,
    step_time: Duration,
}

impl Budget {
    pub(super) fn new(batch_len: usize, step_time: Duration) -> Self {
        Self {
            room: FIRST_ROOM.min(batch_len) as f64,
            long: batch_len,
            batch_len,
            step_time,
        }
    }

    /// Returns the tokens that there is room for in the next step of `n_slots` requests, beside
    /// one of each of the `n_generating` that generate.
    pub(super) fn room(&self, n_slots: usize, n_generating: usize) -> usize {
        let left = self.batch_len.saturating_sub(n_generating).max(1);
        match (n_slots, n_generating) {
            (1, _) => left,
            (_, 0) => left.min(self.long),
            _ => left.min(self.in_time()),
        }
    }

    /// Returns the tokens that fit into the time of a step.
    pub(super) const fn in_time(&self) -> usize {
        self.room as usize
    }

    /// Takes in that a step was given up.
    pub(super) const fn stopped(&mut self) {
        self.long = self.in_time();
    }

    /// Takes in how long a step took that had `n` tokens beside those that were generated.
    pub(super) fn learn(&mut self, n: usize, took: Duration) {
        self.long = (2 * self.long).min(self.batch_len);
        let fits = n as f64 * self.step_time.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let room = if n > self.in_time() {
            // In a long pass a token costs less, so no more than this will fit.
            self.room.min(fits)
        } else if n == self.in_time() || took >= self.step_time {
            fits.clamp(0.5 * self.room, 2.0 * self.room)
        } else {
            // A step that was not full says little of what a full one takes.
            self.room
        };
        let least = LEAST_PIECE.min(self.batch_len) as f64;
        self.room = room.clamp(least, self.batch_len as f64);
    }
}

/// Divides `room` among those that have `pending` tokens left each; where it is not enough, the
/// first come first. Returns how many tokens of each go into the step.
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
        let before = budget.room(2, 1);
        budget.learn(before, Duration::from_millis(400));
        assert_eq!(budget.room(2, 1), before / 2);
        for _ in 0..20 {
            budget.learn(budget.room(2, 1), Duration::from_millis(1));
        }
        assert_eq!(budget.room(13, 12), 500);
        for _ in 0..20 {
            budget.learn(budget.room(2, 1), Duration::from_secs(9));
        }
        assert_eq!(budget.room(2, 1), LEAST_PIECE);
        assert_eq!([budget.room(1, 0), budget.room(1, 1)], [512, 511]);
    }

    #[test]
    fn a_long_pass_says_at_once_how_much_is_too_much() {
        let mut budget = Budget::new(256, Duration::from_millis(200));
        budget.learn(256, Duration::from_millis(40));
        assert_eq!(budget.room(2, 1), FIRST_ROOM);
        budget.learn(256, Duration::from_millis(2560));
        assert_eq!(budget.room(2, 1), 20);
    }

    #[test]
    fn passes_of_prompts_are_long_until_somebody_leaves_and_grow_again() {
        let mut budget = Budget::new(256, Duration::from_millis(200));
        assert_eq!(budget.room(3, 0), 256);
        budget.stopped();
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(budget.room(3, 0));
            budget.learn(budget.room(3, 0), Duration::from_millis(200));
        }
        assert_eq!(rooms, [64, 128, 256, 256]);
    }
}
