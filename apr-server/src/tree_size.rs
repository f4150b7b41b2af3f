//! What a JSON body takes in memory when it is read, told by a look at its bytes before it takes
//! anything.
//!
//! A value takes many times the bytes that it is written in: a list of a million empty lists is
//! three megabytes, and a hundred times that as a tree. So brackets and commas are counted
//! first. They stand between all values and names, and those in strings are skipped, as a
//! parser skips them; what is no JSON is no tree behind its first error.

use serde_json::Value;

/// What the tree of a body may take. A hundred thousand messages, a million token ids or any
/// text have room.
const MOST_BYTES: usize = 80 << 20;
/// A value or a name.
const VALUE_BYTES: usize = size_of::<Value>();
/// What a list or an object takes at once for its first values.
const GROUP_BYTES: usize = 320;

/// Returns whether a body can be read without taking too much.
pub(crate) fn is_bearable(body: &[u8]) -> bool {
    n_bytes(body) <= MOST_BYTES
}

/// Returns about how many bytes the tree of a body takes, beside its texts.
pub(crate) fn n_bytes(body: &[u8]) -> usize {
    let (mut n_values, mut n_groups) = (1, 0);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b',' | b':' => n_values += 1,
            b'[' | b'{' => {
                n_values += 1;
                n_groups += 1;
            }
            _ => {}
        }
    }
    n_values * VALUE_BYTES + n_groups * GROUP_BYTES
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_names_count_and_texts_do_not() {
        let n = |body: &str| n_bytes(body.as_bytes());
        assert_eq!(n("1"), VALUE_BYTES);
        assert_eq!(n("[1,2,3]"), 4 * VALUE_BYTES + GROUP_BYTES);
        assert_eq!(n(r#"{"a":1,"b":2}"#), 5 * VALUE_BYTES + GROUP_BYTES);
        assert_eq!(n(r#"",:[{\",[""#), VALUE_BYTES);
        assert_eq!(n(r#""\\",1"#), 2 * VALUE_BYTES);
        assert_eq!(n(r#""never ends,,,"#), VALUE_BYTES);
    }

    #[test]
    fn what_is_asked_in_earnest_is_bearable_and_empty_shells_are_not() {
        let many = |item: &str, n: usize| format!("[{}0]", item.repeat(n)).into_bytes();
        let message = r#"{"role":"user","content":"x"},"#;
        assert!(is_bearable(&many(message, 100_000)));
        assert!(is_bearable(&many("1,", 1_000_000)));
        assert!(is_bearable(
            format!("\"{}\"", "[".repeat(8 << 20)).as_bytes()
        ));
        assert!(!is_bearable(&many("[0],", 1 << 20)));
        assert!(!is_bearable(&many("{\"\":0},", 1 << 20)));
    }
}
