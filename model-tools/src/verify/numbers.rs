//! Whether the weights are numbers that a trained model could have.
//!
//! Wrong for sure are NaN and infinity, matrices of nothing but zeros, and pieces of weights
//! a hundred times as large as those around them: a scale is wrong where that is so, since
//! single large weights do not make a whole piece large. Odd, and worth a warning, are rows
//! of zeros, scales of zero beside integers that differ, and experts of another size than
//! their siblings. A bit that changes a weight by little cannot be seen in the numbers: for
//! that there is a hash per tensor, to be compared with another copy of the file.

mod compare;
mod scales;
mod scan;
mod spread;

use std::sync::{
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc,
};

use xxhash_rust::xxh3::Xxh3;

use self::{
    scan::{MatrixScan, Scan, Spot, scan},
    spread::PIECE_LEN,
};
use super::{
    Depth, Progress, Stage, StageReport, Subject, TensorHash, VerifyOptions,
    tensors::{FileTensor, tensors},
};
use crate::{ToolError, error::quote, threads::threads};

/// Rows of a tensor that are looked at where samples are.
const SAMPLED_ROWS: usize = 64;

/// So many times as large as the middle piece is what no training makes, in a matrix and in
/// the vector of a norm.
const WRONG: [f64; 2] = [100.0, 1e4];

/// So many times as large is odd.
const ODD: [f64; 2] = [25.0, 1e3];

/// An expert so many times as large or small as its siblings is odd.
const ODD_EXPERT: f64 = 8.0;

/// Looks at all tensors, and returns their hashes if they were read whole.
pub(super) fn check(
    subject: &Subject<'_>,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<(StageReport, Vec<TensorHash>), ToolError> {
    let tensors = tensors(&subject.contents);
    let judged = judge_all(&tensors, options, progress)?;
    let hashes = hashes(&tensors, &judged);
    let mut report = StageReport::new(Stage::Numbers);
    let (mut n_seen, mut largest) = (0, (0.0, ""));
    for (tensor, judged) in tensors.iter().zip(judged) {
        n_seen += judged.n_weights;
        if judged.largest > largest.0 {
            largest = (judged.largest, tensor.name);
        }
        report.absorb(judged.report);
    }
    report.figure("tensors", tensors.len(), "");
    report.figure("weights", n_seen, "");
    let n_weights: u64 = tensors.iter().map(FileTensor::n_weights).sum();
    if n_seen < n_weights {
        report.figure("of", n_weights, "weights");
    }
    report.figure("largest piece", largest.0, "times the middle one");
    report.figure("in", quote(largest.1), "");
    if !hashes.is_empty() {
        report.figure("fingerprint", fingerprint(&hashes), "");
        if let Some(others) = &options.compare {
            compare::compare(&hashes, others, &mut report);
        }
    }
    Ok((report, hashes))
}

