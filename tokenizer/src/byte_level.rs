//! The byte-level alphabet: every byte is one printable character.
//!
//! GPT-2's vocabularies spell tokens with 256 characters so that no token holds a space or a
//! control character. Bytes that are printable in Latin-1 stand for themselves; the other 68
//! are counted up from U+0100 in ascending order (a space becomes `Ġ`, a newline `Ċ`).

use std::sync::LazyLock;

/// The first code point that is no character of the alphabet.
const END: u32 = 0x100 + 68;

/// The character of each byte.
static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut shifted = (0x100..END).filter_map(char::from_u32);
    std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("there are 256 bytes");
        if stands_for_itself(byte) {
            char::from(byte)
        } else {
            shifted.next().expect("68 bytes are not printable")
        }
    })
});

/// The byte of each character below [`END`].
static BYTES: LazyLock<[Option<u8>; END as usize]> = LazyLock::new(|| {
    let mut bytes = [None; END as usize];
    for (byte, &c) in (0..=u8::MAX).zip(CHARS.iter()) {
        bytes[c as usize] = Some(byte);
    }
    bytes
});

/// Returns the character that stands for a byte.
pub(crate) fn char_of(byte: u8) -> char {
    CHARS[usize::from(byte)]
}

/// Returns the byte that a character stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).copied().flatten()
}

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character_and_back() {
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
    }

    #[test]
    fn the_well_known_spellings() {
        let spelling: String = " \n\té".bytes().map(char_of).collect();
        assert_eq!(spelling, "ĠĊĉÃ©");
    }

    #[test]
    fn other_characters_stand_for_nothing() {
        for c in [' ', '\n', '\u{ad}', '\u{144}', '東', '\u{10ffff}'] {
            assert_eq!(byte_of(c), None, "{c:?}");
        }
    }
}
