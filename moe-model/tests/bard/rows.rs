//! What is asked of a row of logits.

/// Returns the token of the largest logit, the first of equal ones.
pub(crate) fn argmax(row: &[f32]) -> usize {
    (0..row.len())
        .rev()
        .max_by(|&a, &b| row[a].total_cmp(&row[b]))
        .unwrap()
}

/// Returns the distance from the largest value to the second.
pub(crate) fn margin(row: &[f32]) -> f32 {
    let best = argmax(row);
    let others = row.iter().enumerate().filter(|(idx, _)| *idx != best);
    row[best] - others.map(|(_, &v)| v).fold(f32::NEG_INFINITY, f32::max)
}

/// Returns the relative L2 distance of all logits of a prompt.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (difference / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

/// Returns the natural logarithms of the probabilities.
pub(crate) fn log_probabilities(row: &[f32]) -> impl Iterator<Item = f64> {
    let largest = f64::from(row[argmax(row)]);
    let total: f64 = row.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
    let log_total = total.ln() + largest;
    row.iter().map(move |&x| f64::from(x) - log_total)
}
