//! A budget for thinking: when it is used up, the thought is brought to an end and the answer
//! begins. Every thought has one, since an answer has to have room where its length is limited.
//!
//! A thought stands between `<think>` and `</think>` at the beginning of a reply; templates
//! may open it themselves. The tags are looked for in the text, since not every vocabulary
//! has tokens for them. At the end of the budget the guide forces a closing sentence, the one
//! that Qwen3 was trained with, and the tag.

use generate::{GenerateError, Guide};

const OPEN: &[u8] = b"<think>";
const CLOSE: &[u8] = b"</think>";

/// What ends a thought that has used up its budget, and what does so where there is no room.
pub(crate) const FAREWELLS: [&str; 2] = [
    "\n\nConsidering the limited time by the user, I have to give the solution based on the \
     thinking directly now.\n</think>\n\n",
    "\n</think>\n\n",
];

/// The most tokens that are kept free for an answer.
const MOST_ROOM: usize = 1024;

/// Ends a thought after a number of tokens.
#[derive(Clone, Debug)]
pub(crate) struct ThinkingBudget {
    place: Place,
    n_left: usize,
    farewell: Vec<u32>,
    /// The last bytes of the text, enough to find a tag in.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing but white space and the beginning of a tag so far.
    Start,
    Thought,
    /// The farewell is on its way, and so many tokens of it are to come.
    Farewell(usize),
    Answer,
}

impl ThinkingBudget {
    /// Begins a reply. `budget` tokens may be thoughts, and fewer if of the `n_most` tokens of
    /// the reply there would not be enough left for an answer. Of the farewells, the last is
    /// taken if none leaves room for one.
    pub(crate) fn new(
        budget: usize,
        is_open: bool,
        n_most: usize,
        farewells: impl IntoIterator<Item = Vec<u32>>,
    ) -> Self {
        let answer = (n_most / 4).clamp(1, MOST_ROOM);
        let mut farewell = Vec::new();
        for ids in farewells {
            farewell = ids;
            if farewell.len() + answer <= n_most {
                break;
            }
        }
        let room = answer + farewell.len();
        Self {
            place: if is_open {
                Place::Thought
            } else {
                Place::Start
            },
            n_left: budget.min(n_most.saturating_sub(room)),
            farewell,
            tail: Vec::new(),
        }
    }

    /// Follows the text up to a tag.
    fn read(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        match self.place {
            Place::Start => {
                let text = self.tail.trim_ascii_start();
                if text.starts_with(OPEN) {
                    self.place = Place::Thought;
                } else if !OPEN.starts_with(text) {
                    self.place = Place::Answer;
                }
            }
            Place::Thought => {
                if self.tail.windows(CLOSE.len()).any(|window| window == CLOSE) {
                    self.place = Place::Answer;
                }
                let n_old = self.tail.len().saturating_sub(CLOSE.len() - 1);
                self.tail.drain(..n_old);
            }
            Place::Farewell(_) | Place::Answer => self.tail.clear(),
        }
    }
}

impl Guide for ThinkingBudget {
    fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        if self.place != Place::Thought || self.n_left > 0 {
            return Ok(Vec::new());
        }
        self.place = match self.farewell.len() {
            0 => Place::Answer,
            n => Place::Farewell(n),
        };
        Ok(self.farewell.clone())
    }

    fn mask(&mut self, _logits: &mut [f32]) -> Result<(), GenerateError> {
        Ok(())
    }

    fn accept(&mut self, _token: u32, bytes: &[u8]) -> Result<(), GenerateError> {
        match self.place {
            Place::Thought => self.n_left = self.n_left.saturating_sub(1),
            Place::Farewell(1) => self.place = Place::Answer,
            Place::Farewell(n) => self.place = Place::Farewell(n - 1),
            Place::Start | Place::Answer => {}
        }
        self.read(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAREWELL_IDS: [u32; 2] = [70, 71];

    fn budget(n: usize, is_open: bool) -> ThinkingBudget {
        ThinkingBudget::new(n, is_open, usize::MAX, [FAREWELL_IDS.to_vec()])
    }

    fn say(guide: &mut ThinkingBudget, pieces: &[&str]) {
        for piece in pieces {
            assert!(guide.forced().unwrap().is_empty(), "before {piece:?}");
            guide.accept(0, piece.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_thought_ends_with_its_budget_and_only_once() {
        let mut guide = budget(3, true);
        say(&mut guide, &["a", "b", "c"]);
        assert_eq!(guide.forced().unwrap(), FAREWELL_IDS);
        guide.accept(70, b"</thi").unwrap();
        guide.accept(71, b"nk>").unwrap();
        say(&mut guide, &["x"; 50]);
    }

    #[test]
    fn a_thought_that_ends_itself_is_left_alone() {
        let mut guide = budget(4, false);
        say(
            &mut guide,
            &["\n", "<th", "ink>", "a", "</th", "ink>", "x", "y", "z"],
        );
        let mut open = budget(2, true);
        say(&mut open, &["a</think>", "<think>", "x", "y", "z"]);
    }

    #[test]
    fn an_answer_without_a_thought_has_no_budget() {
        let mut guide = budget(0, false);
        say(&mut guide, &["<", "b>", "<think>", "x", "y"]);
    }

    #[test]
    fn no_budget_at_all_ends_the_thought_where_it_begins() {
        assert_eq!(budget(0, true).forced().unwrap(), FAREWELL_IDS);
    }

    #[test]
    fn an_answer_always_has_room() {
        let mut guide = ThinkingBudget::new(1000, true, 20, [FAREWELL_IDS.to_vec()]);
        say(&mut guide, &["a"; 13]);
        assert_eq!(guide.forced().unwrap().len(), 2, "13 + 2 leaves 5 of 20");
        let mut short = ThinkingBudget::new(9, true, 8, [vec![1; 7], vec![2; 3]]);
        say(&mut short, &["a"; 3]);
        assert_eq!(
            short.forced().unwrap(),
            [2; 3],
            "the first would leave 1 of 8"
        );
        let none = ThinkingBudget::new(9, true, 2, [vec![1; 40], vec![2; 3]]);
        assert_eq!((none.n_left, none.farewell.len()), (0, 3));
    }
}
