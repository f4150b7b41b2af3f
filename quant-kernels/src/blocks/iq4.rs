//! `IQ4_NL` and `IQ4_XS`: 4-bit codes into a table of sixteen values, denser near zero.

use bytemuck::{Pod, Zeroable};

use crate::QuantType;

use super::{
    F16Le, SmallBlock, SuperBlock, UnpackedSmall, UnpackedSuper, look_up, nibbles_16,
    pack_nibbles_16,
};

/// What the sixteen codes mean (`kvalues_iq4nl`).
pub(crate) const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// 32 weights in 18 bytes: `w = d · table[q]`.
///
/// ```text
/// 0    2                    18
/// | d  | qs: 16 bytes        |    byte i: q[i] low, q[i + 16] high
/// ```
#[doc(alias = "block_iq4_nl")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq4Nl {
    pub(crate) d: F16Le,
    pub(crate) qs: [u8; 16],
}

/// 256 weights in 136 bytes: `w = d · (scale[s] − 32) · table[q]`, s = sub-block of 32.
///
/// ```text
/// 0    2               4                  8                136
/// | d  | scales_h: u16 | scales_l: 4 bytes | qs: 128 bytes  |
/// ```
///
/// The low four bits of scale s are nibble s of `scales_l` (low one first), its high two
/// bits are bits 2·s of `scales_h`. Each 16 bytes of `qs` are a sub-block laid out as in
/// `IQ4_NL`.
#[doc(alias = "block_iq4_xs")]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct BlockIq4Xs {
    pub(crate) d: F16Le,
    pub(crate) scales_h: [u8; 2],
    pub(crate) scales_l: [u8; 4],
    pub(crate) qs: [[u8; 16]; 8],
}

/// [`IQ4_VALUES`] plus 128.
const BIASED: [u8; 16] = {
    let mut biased = [0; 16];
    let mut code = 0;
    while code < 16 {
        biased[code] = IQ4_VALUES[code].cast_unsigned() ^ 0x80;
        code += 1;
    }
    biased
};

impl BlockIq4Nl {
    /// Packs codes into the table.
    pub(crate) fn pack(d: F16Le, codes: &[u8; 32]) -> Self {
        Self {
            d,
            qs: pack_nibbles_16(codes),
        }
    }
}

impl BlockIq4Xs {
    /// Returns the scales of the sub-blocks.
    #[inline(always)]
    pub(crate) fn scales(&self) -> [i8; 8] {
        let high = u16::from_le_bytes(self.scales_h);
        std::array::from_fn(|s| {
            let low = self.scales_l[s / 2] >> (4 * (s % 2)) & 15;
            low.cast_signed() + ((high >> (2 * s) & 3) << 4) as i8 - 32
        })
    }

    /// Packs codes into the table; scales are from −32 to 31.
    pub(crate) fn pack(d: F16Le, scales: &[i8; 8], codes: &[u8; 256]) -> Self {
        let (mut high, mut scales_l) = (0, [0; 4]);
        for s in 0..8 {
            let scale = (scales[s] + 32).cast_unsigned();
            scales_l[s / 2] |= (scale & 15) << (4 * (s % 2));
            high |= u16::from(scale >> 4) << (2 * s);
        }
        let subs = codes.as_chunks::<32>().0;
        let qs = std::array::from_fn(|s| pack_nibbles_16(&subs[s]));
        Self {
            d,
            scales_h: high.to_le_bytes(),
            scales_l,
            qs,
        }
    }
}

impl SmallBlock for BlockIq4Nl {
    const TYPE: QuantType = QuantType::IQ4_NL;
    const ZERO: i32 = 128;
    const HAS_MIN: bool = false;
    const TABLE: Option<[u8; 16]> = Some(BIASED);

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSmall) {
        self.unpack_codes(out);
        out.q = look_up(out.q, &BIASED);
    }

    #[inline(always)]
    fn unpack_codes(&self, out: &mut UnpackedSmall) {
        out.q = nibbles_16(&self.qs);
        out.d = self.d.to_f32();
        out.m = 0.0;
    }
}

impl SuperBlock for BlockIq4Xs {
    const TYPE: QuantType = QuantType::IQ4_XS;
    const SUB: usize = 32;
    const ZERO: i32 = 128;
    const HAS_MIN: bool = false;
    const TABLE: Option<[u8; 16]> = Some(BIASED);

    #[inline(always)]
    fn unpack(&self, out: &mut UnpackedSuper) {
        self.unpack_codes(out);
        for q in out.q.as_chunks_mut::<32>().0 {
            *q = look_up(*q, &BIASED);
        }
    }

    #[inline(always)]
    fn unpack_codes(&self, out: &mut UnpackedSuper) {
        for s in 0..8 {
            out.q.as_chunks_mut::<32>().0[s] = nibbles_16(&self.qs[s]);
        }
        out.scales[..8].copy_from_slice(&self.scales());
        out.mins = [0; 16];
        out.d = self.d.to_f32();
        out.dmin = 0.0;
    }
}
