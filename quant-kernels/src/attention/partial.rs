//! Results of a few heads over a part of the context, and how two parts become one.

use crate::{
    lanes::{F32x16, LaneOp},
    math::exp,
};

/// Running results of the heads of a group: maximum, sum and output per head.
pub(super) struct States<'a> {
    pub(super) m: &'a mut [f32],
    pub(super) l: &'a mut [f32],
    pub(super) o: &'a mut [f32],
}

impl<'a> States<'a> {
    /// Divides `group · (dim + 2)` floats.
    #[inline(always)]
    pub(super) fn over(floats: &'a mut [f32], group: usize) -> Self {
        let (m, rest) = floats.split_at_mut(group);
        let (l, o) = rest.split_at_mut(group);
        Self { m, l, o }
    }

    #[inline(always)]
    pub(super) fn reset(&mut self) {
        self.m.fill(f32::NEG_INFINITY);
        self.l.fill(0.0);
        self.o.fill(0.0);
    }
}

/// `running = merge(running, later)`.
pub(super) struct Merge<'a> {
    pub(super) group: usize,
    pub(super) dim: usize,
    pub(super) running: &'a mut [f32],
    pub(super) later: &'a mut [f32],
}

impl LaneOp for Merge<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let running = States::over(self.running, self.group);
        let later = States::over(self.later, self.group);
        for h in 0..self.group {
            let m = if running.m[h] > later.m[h] {
                running.m[h]
            } else {
                later.m[h]
            };
            let mut factors = [0.0; 16];
            [factors[0], factors[1]] = [running.m[h] - m, later.m[h] - m];
            exp(L::load(&factors)).store(&mut factors);
            let [a, b] = [factors[0], factors[1]];
            running.m[h] = m;
            running.l[h] = running.l[h].mul_add(a, later.l[h] * b);
            let range = h * self.dim..(h + 1) * self.dim;
            let theirs = later.o[range.clone()].as_chunks::<16>().0;
            for (mine, theirs) in running.o[range]
                .as_chunks_mut::<16>()
                .0
                .iter_mut()
                .zip(theirs)
            {
                let theirs = L::load(theirs).mul(L::splat(b));
                L::load(mine).mul_add(L::splat(a), theirs).store(mine);
            }
        }
    }
}

/// Writes `O · (1 / L)`.
pub(super) struct Finish<'a> {
    pub(super) group: usize,
    pub(super) dim: usize,
    pub(super) running: &'a mut [f32],
    pub(super) out: &'a mut [f32],
}

impl LaneOp for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: F32x16>(self) {
        let running = States::over(self.running, self.group);
        for (h, l) in running.l.iter().enumerate() {
            let inverse = L::splat(1.0 / l);
            let range = h * self.dim..(h + 1) * self.dim;
            let o = running.o[range.clone()].as_chunks::<16>().0;
            for (out, o) in self.out[range].as_chunks_mut::<16>().0.iter_mut().zip(o) {
                L::load(o).mul(inverse).store(out);
            }
        }
    }
}
