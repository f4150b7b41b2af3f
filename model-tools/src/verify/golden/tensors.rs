//! Hashes of tensors, and what can be said of a tensor from them when it has changed.
//!
//! A hash of the whole says that something differs. Hashes of the experts say which of them,
//! and whether they have only changed places; the sum of the rows' hashes says whether the
//! rows have only changed theirs, which is what other RoPE pairings do to queries and keys.

use rayon::prelude::*;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{GoldenTensor, digits};
use crate::{
    ToolError,
    threads::threads,
    verify::{Progress, VerifyOptions, tensors::FileTensor},
};

/// Digits of an expert's hash.
const EXPERT_DIGITS: usize = 8;

/// Experts that are named one by one.
const MAX_NAMED: usize = 8;

/// Hashes all tensors on all threads.
pub(super) fn hash_all(
    tensors: &[FileTensor<'_>],
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<GoldenTensor>, ToolError> {
    let n_threads = options.n_threads.get();
    let threads = threads(options.n_threads)?;
    let total = tensors.iter().map(|tensor| tensor.data.len() as u64).sum();
    let (mut all, mut done) = (Vec::new(), 0);
    for some in tensors.chunks(2 * n_threads) {
        progress.tell(done, total)?;
        let hashes = threads.install(|| some.par_iter().map(hash).collect::<Vec<_>>());
        all.extend(hashes);
        done += some
            .iter()
            .map(|tensor| tensor.data.len() as u64)
            .sum::<u64>();
    }
    Ok(all)
}

/// Hashes a tensor.
fn hash(tensor: &FileTensor<'_>) -> GoldenTensor {
    let n_matrices = tensor.n_matrices();
    let pieces = |n: usize| {
        let len = tensor.data.len().checked_div(n).unwrap_or_default();
        tensor.data.chunks(len.max(1))
    };
    let rows = pieces(n_matrices.saturating_mul(tensor.n_rows()));
    let rows = rows.map(xxh3_64).fold(0u64, u64::wrapping_add);
    let mut experts = String::new();
    if n_matrices > 1 {
        let hashes = pieces(n_matrices).map(|expert| format!("{:08x}", xxh3_64(expert) as u32));
        experts.extend(hashes);
    }
    GoldenTensor {
        name: tensor.name.to_owned(),
        ty: tensor.ty_name.clone(),
        shape: tensor.shape.clone(),
        xxh3: digits(xxh3_128(tensor.data)),
        rows: format!("{rows:016x}"),
        experts,
    }
}

/// Says in what a tensor differs from the recorded one, if it does.
pub(super) fn difference(
    found: &GoldenTensor,
    recorded: &GoldenTensor,
    data: &[u8],
) -> Option<String> {
    if found == recorded {
        return None;
    }
    if (&found.ty, &found.shape) != (&recorded.ty, &recorded.shape) {
        return Some(format!(
            "is {} {:?}, recorded as {} {:?}",
            found.ty, found.shape, recorded.ty, recorded.shape
        ));
    }
    let experts = changed_experts(&found.experts, &recorded.experts);
    if !experts.is_empty() {
        return Some(experts);
    }
    if found.shape.len() > 1 && found.rows == recorded.rows {
        let is_rotated = ["attn_q.", "attn_k.", "q_proj", "k_proj"];
        let pairing = if is_rotated.iter().any(|name| found.name.contains(name)) {
            ", as for another RoPE pairing"
        } else {
            ""
        };
        return Some(format!("has the recorded rows in another order{pairing}"));
    }
    let one = 1f32.to_le_bytes();
    let are_ones = found.ty == "F32" && data.chunks(4).all(|value| value == one);
    let ones = if are_ones { ": all are one" } else { "" };
    Some(format!("has other weights than the recorded{ones}"))
}

/// Names the experts that differ, and whether they have changed places.
fn changed_experts(found: &str, recorded: &str) -> String {
    let split = |text: &str| -> Vec<String> {
        let digits: Vec<char> = text.chars().collect();
        digits
            .chunks(EXPERT_DIGITS)
            .map(|hash| hash.iter().collect())
            .collect()
    };
    let (found, recorded) = (split(found), split(recorded));
    if found.len() != recorded.len() {
        return String::new();
    }
    let pairs = found.iter().zip(&recorded).enumerate();
    let changed: Vec<usize> = pairs
        .filter(|(_, (a, b))| a != b)
        .map(|(expert, _)| expert)
        .collect();
    let sorted = |hashes: &[String]| {
        let mut of_changed: Vec<String> = changed.iter().map(|&e| hashes[e].clone()).collect();
        of_changed.sort_unstable();
        of_changed
    };
    let names: Vec<String> = changed
        .iter()
        .take(MAX_NAMED)
        .map(usize::to_string)
        .collect();
    let mut names = names.join(", ");
    if changed.len() > MAX_NAMED {
        names.push_str(&format!(" and {} more", changed.len() - MAX_NAMED));
    }
    match changed.len() {
        0 => String::new(),
        1 => format!("expert {names} has other weights than the recorded"),
        n if sorted(&found) == sorted(&recorded) => {
            format!("{n} experts have changed places: {names}")
        }
        n => format!("{n} experts have other weights than the recorded: {names}"),
    }
}

#[cfg(test)]
mod tests {
    use quant_kernels::QuantType;

    use super::*;

    fn tensor(data: &[u8], shape: &[u64]) -> GoldenTensor {
        hash(&FileTensor {
            name: "blk.0.attn_q.weight",
            ty_name: "F32".to_owned(),
            ty: Some(QuantType::F32),
            shape: shape.to_vec(),
            data,
        })
    }

    #[test]
    fn experts_that_differ_and_that_changed_places_are_told_apart() {
        let (shape, recorded) = ([4, 2, 1], b"aaaabbbbccccddddeeeeffffgggghhhh");
        let difference =
            |data: &[u8; 32]| difference(&tensor(data, &shape), &tensor(recorded, &shape), data);
        assert_eq!(difference(recorded), None);
        assert_eq!(
            difference(b"aaaabbbbccccddddeeeeffffgggghhhi").unwrap(),
            "expert 3 has other weights than the recorded"
        );
        assert_eq!(
            difference(b"eeeeffffccccddddaaaabbbbgggghhhh").unwrap(),
            "2 experts have changed places: 0, 2"
        );
        assert_eq!(
            difference(b"eeeeffffccccddddaaaabbbbgggghhhi").unwrap(),
            "3 experts have other weights than the recorded: 0, 2, 3"
        );
    }

    #[test]
    fn rows_in_another_order_are_recognised() {
        let recorded = tensor(b"aaaabbbbccccdddd", &[4, 1]);
        let data = b"aaaaccccbbbbdddd";
        assert_eq!(
            difference(&tensor(data, &[4, 1]), &recorded, data).unwrap(),
            "has the recorded rows in another order, as for another RoPE pairing"
        );
        let data = b"aaaaccccbbbbbbbb";
        assert_eq!(
            difference(&tensor(data, &[4, 1]), &recorded, data).unwrap(),
            "has other weights than the recorded"
        );
    }

    #[test]
    fn other_shapes_and_ones_are_said() {
        let recorded = tensor(b"aaaabbbb", &[2]);
        let ones = [1f32.to_le_bytes(), 1f32.to_le_bytes()].concat();
        let text = difference(&tensor(&ones, &[2]), &recorded, &ones).unwrap();
        assert_eq!(text, "has other weights than the recorded: all are one");
        let text = difference(&tensor(b"aaaa", &[1]), &recorded, b"aaaa").unwrap();
        assert_eq!(text, "is F32 [1], recorded as F32 [2]");
    }
}
