//! Panels of small blocks, by format.

use super::put_factors;
use crate::{
    blocks::{
        BlockIq4Nl, BlockMxfp4, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, half_power,
    },
    dwords::Dwords,
    panel::{ROWS, SmallPanel},
};

/// `Q4_0`: nibbles.
#[inline(always)]
pub(super) fn q4_0<D: Dwords>(rows: [&BlockQ4_0; ROWS], panel: &mut SmallPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    put_nibbles::<D>(rows.map(|block| &block.qs), None, panel);
}

/// `Q4_1`: nibbles, with an offset.
#[inline(always)]
pub(super) fn q4_1<D: Dwords>(rows: [&BlockQ4_1; ROWS], panel: &mut SmallPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    put_factors::<D>(rows.map(|block| block.m), &mut panel.m);
    put_nibbles::<D>(rows.map(|block| &block.qs), None, panel);
}

/// `Q5_0`: nibbles with a fifth bit.
#[inline(always)]
pub(super) fn q5_0<D: Dwords>(rows: [&BlockQ5_0; ROWS], panel: &mut SmallPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    put_nibbles::<D>(rows.map(|block| &block.qs), None, panel);
    add_fifths::<D>(rows.map(|block| i32::from_le_bytes(block.qh)), panel);
}

/// `Q5_1`: nibbles with a fifth bit, and an offset.
#[inline(always)]
pub(super) fn q5_1<D: Dwords>(rows: [&BlockQ5_1; ROWS], panel: &mut SmallPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    put_factors::<D>(rows.map(|block| block.m), &mut panel.m);
    put_nibbles::<D>(rows.map(|block| &block.qs), None, panel);
    add_fifths::<D>(rows.map(|block| i32::from_le_bytes(block.qh)), panel);
}

/// `Q8_0`: signed bytes, stored with a zero point of 128.
#[inline(always)]
pub(super) fn q8_0<D: Dwords>(rows: [&BlockQ8_0; ROWS], panel: &mut SmallPanel) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    for (half, out) in panel.q.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let bytes = D::of_rows(rows.map(|block| &block.qs.as_chunks::<16>().0[half]));
        for (out, bytes) in out.iter_mut().zip(bytes) {
            bytes.xor(D::splat_byte(0x80)).store(out);
        }
    }
}

/// `IQ4_NL`: nibbles are codes into a table.
#[inline(always)]
pub(super) fn iq4_nl<D: Dwords>(
    rows: [&BlockIq4Nl; ROWS],
    table: Option<[u8; 16]>,
    panel: &mut SmallPanel,
) {
    put_factors::<D>(rows.map(|block| block.d), &mut panel.d);
    put_nibbles::<D>(rows.map(|block| &block.qs), table, panel);
}

/// `MXFP4`: nibbles are codes into a table, the factor is an exponent.
#[inline(always)]
pub(super) fn mxfp4<D: Dwords>(
    rows: [&BlockMxfp4; ROWS],
    table: Option<[u8; 16]>,
    panel: &mut SmallPanel,
) {
    panel.d = rows.map(|block| half_power(block.e));
    put_nibbles::<D>(rows.map(|block| &block.qs), table, panel);
}

/// Writes sixteen low nibbles, then sixteen high ones.
#[inline(always)]
fn put_nibbles<D: Dwords>(
    rows: [&[u8; 16]; ROWS],
    table: Option<[u8; 16]>,
    panel: &mut SmallPanel,
) {
    let bytes = D::of_rows(rows);
    for c in 0..4 {
        bytes[c].nibble().values(table).store(&mut panel.q[c]);
        let high = bytes[c].high_nibble();
        high.values(table).store(&mut panel.q[4 + c]);
    }
}

/// Adds sixteen to weight `i` where bit `i` is set.
#[inline(always)]
fn add_fifths<D: Dwords>(bits: [i32; ROWS], panel: &mut SmallPanel) {
    let bits = D::load(bytemuck::must_cast_ref(&bits));
    for (i, q) in panel.q.iter_mut().enumerate() {
        // Each byte takes the bits of eight weights and keeps the one of its place.
        let eight = bits.pick([i as u8 / 2; 4]);
        let places = if i % 2 == 0 {
            [0x01, 0x02, 0x04, 0x08]
        } else {
            [0x10, 0x20, 0x40, 0x80]
        };
        let fifths = eight.sixteen_where(D::splat(i32::from_ne_bytes(places)));
        D::load(q).or(fifths).store(q);
    }
}
