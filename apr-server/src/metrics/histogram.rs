//! How often a time fell into which bucket.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Buckets, Page};

/// Counts times in the buckets of `B`.
#[derive(Debug)]
pub(crate) struct Histogram<B> {
    /// One for each bound and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
    bounds: PhantomData<fn() -> B>,
}

impl<B: Buckets> Default for Histogram<B> {
    fn default() -> Self {
        Self {
            counts: (0..=B::BOUNDS.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_micros: AtomicU64::new(0),
            bounds: PhantomData,
        }
    }
}

impl<B: Buckets> Histogram<B> {
    pub(crate) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let idx = B::BOUNDS.partition_point(|&bound| bound < seconds);
        self.counts[idx].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes buckets, each with those below it, sum and count.
    pub(super) fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut n_total = 0;
        let bounds = B::BOUNDS.iter().map(f64::to_string);
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        for (bound, count) in bounds.zip(&self.counts) {
            n_total += count.load(Ordering::Relaxed);
            page.line(&bucket, &format!("le=\"{bound}\""), n_total);
        }
        let sum = self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        page.line(&format!("{name}_sum"), "", sum);
        page.line(&format!("{name}_count"), "", n_total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Buckets for Two {
        const BOUNDS: &'static [f64] = &[0.1, 1.0];
    }

    #[test]
    fn a_bucket_holds_all_that_is_no_more_than_its_bound() {
        let histogram = Histogram::<Two>::default();
        for millis in [50, 100, 101, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        histogram.write(&mut page, "x", "Help.");
        let expected = "# HELP x Help.\n# TYPE x histogram\nx_bucket{le=\"0.1\"} 2\n\
            x_bucket{le=\"1\"} 3\nx_bucket{le=\"+Inf\"} 4\nx_sum 5.251\nx_count 4\n";
        assert_eq!(page.text, expected);
    }
}
