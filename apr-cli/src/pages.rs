//! The pages of a model file: which of them are worth waiting for.
//!
//! A file that is not in memory is read from end to end before the first pass, which is the
//! fastest way through a disk. One that is in memory needs nothing but to be mapped, and the
//! pages of weights that are never used need not even that: a short answer touches a tenth of
//! the file, and what was mapped has to be unmapped at the end.

use std::hint::black_box;

use moe_model::{LayerWeights, ModelFile, Prefetch, Weights};

use crate::{args::QuietArgs, machine, progress::Progress};

/// Places of a file at which is seen whether it is in memory: enough to notice an eighth that
/// is missing, few enough to cost nothing on a slow disk.
const N_PLACES: usize = 64;

/// What one page fault maps where the system has no huge page.
const WINDOW: usize = 64 << 10;

/// Returns whether a file is in memory but for little, as far as the system tells.
pub(crate) fn are_in_memory(file: &ModelFile) -> bool {
    // Huge pages are for files that stay: of one that does not fit, each expert would be read
    // with its neighbours.
    if !fits(file) {
        return false;
    }
    file.prefetch(Prefetch::Huge, |_| ());
    let before = machine::major_faults();
    file.touch(N_PLACES);
    let read = machine::major_faults().zip(before);
    read.is_some_and(|(after, before)| after - before <= N_PLACES as u64 / 8)
}

/// Reads a file into memory and maps all of it.
pub(crate) fn bring_in(file: &ModelFile, quiet: QuietArgs) {
    // Reading what does not fit would only push out what was read before.
    let how = if fits(file) {
        Prefetch::Populate
    } else {
        Prefetch::ReadAhead
    };
    let progress = Progress::bytes("loading", file.n_bytes(), quiet.quiet);
    file.prefetch(how, |n_bytes| progress.set(n_bytes));
}

/// Maps, in the order in which a pass needs them, the weights that every token needs, as long
/// as there is something to wait for.
pub(crate) fn map_while(is_waiting: &dyn Fn() -> bool, weights: &Weights<'_>) {
    let of_layers = weights.layers.iter().flat_map(LayerWeights::dense);
    let all = of_layers.chain([&weights.output]);
    let pages = all.flat_map(|weights| weights.bytes().iter().step_by(WINDOW));
    for byte in pages.take_while(|_| is_waiting()) {
        black_box(*byte);
    }
}

fn fits(file: &ModelFile) -> bool {
    machine::memory().is_none_or(|memory| file.n_bytes() < memory.available)
}

#[cfg(test)]
mod tests {
    use moe_model::Model;

    use super::*;
    use crate::builtin;

    #[test]
    fn mapping_ends_when_there_is_nothing_left_to_wait_for() {
        let file = builtin::file();
        let gguf = file.gguf().unwrap();
        let model = Model::from_gguf(&gguf).unwrap();
        for limit in [0, 3, usize::MAX] {
            let asked = std::cell::Cell::new(0);
            let is_waiting = || asked.replace(asked.get() + 1) < limit;
            map_while(&is_waiting, model.weights());
            let n_pages = asked.get();
            assert!(n_pages <= limit.saturating_add(1), "{n_pages} of {limit}");
            assert!(limit < usize::MAX || n_pages > model.config().n_layer);
        }
    }
}
