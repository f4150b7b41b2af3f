//! Sixteen rows of blocks into a panel.
//!
//! The bytes of a block are not unpacked first: sixteen bytes of each of sixteen rows are
//! transposed as they are, which makes four dwords of every row ([`Dwords`]). Shifts and masks
//! then unpack the integers of all rows at once, and the scales likewise ([`superblock`],
//! [`small_block`]). Formats whose weights are points of a grid pass through memory: their
//! blocks are unpacked one by one, and the integers transposed.
//!
//! Everything here is inlined into functions that have the features of its [`Dwords`].

mod small_block;
mod superblock;

use crate::{
    QuantType,
    blocks::{F16Le, SmallBlock, SuperBlock, UnpackedSuper},
    dwords::Dwords,
    panel::{ROWS, SmallPanel, SuperPanel},
};

/// Whether a panel of this format keeps two weights in a byte, as the file does: weights of
/// sub-blocks 2 · p in the low, of 2 · p + 1 in the high nibbles of dwords 8 · p and on.
pub(crate) const fn is_packed<D: Dwords, B: SuperBlock>() -> bool {
    D::NIBBLES_STAY && matches!(B::TYPE, QuantType::Q4_K)
}

/// Packs one superblock of each row. Minimums are written only where the format has them.
#[inline(always)]
pub(crate) fn superblocks<D: Dwords, B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    match B::TYPE {
        QuantType::Q2_K => superblock::q2_k::<D>(cast(rows), panel),
        QuantType::Q3_K => superblock::q3_k::<D>(cast(rows), panel),
        QuantType::Q4_K => superblock::q4_k::<D>(cast(rows), panel),
        QuantType::Q5_K => superblock::q5_k::<D>(cast(rows), panel),
        QuantType::Q6_K => superblock::q6_k::<D>(cast(rows), panel),
        QuantType::IQ4_XS => superblock::iq4_xs::<D>(cast(rows), B::TABLE, panel),
        _ => through_memory::<D, B>(rows, panel),
    }
}

/// Packs one small block of each row.
#[inline(always)]
pub(crate) fn small_blocks<D: Dwords, B: SmallBlock>(rows: [&B; ROWS], panel: &mut SmallPanel) {
    match B::TYPE {
        QuantType::Q4_0 => small_block::q4_0::<D>(cast(rows), panel),
        QuantType::Q4_1 => small_block::q4_1::<D>(cast(rows), panel),
        QuantType::Q5_0 => small_block::q5_0::<D>(cast(rows), panel),
        QuantType::Q5_1 => small_block::q5_1::<D>(cast(rows), panel),
        QuantType::Q8_0 => small_block::q8_0::<D>(cast(rows), panel),
        QuantType::IQ4_NL => small_block::iq4_nl::<D>(cast(rows), B::TABLE, panel),
        QuantType::MXFP4 => small_block::mxfp4::<D>(cast(rows), B::TABLE, panel),
        _ => unreachable!("no type of small blocks"),
    }
}

/// The same blocks under the name of their type.
#[inline(always)]
fn cast<B: bytemuck::Pod, T: bytemuck::AnyBitPattern>(rows: [&B; ROWS]) -> [&T; ROWS] {
    rows.map(bytemuck::cast_ref)
}

/// Packs blocks that portable code unpacks.
#[inline(always)]
fn through_memory<D: Dwords, B: SuperBlock>(rows: [&B; ROWS], panel: &mut SuperPanel) {
    let mut unpacked = UnpackedSuper::ZEROED;
    let mut q = [[[0u8; 16]; ROWS]; 16];
    let mut scales = [[0u8; 16]; ROWS];
    for (r, block) in rows.into_iter().enumerate() {
        block.unpack_codes(&mut unpacked);
        for (piece, bytes) in q.iter_mut().zip(unpacked.q.as_chunks::<16>().0) {
            piece[r] = *bytes;
        }
        scales[r] = bytemuck::must_cast(unpacked.scales);
        (panel.d[r], panel.dmin[r]) = (unpacked.d, unpacked.dmin);
    }
    for (piece, out) in q.iter().zip(panel.q.as_chunks_mut::<4>().0) {
        for (out, dword) in out.iter_mut().zip(D::of_rows(piece.each_ref())) {
            dword.values(B::TABLE).store(out);
        }
    }
    put_scales(D::of_rows(scales.each_ref()), panel);
}

/// Writes scales that are signed bytes, four to a dword.
#[inline(always)]
fn put_scales<D: Dwords, const N: usize>(bytes: [D; N], panel: &mut SuperPanel) {
    for (four, bytes) in panel.scales.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
        for (i, out) in four.iter_mut().enumerate() {
            bytes.scale(i as u8).store(bytemuck::must_cast_mut(out));
        }
    }
}

/// Converts one factor of each row.
#[inline(always)]
fn put_factors<D: Dwords>(halves_of: [F16Le; ROWS], out: &mut [f32; ROWS]) {
    let words = halves_of.map(|half| u32::from(half.to_bits()));
    D::load(bytemuck::must_cast_ref(&words)).halves(out);
}
