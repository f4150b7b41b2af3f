//! Turns the bytes of tokens into text as they come.
//!
//! A character may lie in several tokens. Bytes that begin a character are held back until
//! the character is whole; bytes that can never become one are replaced by U+FFFD at once,
//! exactly where [`String::from_utf8_lossy`] would. So the pieces together equal the lossy
//! text of all bytes, however they are divided.

/// Collects bytes and hands out complete characters.
///
/// ```
/// let mut stream = tokenizer::DecodeStream::new();
/// assert_eq!(stream.push(b"caf\xc3"), "caf");
/// assert_eq!(stream.push(b"\xa9"), "é");
/// assert_eq!(stream.finish(), "");
/// ```
#[derive(Clone, Debug, Default)]
pub struct DecodeStream {
    /// The beginning of a character: at most three bytes between two calls.
    held: Vec<u8>,
}

impl DecodeStream {
    /// Starts with nothing held back.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes of the next token and returns the text that is now complete.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut unfinished = 0;
        let mut chunks = self.held.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let broken = chunk.invalid();
            if broken.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && may_continue(broken) {
                unfinished = broken.len();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.held.drain(..self.held.len() - unfinished);
        text
    }

    /// Returns U+FFFD if the text ended within a character, and starts anew.
    #[must_use]
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Whether more bytes could make a character of the broken end of a text.
fn may_continue(broken: &[u8]) -> bool {
    matches!(std::str::from_utf8(broken), Err(error) if error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pushes `bytes` cut at `cuts` and returns every piece.
    fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut stream = DecodeStream::new();
        let mut pieces = Vec::new();
        let mut start = 0;
        for &cut in cuts {
            let cut = cut.clamp(start, bytes.len());
            pieces.push(stream.push(&bytes[start..cut]));
            start = cut;
        }
        pieces.push(stream.push(&bytes[start..]));
        pieces.push(stream.finish());
        pieces
    }

    #[test]
    fn every_way_to_cut_three_characters_gives_them_whole() {
        let text = "é東🙂";
        let bytes = text.as_bytes();
        for mask in 0_u32..1 << (bytes.len() - 1) {
            let cuts: Vec<usize> = (1..bytes.len())
                .filter(|cut| mask >> (cut - 1) & 1 == 1)
                .collect();
            let pieces = pieces(bytes, &cuts);
            assert_eq!(pieces.concat(), text, "{cuts:?}");
            assert!(!pieces.concat().contains('\u{fffd}'), "{cuts:?}");
        }
    }

    #[test]
    fn an_unfinished_end_is_replaced_once() {
        assert_eq!(pieces(b"a\xf0\x9f\x99", &[2, 3]).concat(), "a\u{fffd}");
        let mut stream = DecodeStream::new();
        assert_eq!(stream.push(b"\xc3"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
        assert_eq!(stream.push(b"b"), "b");
    }

    #[test]
    fn bytes_that_begin_nothing_do_not_wait() {
        let mut stream = DecodeStream::new();
        assert_eq!(stream.push(b"\xff"), "\u{fffd}");
        assert_eq!(stream.push(b"\xe6\x9d"), "");
        assert_eq!(stream.push(b"x"), "\u{fffd}x");
    }

    proptest! {
        #[test]
        fn text_comes_whole_however_it_is_cut(
            text in any::<String>(),
            cuts in proptest::collection::vec(0_usize..64, 0..12),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            prop_assert_eq!(pieces(text.as_bytes(), &cuts).concat(), text);
        }

        #[test]
        fn any_bytes_equal_their_lossy_text(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            cuts in proptest::collection::vec(0_usize..64, 0..12),
        ) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            prop_assert_eq!(pieces(&bytes, &cuts).concat(), String::from_utf8_lossy(&bytes));
        }
    }
}
