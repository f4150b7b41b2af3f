//! Every prefix and every single changed byte of a valid file.

use crate::{raw_file::RawFile, read_all};

#[test]
fn every_prefix_is_refused_without_a_panic() {
    let file = RawFile::sample().bytes();
    for len in 0..file.len() {
        assert!(
            read_all(&file[..len]).is_err(),
            "the first {len} of {} bytes",
            file.len()
        );
    }
}

#[test]
fn every_changed_byte_gives_a_view_or_an_error() {
    let mut file = RawFile::sample().bytes();
    let mut n_accepted = 0_u32;
    let mut n_refused = 0_u32;
    for at in 0..file.len() {
        let original = file[at];
        for change in 1..=255 {
            file[at] = original ^ change;
            match read_all(&file) {
                Ok(()) => n_accepted += 1,
                Err(_) => n_refused += 1,
            }
        }
        file[at] = original;
    }
    // Changed text, values and data are fine; changed structure is not.
    assert!(
        n_accepted > 10_000 && n_refused > 10_000,
        "{n_accepted} {n_refused}"
    );
}
