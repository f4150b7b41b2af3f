//! How each format is written: with a scale and levels, or with a scale and an offset.

use super::{
    Format,
    affine::{self, Effort, Factors},
    batch::{Batch, array, inverse, nearest, negative},
    levels::{E2m1, Iq4, Linear},
    symmetric,
};
use crate::{
    blocks::{
        BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K,
        BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, F16Le, half_power,
    },
    lanes::F32x16,
};

impl Format<32> for BlockQ8_0 {
    const SUBS: usize = 1;
    /// The largest weight becomes ±127; there is nothing to gain from a search at eight
    /// bits.
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], _: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        for (x, out) in x.iter().zip(out) {
            let mut largest = V::splat(0.0);
            for x in x.as_chunks().0 {
                let x = V::load(x);
                largest = largest.max(x).max(negative(x));
            }
            let d = F16Le::from_f32(largest.largest() / 127.0);
            let inverse = inverse(V::splat(d.to_f32()));
            let mut qs = [0; 32];
            for (x, qs) in x.as_chunks().0.iter().zip(qs.as_chunks_mut().0) {
                // As bytes above 128, of which the highest bit then is the sign.
                let above = nearest(V::load(x).mul(inverse), -127.0, 127.0).add(V::splat(128.0));
                *qs = above.to_u8().map(|q| q ^ 0x80);
            }
            *out = Self { d, qs };
        }
    }
}

impl Format<32> for BlockQ4_0 {
    const SUBS: usize = 1;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        match p {
            None => symmetric::blocks::<V, Linear<8>, _, _>(&Batch::even(x), out, Self::pack),
            Some(p) => {
                symmetric::blocks::<V, Linear<8>, _, _>(&Batch::weighted(x, p), out, Self::pack);
            }
        }
    }
}

impl Format<32> for BlockQ5_0 {
    const SUBS: usize = 1;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        match p {
            None => symmetric::blocks::<V, Linear<16>, _, _>(&Batch::even(x), out, Self::pack),
            Some(p) => {
                symmetric::blocks::<V, Linear<16>, _, _>(&Batch::weighted(x, p), out, Self::pack);
            }
        }
    }
}

impl Format<32> for BlockIq4Nl {
    const SUBS: usize = 1;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        symmetric::blocks::<V, Iq4, _, _>(&Batch::new(x, p), out, Self::pack);
    }
}

impl Format<32> for BlockQ4_1 {
    const SUBS: usize = 1;
    /// Where importance is known, a search pays that would be too long without.
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        match p {
            None => {
                let batch = Batch::<V, _, _>::even(x);
                affine::blocks(&batch, out, 15.0, Effort::QUICK, Self::pack);
            }
            Some(p) => {
                let batch = Batch::<V, _>::weighted(x, p);
                affine::blocks(&batch, out, 15.0, Effort::LONGER, Self::pack);
            }
        }
    }
}

impl Format<32> for BlockQ5_1 {
    const SUBS: usize = 1;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        const EFFORT: Effort = Effort::LONG;
        match p {
            None => affine::blocks(&Batch::<V, _, _>::even(x), out, 31.0, EFFORT, Self::pack),
            Some(p) => {
                let batch = Batch::<V, _>::weighted(x, p);
                affine::blocks(&batch, out, 31.0, EFFORT, Self::pack);
            }
        }
    }
}

impl Format<16> for BlockQ3K {
    const SUBS: usize = 16;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 16]; 16], p: Option<&[[f32; 16]; 16]>, out: &mut [Self]) {
        symmetric::super_blocks::<V, Linear<4>, _, 16, 16>(
            &Batch::new(x, p),
            out,
            -32.0,
            Self::pack,
        );
    }
}

impl Format<16> for BlockQ6K {
    const SUBS: usize = 16;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 16]; 16], p: Option<&[[f32; 16]; 16]>, out: &mut [Self]) {
        symmetric::super_blocks::<V, Linear<32>, _, 16, 16>(
            &Batch::new(x, p),
            out,
            -128.0,
            Self::pack,
        );
    }
}

impl Format<32> for BlockIq4Xs {
    const SUBS: usize = 8;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        symmetric::super_blocks::<V, Iq4, _, 32, 8>(&Batch::new(x, p), out, -32.0, Self::pack);
    }
}

impl Format<16> for BlockQ2K {
    const SUBS: usize = 16;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 16]; 16], p: Option<&[[f32; 16]; 16]>, out: &mut [Self]) {
        let pack = |f: &Factors<16>, codes: &_| Self::pack(f.d, f.dmin, &f.scales, &f.mins, codes);
        affine::super_blocks::<V, _, 16, 16>(&Batch::new(x, p), out, 3.0, 15.0, pack);
    }
}

impl Format<32> for BlockQ4K {
    const SUBS: usize = 8;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        let pack = |f: &Factors<8>, codes: &_| Self::pack(f.d, f.dmin, &f.scales, &f.mins, codes);
        affine::super_blocks::<V, _, 32, 8>(&Batch::new(x, p), out, 15.0, 63.0, pack);
    }
}

impl Format<32> for BlockQ5K {
    const SUBS: usize = 8;
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], p: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        let pack = |f: &Factors<8>, codes: &_| Self::pack(f.d, f.dmin, &f.scales, &f.mins, codes);
        affine::super_blocks::<V, _, 32, 8>(&Batch::new(x, p), out, 31.0, 63.0, pack);
    }
}

impl Format<32> for BlockMxfp4 {
    const SUBS: usize = 1;
    /// The best of three exponents: the one that takes the largest weight into the top
    /// binade, and its neighbours, since 6 is the largest value and a weight may be almost 8.
    #[inline(always)]
    fn write<V: F32x16>(x: &[[f32; 32]; 16], _: Option<&[[f32; 32]; 16]>, out: &mut [Self]) {
        let batch = Batch::<V, 32, _>::even(x);
        let extreme = array(batch.extreme());
        let centre = extreme.map(|w| (w.abs().to_bits() >> 23).saturating_sub(2));
        // Where the squares of the errors overflow, the middle one stays.
        let mut best = centre.map(|e| (f32::INFINITY, e.min(254) as u8));
        for step in [0, 1, -1] {
            let exponents = centre.map(|e| e.saturating_add_signed(step).min(254) as u8);
            let scale = V::load(&exponents.map(half_power));
            let errors = array(symmetric::error::<V, E2m1, _, 32>(&batch, scale));
            for s in 0..16 {
                if errors[s] < best[s].0 {
                    best[s] = (errors[s], exponents[s]);
                }
            }
        }
        for (s, out) in out.iter_mut().enumerate() {
            let inverse = half_power(best[s].1).recip();
            let codes = symmetric::codes::<V, E2m1, 32>(&x[s], inverse);
            *out = Self::pack(best[s].1, &codes);
        }
    }
}
