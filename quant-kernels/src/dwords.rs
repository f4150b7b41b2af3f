//! Sixteen dwords, one of each row of a panel: the vector that packing is written over.
//!
//! As [`crate::lanes`] for floats: one register of AVX-512, two of AVX2. All operations are
//! exact, so whoever packs, panels mean the same; only [`Dwords::scale`] and
//! [`Dwords::NIBBLES_STAY`] differ, in what the products of an instruction set read.

use crate::panel::ROWS;

/// Sixteen dwords of four bytes.
pub(crate) trait Dwords: Copy {
    /// Whether panels keep weights of four bits as the file does, two in a byte.
    const NIBBLES_STAY: bool;

    /// Transposes sixteen bytes of each row: returns their four dwords.
    fn of_rows(rows: [&[u8; 16]; ROWS]) -> [Self; 4];
    /// Loads 64 bytes.
    fn load(bytes: &[u8; 4 * ROWS]) -> Self;
    /// Stores 64 bytes.
    fn store(self, out: &mut [u8; 4 * ROWS]);
    /// All dwords `x`.
    fn splat(x: i32) -> Self;

    /// Bits in both.
    fn and(self, other: Self) -> Self;
    /// Bits in either.
    fn or(self, other: Self) -> Self;
    /// Bits in one of the two.
    fn xor(self, other: Self) -> Self;
    /// Differences of bytes, modulo 256.
    fn sub_bytes(self, other: Self) -> Self;
    /// Dwords shifted to the left, or by a negative distance to the right.
    fn shift(self, left: i32) -> Self;
    /// Bytes of every dword by their place in it; 0 for a place of 128.
    fn pick(self, places: [u8; 4]) -> Self;
    /// Entries of a table for bytes below 16.
    fn look_up(self, table: [u8; 16]) -> Self;
    /// Sixteen for bytes that have all bits of the mask's, 0 for the others.
    fn sixteen_where(self, mask: Self) -> Self;

    /// Byte `i` of every dword, a signed one, widened to what products multiply with.
    fn scale(self, i: u8) -> Self;
    /// Converts the half floats in the low words.
    fn halves(self, out: &mut [f32; ROWS]);

    /// All bytes `x`.
    #[inline(always)]
    fn splat_byte(x: u8) -> Self {
        Self::splat(i32::from_ne_bytes([x; 4]))
    }
    /// Low nibbles of bytes.
    #[inline(always)]
    fn nibble(self) -> Self {
        self.and(Self::splat_byte(0x0f))
    }
    /// High nibbles of bytes.
    #[inline(always)]
    fn high_nibble(self) -> Self {
        self.shift(-4).nibble()
    }
    /// Values of codes, if there is a table.
    #[inline(always)]
    fn values(self, table: Option<[u8; 16]>) -> Self {
        match table {
            Some(table) => self.look_up(table),
            None => self,
        }
    }
}