/// Reads a model's tensors for nothing but their hashes.
///
/// # Errors
/// As [`super::verify`].
pub(super) fn hash_all(
    tensors: &[FileTensor<'_>],
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<TensorHash>, ToolError> {
    let judged = judge_all(tensors, options, progress)?;
    Ok(hashes(tensors, &judged))
}

/// What is kept of a tensor that was looked at.
struct Judged {
    hash: Option<u128>,
    n_weights: u64,
    /// How many times as large as the middle piece the largest one is.
    largest: f64,
    report: StageReport,
}

/// What a thread has done.
enum Done {
    Bytes(u64),
    Tensor(usize, Box<Judged>),
}

/// Looks at all tensors on all threads, the largest first.
fn judge_all(
    tensors: &[FileTensor<'_>],
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Judged>, ToolError> {
    let n_threads = options.n_threads.get();
    let threads = threads(options.n_threads)?;
    let sample = (options.depth == Depth::Quick).then_some(SAMPLED_ROWS);
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&idx| std::cmp::Reverse(tensors[idx].data.len()));
    let total = tensors.iter().map(|tensor| tensor.data.len() as u64).sum();
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut judged: Vec<Option<Judged>> = Vec::new();
    judged.resize_with(tensors.len(), || None);
    threads.in_place_scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..n_threads {
            let sender = sender.clone();
            let (order, next, is_over) = (&order, &next, &is_over);
            scope.spawn(move |_| {
                let read = |n_bytes| {
                    // Nobody listens once the caller has ended it.
                    sender.send(Done::Bytes(n_bytes)).is_ok() && !is_over.load(Ordering::Relaxed)
                };
                while let Some(&idx) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(scan) = scan(&tensors[idx], sample, read) else {
                        return;
                    };
                    let judged = Box::new(judge(&tensors[idx], &scan));
                    if sender.send(Done::Tensor(idx, judged)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut n_bytes = 0;
        for done in receiver {
            match done {
                Done::Tensor(idx, of_tensor) => judged[idx] = Some(*of_tensor),
                Done::Bytes(more) => {
                    n_bytes += more;
                    if let Err(ended) = progress.tell(n_bytes, total) {
                        is_over.store(true, Ordering::Relaxed);
                        return Err(ended);
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(judged.into_iter().flatten().collect())
}

/// Says what is wrong or odd with a tensor.
fn judge(tensor: &FileTensor<'_>, scan: &Scan) -> Judged {
    let mut report = StageReport::new(Stage::Numbers);
    let name = quote(tensor.name);
    let place = |spot: Spot| place(&name, scan.matrices.len(), spot);
    if scan.not_finite.count > 0 {
        let n = scan.not_finite.count;
        let text = format!("a weight is NaN or infinite; {n} of {} are", scan.n_weights);
        report.error(place(scan.not_finite.first), text);
    }
    for (idx, matrix) in scan.matrices.iter().enumerate() {
        if matrix.is_zero() {
            let which = expert(scan.matrices.len(), idx);
            report.error(format!("{name}{which}"), "all weights are zero");
        }
    }
    if scan.zero_rows.count > 0 {
        let Spot { row, .. } = scan.zero_rows.first;
        let which = expert(scan.matrices.len(), scan.zero_rows.first.matrix);
        let text = format!(
            "a row is all zero; {} of {} are",
            scan.zero_rows.count, scan.n_rows_seen
        );
        report.warning(format!("{name}{which}, row {row}"), text);
    }
    if scan.lost.count > 0 {
        let text = format!(
            "a block has scale zero beside integers that differ, and reads as nothing; {} have",
            scan.lost.count
        );
        report.warning(place(scan.lost.first), text);
    }
    judge_experts(&name, &scan.matrices, &mut report);
    Judged {
        hash: scan.hash,
        n_weights: scan.n_weights,
        largest: judge_peaks(tensor, scan, &place, &mut report),
        report,
    }
}

/// Says which pieces are too large, and returns how many times as large as the middle piece
/// the largest one is.
fn judge_peaks(
    tensor: &FileTensor<'_>,
    scan: &Scan,
    place: &dyn Fn(Spot) -> String,
    report: &mut StageReport,
) -> f64 {
    let is_vector = usize::from(tensor.n_rows() == 1 && tensor.n_matrices() == 1);
    let Some(median) = scan.median else {
        return 0.0;
    };
    let mut largest = 0.0;
    for matrix in &scan.matrices {
        let size = f64::from(matrix.peak).sqrt();
        let ratio = size / median;
        largest = f64::max(largest, ratio);
        if ratio < ODD[is_vector] {
            continue;
        }
        let text = format!(
            "the {PIECE_LEN} weights from here have root mean square {size:.3e}, {ratio:.0} times \
             the middle of the tensor"
        );
        if ratio < WRONG[is_vector] {
            report.warning(place(matrix.peak_at), text);
        } else {
            let text = format!("{text}: a damaged scale looks like this");
            report.error(place(matrix.peak_at), text);
        }
    }
    largest
}

/// Says which experts are of another size than most.
fn judge_experts(name: &str, matrices: &[MatrixScan], report: &mut StageReport) {
    let mut sizes: Vec<f64> = matrices.iter().map(MatrixScan::size).collect();
    sizes.sort_by(f64::total_cmp);
    let middle = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
    if sizes.len() < 3 || middle == 0.0 {
        return;
    }
    for (idx, matrix) in matrices.iter().enumerate() {
        let ratio = matrix.size() / middle;
        let is_usual = (1.0 / ODD_EXPERT..ODD_EXPERT).contains(&ratio);
        if !is_usual && !matrix.is_zero() {
            let size = matrix.size();
            report.warning(
                format!("{name}, expert {idx}"),
                format!("root mean square {size:.3e}, {ratio:.2} times that of most experts"),
            );
        }
    }
}

fn place(name: &str, n_matrices: usize, spot: Spot) -> String {
    let Spot {
        matrix,
        row,
        column,
    } = spot;
    let which = expert(n_matrices, matrix);
    format!("{name}{which}, row {row}, column {column}")
}

fn expert(n_matrices: usize, matrix: usize) -> String {
    match n_matrices {
        1 => String::new(),
        _ => format!(", expert {matrix}"),
    }
}

/// Returns the hashes, or none if not all tensors were read whole.
fn hashes(tensors: &[FileTensor<'_>], judged: &[Judged]) -> Vec<TensorHash> {
    let hash = |(tensor, judged): (&FileTensor<'_>, &Judged)| {
        Some(TensorHash {
            name: tensor.name.to_owned(),
            ty: tensor.ty_name.clone(),
            shape: tensor.shape.clone(),
            xxh3: format!("{:032x}", judged.hash?),
        })
    };
    let hashes: Option<_> = tensors.iter().zip(judged).map(hash).collect();
    hashes.unwrap_or_default()
}

/// Returns one hash for all tensors, whatever their order.
fn fingerprint(hashes: &[TensorHash]) -> String {
    let mut lines: Vec<String> = hashes
        .iter()
        .map(|hash| format!("{} {} {:?} {}\n", hash.xxh3, hash.ty, hash.shape, hash.name))
        .collect();
    lines.sort_unstable();
    let mut hasher = Xxh3::new();
    lines.iter().for_each(|line| hasher.update(line.as_bytes()));
    format!("{:032x}", hasher.digest128())
}
