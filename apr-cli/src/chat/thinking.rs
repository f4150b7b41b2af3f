//! Parts what a model thinks from what it says.
//!
//! A thought stands between `<think>` and `</think>` at the beginning of a reply; some
//! templates open it themselves. A tag may come in pieces, so text that could begin one is
//! held back. Later in the reply the same letters are just text.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Thought(String),
    Answer(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing but white space so far.
    Start,
    Thought,
    /// Behind a thought, nothing but white space so far; it is no part of the answer.
    Gap,
    Answer,
}

/// The state of one reply.
#[derive(Debug)]
pub(super) struct ThinkingSplit {
    place: Place,
    held: String,
}

impl ThinkingSplit {
    /// Begins a reply to a rendered prompt.
    pub(super) fn new(prompt: &str) -> Self {
        let is_open = prompt.trim_end().ends_with(OPEN);
        let place = if is_open {
            Place::Thought
        } else {
            Place::Start
        };
        Self {
            place,
            held: String::new(),
        }
    }

    /// Takes text and returns what is now certain.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while let Some(part) = self.take() {
            parts.extend(part.is_shown().then_some(part));
        }
        parts
    }

    /// Ends the reply and returns what was held back.
    pub(super) fn finish(&mut self) -> Option<Part> {
        let rest = std::mem::take(&mut self.held);
        let part = match self.place {
            Place::Thought => Part::Thought(rest),
            Place::Gap => Part::Answer(rest.trim_start().to_owned()),
            Place::Start | Place::Answer => Part::Answer(rest),
        };
        part.is_shown().then_some(part)
    }

    /// Takes one part from what is held; `None` if more text must come first.
    fn take(&mut self) -> Option<Part> {
        match self.place {
            Place::Start => self.take_start(),
            Place::Thought => self.take_thought(),
            Place::Gap => {
                self.held
                    .drain(..self.held.len() - self.held.trim_start().len());
                self.take_answer()
            }
            Place::Answer => self.take_answer(),
        }
    }

    fn take_start(&mut self) -> Option<Part> {
        let start = self.held.trim_start();
        if let Some(thought) = start.strip_prefix(OPEN) {
            self.held = thought.to_owned();
            self.place = Place::Thought;
            return Some(Part::Thought(String::new()));
        }
        if OPEN.starts_with(start) {
            None
        } else {
            self.take_answer()
        }
    }

    fn take_thought(&mut self) -> Option<Part> {
        if let Some(end) = self.held.find(CLOSE) {
            let answer = self.held.split_off(end + CLOSE.len());
            let mut thought = std::mem::replace(&mut self.held, answer);
            thought.truncate(end);
            self.place = Place::Gap;
            return Some(Part::Thought(thought));
        }
        let n_held = (1..CLOSE.len())
            .rev()
            .find(|&n| self.held.ends_with(&CLOSE[..n]));
        let rest = self
            .held
            .split_off(self.held.len() - n_held.unwrap_or_default());
        let thought = std::mem::replace(&mut self.held, rest);
        (!thought.is_empty()).then_some(Part::Thought(thought))
    }

    fn take_answer(&mut self) -> Option<Part> {
        if self.held.is_empty() {
            return None;
        }
        self.place = Place::Answer;
        Some(Part::Answer(std::mem::take(&mut self.held)))
    }
}

impl Part {
    const fn is_shown(&self) -> bool {
        let (Self::Thought(text) | Self::Answer(text)) = self;
        !text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thought and answer of a reply that comes in pieces of `n` bytes.
    fn split(prompt: &str, reply: &str, n: usize) -> (String, String) {
        let mut split = ThinkingSplit::new(prompt);
        let (mut thought, mut answer) = (String::new(), String::new());
        let pieces = reply
            .as_bytes()
            .chunks(n)
            .map(|piece| std::str::from_utf8(piece).unwrap());
        let parts: Vec<Part> = pieces.flat_map(|piece| split.push(piece)).collect();
        for part in parts.into_iter().chain(split.finish()) {
            match part {
                Part::Thought(text) => thought.push_str(&text),
                Part::Answer(text) => answer.push_str(&text),
            }
        }
        (thought, answer)
    }

    #[test]
    fn a_reply_is_parted_however_it_is_cut() {
        let cases = [
            ("", "Hello", "", "Hello"),
            (
                "",
                "<think>\nhm </thin\n</think>\n\nHi",
                "\nhm </thin\n",
                "Hi",
            ),
            ("<think>\n", "so</think>Yes", "so", "Yes"),
            (
                "",
                "<think></think>\n\nNo <think>x</think>",
                "",
                "No <think>x</think>",
            ),
            ("", " <thistle>", "", " <thistle>"),
            ("", "<think>unfinished</", "unfinished</", ""),
            ("", "<thi", "", "<thi"),
        ];
        for (prompt, reply, thought, answer) in cases {
            for n in 1..=reply.len() {
                let expected = (thought.to_owned(), answer.to_owned());
                assert_eq!(
                    split(prompt, reply, n),
                    expected,
                    "{reply:?} in pieces of {n}"
                );
            }
        }
    }
}
