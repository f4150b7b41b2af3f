//! The phases of products: how they are divided, and what happens to their results.
//!
//! A unit of work is a strip: some rows of a weight matrix, and so columns of the output.
//! Whoever computed a strip goes on with it while it is in the nearest cache: results can
//! be written, handed to a closure, or added to what was there. Where the results of several
//! matrices are weighted and added up, as those of a token's experts, a strip runs over all
//! the matrices, so that nothing but the sums ever leaves the thread.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    Activations, MatMut, Product, Team, Term,
    pool::{Band, TileMut},
    product::{Scratch, Strip},
};

/// Weight rows in a unit of work: enough that claiming it costs nothing, few enough that
/// a thread taken away by the system delays the others little.
const STRIP_ROWS: usize = 256;
/// Floats of results that a thread keeps until they are added up, so that they stay in its
/// second cache; a batch of very many tokens may need more.
const RESULTS_LEN: usize = 1 << 18;
/// Rows that kernels compute side by side; a strip is a multiple.
const LANE_ROWS: usize = 16;
/// A phase has so many units for every thread, if its rows are enough for that.
const UNITS_PER_THREAD: usize = 8;

impl Team<'_> {
    /// Computes the products of one phase, all from the same activations into one output.
    ///
    /// They are listed in the order of their places: each below the rows of the one
    /// before, or right of it in the same rows. Where no product has its place `out`
    /// stays as it is.
    ///
    /// # Panics
    /// If shapes do not fit, a row of `x` does not exist, places are outside of `out`,
    /// overlap or are out of order, or `x` lacks the form for a type
    /// ([`QuantType::activation_form`](crate::QuantType::activation_form)).
    pub fn products(&self, products: &[Product<'_>], x: &Activations, out: MatMut<'_>) {
        self.write(products, x, 1, out, |_, _| ());
    }

    /// Computes products as [`Self::products`] does, and hands every finished piece of an
    /// output row to `then(product, row, piece)`, on the thread that computed it. Pieces
    /// are whole groups of `group_len` results, counted from the product's first.
    ///
    /// # Panics
    /// As [`Self::products`], and if `group_len` is zero or a product's rows are no whole
    /// number of groups.
    pub fn products_then(
        &self,
        products: &[Product<'_>],
        x: &Activations,
        group_len: usize,
        out: MatMut<'_>,
        then: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        for product in products {
            let n_rows = product.w.n_rows();
            assert!(
                group_len > 0 && n_rows.is_multiple_of(group_len),
                "{n_rows} results are no groups of {group_len}"
            );
        }
        self.write(products, x, group_len, out, |idx, mut tile| {
            for i in 0..tile.n_rows() {
                then(idx, products[idx].out_row + i, tile.row(i));
            }
        });
    }

    /// Adds a product to what `out` holds in its place. Returns whether all sums are
    /// finite.
    ///
    /// # Panics
    /// As [`Self::products`], and if the product is gated or not as wide as `out`.
    pub fn add_product(&self, product: &Product<'_>, x: &Activations, out: MatMut<'_>) -> bool {
        let rows = product.out_row..product.out_row + product.x_rows.len();
        let product = Product {
            out_row: 0,
            ..product.clone()
        };
        let products = std::slice::from_ref(&product);
        self.sum(products, x, rows, out, |token, results, sum| {
            let results = &results[token * sum.len()..][..sum.len()];
            self.isa().add(sum, results)
        })
    }

    /// Adds weighted products to `out: [n_tokens, n_rows]`: to row `t` the sum of the terms
    /// `t · n_terms..(t + 1) · n_terms`, in their order, where the places of the products
    /// give numbers to the rows of results. Returns whether all sums are finite.
    ///
    /// # Panics
    /// As [`Self::products`], and if a product is gated or not as wide as `out`, or the
    /// terms are not as many for every row of `out`.
    pub fn add_weighted(
        &self,
        products: &[Product<'_>],
        x: &Activations,
        terms: &[Term],
        out: MatMut<'_>,
    ) -> bool {
        let n_tokens = out.n_rows();
        assert!(
            n_tokens > 0 && terms.len().is_multiple_of(n_tokens),
            "{} terms for {n_tokens} rows",
            terms.len()
        );
        let n_terms = terms.len() / n_tokens;
        self.sum(products, x, 0..n_tokens, out, |token, results, sum| {
            let terms = &terms[token * n_terms..][..n_terms];
            self.isa().add_terms(sum, results, terms)
        })
    }

    /// Writes results to their places, strip by strip.
    fn write(
        &self,
        products: &[Product<'_>],
        x: &Activations,
        group_len: usize,
        out: MatMut<'_>,
        then: impl Fn(usize, TileMut<'_>) + Sync,
    ) {
        let mut n_rows = 0;
        for product in products {
            product.check(x);
            n_rows += product.w.n_rows();
        }
        let band = |idx: usize| {
            let product: &Product<'_> = &products[idx];
            Band {
                rows: product.out_row..product.out_row + product.x_rows.len(),
                cols: product.out_col..product.out_col + product.w.n_rows(),
            }
        };
        self.crew.for_each_tile(
            out,
            &band,
            products.len(),
            self.strip_len(n_rows, STRIP_ROWS)
                .next_multiple_of(group_len),
            |member| self.scratch(member),
            |scratch, unit, next, mut tile| {
                let product = &products[unit.band];
                let (w, up) = product.strip_rows(unit.cols);
                let strip = Strip {
                    w,
                    x,
                    x_rows: product.x_rows,
                    next: next.map(|next| products[next.band].w.rows(next.cols)),
                };
                self.isa().gated_strip(strip, up, scratch, &mut tile);
                then(unit.band, tile);
            },
        );
    }

    /// Lets `add(token, results, sum)` add the results of all products to some rows of
    /// `out`, strip by strip; it returns whether the sums are finite.
    fn sum(
        &self,
        products: &[Product<'_>],
        x: &Activations,
        out_rows: Range<usize>,
        out: MatMut<'_>,
        add: impl Fn(usize, &[f32], &mut [f32]) -> bool + Sync,
    ) -> bool {
        let n_cols = out.n_cols;
        let mut n_results = 0;
        for product in products {
            product.check(x);
            let whole = product.w.n_rows() == n_cols && product.out_col == 0;
            assert!(
                whole && product.up.is_none(),
                "a product is not a whole sum"
            );
            n_results = n_results.max(product.out_row + product.x_rows.len());
        }
        let band = |_| Band {
            rows: out_rows.clone(),
            cols: 0..n_cols,
        };
        let finite = AtomicBool::new(true);
        let strip_len = self.strip_len(n_cols, RESULTS_LEN / n_results.max(1));
        self.crew.for_each_tile(
            out,
            &band,
            1,
            strip_len,
            |member| self.scratch(member),
            |scratch, unit, next, mut tile| {
                let rows = unit.cols;
                let len = rows.len();
                let Scratch {
                    results, kernel, ..
                } = &mut **scratch;
                // Always as much as the longest strip needs: who gets it first is chance.
                let results = results.floats(n_results * strip_len);
                for (idx, product) in products.iter().enumerate() {
                    let results = &mut results[product.out_row * len..];
                    let results = &mut results[..product.x_rows.len() * len];
                    let strip = Strip {
                        w: product.w.rows(rows.clone()),
                        x,
                        x_rows: product.x_rows,
                        next: match (products.get(idx + 1), &next) {
                            (Some(product), _) => Some(product.w.rows(rows.clone())),
                            (None, Some(unit)) => Some(products[0].w.rows(unit.cols.clone())),
                            (None, None) => None,
                        },
                    };
                    MatMut::new(results, len).whole(|mut tile| {
                        self.isa().strip(strip, kernel, &mut tile);
                    });
                }
                for token in 0..tile.n_rows() {
                    if !add(token, results, tile.row(token)) {
                        finite.store(false, Ordering::Relaxed);
                    }
                }
            },
        );
        finite.into_inner()
    }

    /// Returns how many of `n_rows` weight rows make a unit: lanes full of them, and no more
    /// than `longest` if there is a choice.
    fn strip_len(&self, n_rows: usize, longest: usize) -> usize {
        let shares = UNITS_PER_THREAD * self.n_threads();
        let n_lanes = (n_rows / shares).div_ceil(LANE_ROWS);
        let longest = longest.min(STRIP_ROWS) / LANE_ROWS;
        n_lanes.clamp(1, longest.max(1)) * LANE_ROWS
    }
}
