//! Sums, softmax, choices and the rounding of activations, in `f64` and in plain loops.

use quant_kernels::{ActivationForm, MatRef};

use super::ReferenceRows;

pub(super) fn row_of(w: MatRef<'_>, row: usize) -> Vec<f64> {
    let mut values = vec![0.0; w.n_cols()];
    w.dequantize_row(row, &mut values);
    values.into_iter().map(f64::from).collect()
}

/// The dot product, in eight sums side by side: one alone would wait for every addition.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

pub(super) fn add(sum: &mut ReferenceRows, x: &ReferenceRows) {
    for (sum, x) in sum.iter_mut().flatten().zip(x.iter().flatten()) {
        *sum += x;
    }
}

pub(super) fn softmax(x: &mut [f64]) {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let total: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= total);
}

/// The `n` largest by descending value, equal ones by ascending index.
pub(super) fn most_probable(probabilities: &[f64], n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..).take(probabilities.len()).collect();
    let p = |expert: u32| probabilities[expert as usize];
    order.sort_by(|&a, &b| p(b).total_cmp(&p(a)).then(a.cmp(&b)));
    order.truncate(n);
    order
}

/// The index of the largest value, the lowest of equal ones.
pub(super) fn argmax(x: &[f64]) -> u32 {
    (0..)
        .zip(x)
        .fold((0, f64::NEG_INFINITY), |best, (idx, &x)| {
            if x > best.1 { (idx, x) } else { best }
        })
        .0
}

/// What a product with weights of this form sees of an activation row.
pub(super) fn round_activations(form: ActivationForm, row: &[f64]) -> Vec<f64> {
    let block_len = match form {
        ActivationForm::Float => return row.to_vec(),
        ActivationForm::Q8Small => 32,
        ActivationForm::Q8Super => 256,
    };
    row.chunks(block_len).flat_map(round_block).collect()
}

/// Steps of a 127th of the largest magnitude; blocks below 2⁻¹⁰⁰ are zero.
fn round_block(block: &[f64]) -> impl Iterator<Item = f64> {
    let largest = block
        .iter()
        .fold(0f32, |largest, &x| largest.max((x as f32).abs()));
    let tiny = f64::from(largest) < 2f64.powi(-100);
    let (step, inverse) = if tiny {
        (0.0, 0.0)
    } else {
        (largest / 127.0, 127.0 / largest)
    };
    block
        .iter()
        .map(move |&x| f64::from(step) * f64::from((x as f32 * inverse).round_ties_even()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_products_take_all_elements() {
        for n in [0, 1, 7, 8, 9, 31] {
            let a: Vec<f64> = (1..=n).map(f64::from).collect();
            let squares = (1..=n).map(|i| f64::from(i * i)).sum::<f64>();
            assert_eq!(dot(&a, &a), squares, "{n}");
        }
    }

    #[test]
    fn experts_are_chosen_by_probability_then_id() {
        assert_eq!(most_probable(&[0.1, 0.3, 0.3, 0.2], 3), [1, 2, 3]);
    }

    #[test]
    fn argmax_takes_the_lowest_of_equal_values() {
        assert_eq!(argmax(&[1.0, 5.0, 5.0, 2.0]), 1);
    }

    #[test]
    fn rounded_activations_are_within_half_a_step() {
        let row: Vec<f64> = (0..64).map(|i| f64::from(i * 37 % 101) - 50.0).collect();
        let rounded = round_activations(ActivationForm::Q8Small, &row);
        for (block, rounded) in row.chunks(32).zip(rounded.chunks(32)) {
            let largest = block.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (x, y) in block.iter().zip(rounded) {
                assert!((x - y).abs() <= largest / 127.0 * 0.5001);
            }
        }
        assert_eq!(round_activations(ActivationForm::Float, &row), row);
        assert_eq!(
            round_activations(ActivationForm::Q8Super, &[0.0; 256]),
            [0.0; 256]
        );
    }
}
