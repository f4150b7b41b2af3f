//! Parts of an output matrix, and how they are cut into units of work.

use std::ops::Range;

use crate::matrix::MatMut;

/// Columns of some rows of an output, written by one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Band {
    /// Rows of the output.
    pub(crate) rows: Range<usize>,
    /// Columns of the output.
    pub(crate) cols: Range<usize>,
}

/// Some columns of a band.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BandStrip {
    /// The band's number.
    pub(crate) band: usize,
    /// The columns, counted from the band's first.
    pub(crate) cols: Range<usize>,
}

/// Asserts that the bands are disjoint and inside; returns the number of strips.
pub(super) fn check_bands(
    out: &MatMut<'_>,
    bands: impl Fn(usize) -> Band,
    n_bands: usize,
    strip_len: usize,
) -> usize {
    assert!(strip_len > 0, "strips of length zero");
    let mut n_units = 0;
    let mut before: Option<Band> = None;
    for band in (0..n_bands).map(bands) {
        let inside = band.rows.start <= band.rows.end
            && band.cols.start <= band.cols.end
            && band.rows.end <= out.n_rows()
            && band.cols.end <= out.n_cols;
        assert!(inside, "{band:?} is outside of the output");
        if let Some(before) = before {
            let below = before.rows.end <= band.rows.start;
            let right = before.rows == band.rows && before.cols.end <= band.cols.start;
            assert!(below || right, "{band:?} overlaps {before:?}");
        }
        n_units += band.cols.len().div_ceil(strip_len);
        before = Some(band);
    }
    n_units
}

/// Finds strips of bands for one member, whose units ascend: so it need not begin at the
/// first band each time.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    band: usize,
    /// The band's first unit.
    first: usize,
}

impl Cursor {
    /// Returns the band of a unit, and the strip of it that the unit is. `unit` must not be
    /// less than the one before.
    pub(super) fn strip(
        &mut self,
        unit: usize,
        bands: &impl Fn(usize) -> Band,
        strip_len: usize,
    ) -> (Band, BandStrip) {
        loop {
            let (band, strip) = (bands(self.band), unit - self.first);
            let n_strips = band.cols.len().div_ceil(strip_len);
            if strip < n_strips {
                let cols = strip * strip_len..((strip + 1) * strip_len).min(band.cols.len());
                let strip = BandStrip {
                    band: self.band,
                    cols,
                };
                return (band, strip);
            }
            self.band += 1;
            self.first += n_strips;
        }
    }
}
