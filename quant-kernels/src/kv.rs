//! The key/value cache in blocks of 64 positions, and how a position is written into one.
//!
//! A block holds the keys and values of 64 positions for every layer and every key/value
//! head, so a cache grows block by block, never moves, and a block can be shared between
//! sequences with the same beginning. Within a block each (layer, head) has one run of
//! bytes: keys in tiles of 16 positions as `[tile][dim][16]`, so that a score is one lane
//! that walks the dimensions; then values as `[position][dim]`, so that an output
//! dimension is one lane that walks the positions. `Q8_0` keeps one `f32` scale per 32
//! dimensions beside the bytes: for keys `[tile][dim / 32][16]`, for values
//! `[position][dim / 32]`.

use std::{fmt, ops::Range, str::FromStr};

use half::{bf16, f16};

use crate::{
    KernelError, activations,
    lanes::{F32x16, Scalar16},
};

/// Positions of a block, and of a tile of the attention.
pub const KV_BLOCK: usize = 64;
/// Positions side by side in the key layout.
pub(crate) const KEY_TILE: usize = 16;
/// Dimensions that share a scale in a `Q8_0` cache.
pub(crate) const QUANT_DIMS: usize = 32;

/// How keys and values are stored. Keys and values may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision, the default.
    #[default]
    F16,
    /// Upper half of a single.
    BF16,
    /// Signed bytes, one `f32` scale per 32 dimensions: 9 bits per value.
    Q8_0,
}

const NAMES: [(&str, KvType); 4] = [
    ("f32", KvType::F32),
    ("f16", KvType::F16),
    ("bf16", KvType::BF16),
    ("q8_0", KvType::Q8_0),
];

impl KvType {
    /// Returns `f32`, `f16`, `bf16` or `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Returns the bytes of `n_values` values along the dimensions.
    pub(crate) fn bytes(self, n_values: usize) -> usize {
        match self {
            Self::F32 => 4 * n_values,
            Self::F16 | Self::BF16 => 2 * n_values,
            Self::Q8_0 => n_values + 4 * n_values / QUANT_DIMS,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for KvType {
    type Err = KernelError;

    /// Reads a name, in either case.
    ///
    /// # Errors
    /// [`KernelError::UnknownKvType`] if there is no such name.
    fn from_str(name: &str) -> Result<Self, KernelError> {
        NAMES
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, ty)| ty)
            .ok_or_else(|| KernelError::UnknownKvType {
                name: name.escape_default().to_string(),
            })
    }
}

/// What all blocks of a cache have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    keys: KvType,
    values: KvType,
    n_layer: usize,
    n_head_kv: usize,
    head_dim: usize,
}

impl KvShape {
    /// Makes the shape of a cache for `n_layer` layers with `n_head_kv` key/value heads
    /// of `head_dim` floats each.
    ///
    /// # Errors
    /// [`KernelError::HeadDim`] if `head_dim` is zero or no multiple of 32, or a block
    /// would be too large to address.
    pub fn new(
        keys: KvType,
        values: KvType,
        n_layer: usize,
        n_head_kv: usize,
        head_dim: usize,
    ) -> Result<Self, KernelError> {
        if head_dim == 0 || !head_dim.is_multiple_of(QUANT_DIMS) {
            return Err(KernelError::HeadDim { head_dim });
        }
        let fits = n_layer
            .checked_mul(n_head_kv)
            .and_then(|n| n.checked_mul(head_dim))
            .and_then(|n| n.checked_mul(8 * KV_BLOCK));
        match fits {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(Self {
                keys,
                values,
                n_layer,
                n_head_kv,
                head_dim,
            }),
            _ => Err(KernelError::HeadDim { head_dim }),
        }
    }

    /// Returns the number of key/value heads.
    pub fn n_head_kv(&self) -> usize {
        self.n_head_kv
    }

    /// Returns the width of a head, in floats.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Returns the number of layers.
    pub fn n_layer(&self) -> usize {
        self.n_layer
    }

    /// Returns the bytes of a block: [`KV_BLOCK`] positions of all layers and heads.
    pub fn block_bytes(&self) -> usize {
        self.n_layer * self.n_head_kv * self.head_bytes()
    }

    /// Returns how keys are stored.
    pub fn keys(&self) -> KvType {
        self.keys
    }

    /// Returns how values are stored.
    pub fn values(&self) -> KvType {
        self.values
    }

    fn head_bytes(&self) -> usize {
        (self.keys.bytes(self.head_dim) + self.values.bytes(self.head_dim)) * KV_BLOCK
    }

    fn head(&self, layer: usize, head: usize) -> Range<usize> {
        assert!(
            layer < self.n_layer && head < self.n_head_kv,
            "no such head"
        );
        let start = (layer * self.n_head_kv + head) * self.head_bytes();
        start..start + self.head_bytes()
    }
}

/// The keys and values of [`KV_BLOCK`] positions, for all layers and heads.
#[derive(Clone)]
pub struct KvBlock {
    shape: KvShape,
    /// Cache lines, so that every row of sixteen values is aligned.
    lines: Vec<Line>,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl fmt::Debug for KvBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvBlock")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl KvBlock {
    /// Makes a block of zeros, [`KvShape::block_bytes`] long.
    pub fn new(shape: KvShape) -> Self {
        let n_lines = shape.block_bytes().div_ceil(64);
        Self {
            shape,
            lines: bytemuck::zeroed_vec(n_lines),
        }
    }

    /// Returns the shape.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Returns the bytes of the block, [`KvShape::block_bytes`] of them. Their order is that of
    /// the processor and of this version of the crate; they are for reading back only.
    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.shape.block_bytes()]
    }

    /// Returns the bytes of the block, to be overwritten with those of another of its shape.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.shape.block_bytes()]
    }

    /// Writes the key and the value of one position, `0..64` within the block, rounded to
    /// the types of the shape. Each is a row of `head_dim` floats.
    ///
    /// A value that is not finite stays so (in `Q8_0` it makes its 32 dimensions NaN),
    /// and one too large for F16 or BF16 becomes infinite.
    ///
    /// # Panics
    /// If there is no such layer, head or position, or the rows are not `head_dim` long.
    pub fn write(
        &mut self,
        layer: usize,
        head: usize,
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let (shape, dim) = (self.shape, self.shape.head_dim);
        assert!(position < KV_BLOCK, "position {position} of a block");
        assert!(
            key.len() == dim && value.len() == dim,
            "rows of the cache are {dim} wide"
        );
        let bytes =
            &mut bytemuck::cast_slice_mut::<Line, u8>(&mut self.lines)[shape.head(layer, head)];
        let (keys, values) = bytes.split_at_mut(shape.keys.bytes(dim) * KV_BLOCK);
        let tile_bytes = shape.keys.bytes(dim) * KEY_TILE;
        let tile = &mut keys[position / KEY_TILE * tile_bytes..][..tile_bytes];
        // Element (or scale) `i` of the row goes to place `i · stride + start` of its
        // region.
        let lane = position % KEY_TILE;
        put(
            shape.keys,
            key,
            tile,
            KEY_TILE,
            |i| i * KEY_TILE + lane,
            |s| s * KEY_TILE + lane,
        );
        let n_scales = dim / QUANT_DIMS;
        put(
            shape.values,
            value,
            values,
            KV_BLOCK,
            |i| position * dim + i,
            |s| position * n_scales + s,
        );
    }

    /// Returns the keys and values of one layer and head.
    pub(crate) fn head(&self, layer: usize, head: usize) -> HeadView<'_> {
        let (shape, dim) = (self.shape, self.shape.head_dim);
        let bytes = &bytemuck::cast_slice::<Line, u8>(&self.lines)[shape.head(layer, head)];
        let (keys, values) = bytes.split_at(shape.keys.bytes(dim) * KV_BLOCK);
        HeadView { keys, values }
    }
}

/// The bytes of one layer and head in one block.
#[derive(Clone, Copy)]
pub(crate) struct HeadView<'a> {
    keys: &'a [u8],
    values: &'a [u8],
}

impl<'a> HeadView<'a> {
    /// Returns the keys of sixteen positions.
    pub(crate) fn key_tile<C: Codec>(&self, tile: usize, dim: usize) -> Region<'a> {
        let tile_bytes = self.keys.len() / (KV_BLOCK / KEY_TILE);
        Region::new::<C>(
            &self.keys[tile * tile_bytes..][..tile_bytes],
            KEY_TILE * dim,
        )
    }

    /// Returns the bytes of all keys, for those who ask memory for them ahead.
    pub(crate) fn key_bytes(&self) -> &'a [u8] {
        self.keys
    }

    /// Returns the bytes of all values.
    pub(crate) fn value_bytes(&self) -> &'a [u8] {
        self.values
    }

    /// Returns the values of all positions.
    pub(crate) fn values<C: Codec>(&self, dim: usize) -> Region<'a> {
        Region::new::<C>(self.values, KV_BLOCK * dim)
    }
}

/// Elements, and their scales where the type has them.
#[derive(Clone, Copy)]
pub(crate) struct Region<'a> {
    elements: &'a [u8],
    scales: &'a [u8],
}

impl<'a> Region<'a> {
    fn new<C: Codec>(bytes: &'a [u8], n_elements: usize) -> Self {
        let (elements, scales) = bytes.split_at(C::ELEMENT_BYTES * n_elements);
        Self { elements, scales }
    }
}

/// How a cache type reads sixteen values that lie side by side.
pub(crate) trait Codec {
    /// Bytes of a value, without scales.
    const ELEMENT_BYTES: usize;
    /// Loads dimension `d` of sixteen positions from a key tile.
    fn key<L: F32x16>(tile: Region<'_>, d: usize) -> L;
    /// Loads dimensions `16 · chunk..` of the value at `position`, `chunks` to a
    /// position.
    fn value<L: F32x16>(values: Region<'_>, position: usize, chunk: usize, chunks: usize) -> L;
}

/// Types without scales: a load is a load.
macro_rules! float_codec {
    ($name:ident, $bytes:literal, $load:ident, $element:ty) => {
        pub(crate) struct $name;

        impl Codec for $name {
            const ELEMENT_BYTES: usize = $bytes;
            #[inline(always)]
            fn key<L: F32x16>(tile: Region<'_>, d: usize) -> L {
                let bytes = tile.elements.as_chunks::<{ 16 * $bytes }>().0[d];
                L::$load(&bytemuck::must_cast::<_, [$element; 16]>(bytes))
            }
            #[inline(always)]
            fn value<L: F32x16>(
                values: Region<'_>,
                position: usize,
                chunk: usize,
                chunks: usize,
            ) -> L {
                Self::key(values, position * chunks + chunk)
            }
        }
    };
}

float_codec!(F32Codec, 4, load, f32);
float_codec!(F16Codec, 2, load_f16, u16);
float_codec!(Bf16Codec, 2, load_bf16, u16);

/// Bytes with scales: `value = scale · byte`, rounded to `f32`.
pub(crate) struct Q8Codec;

impl Codec for Q8Codec {
    const ELEMENT_BYTES: usize = 1;
    #[inline(always)]
    fn key<L: F32x16>(tile: Region<'_>, d: usize) -> L {
        let q = bytemuck::must_cast(tile.elements.as_chunks::<16>().0[d]);
        let scales = bytemuck::must_cast(tile.scales.as_chunks::<64>().0[d / QUANT_DIMS]);
        L::load_i8(&q).mul(L::load(&scales))
    }
    #[inline(always)]
    fn value<L: F32x16>(values: Region<'_>, position: usize, chunk: usize, chunks: usize) -> L {
        let q = bytemuck::must_cast(values.elements.as_chunks::<16>().0[position * chunks + chunk]);
        let scales = values.scales.as_chunks::<4>().0;
        let scale = scales[(position * chunks + chunk) * 16 / QUANT_DIMS];
        L::load_i8(&q).mul(L::splat(f32::from_ne_bytes(scale)))
    }
}

/// Writes a row of values; `n_slots` rows share the region, and the closures give the
/// place of an element and of a scale.
fn put(
    ty: KvType,
    row: &[f32],
    region: &mut [u8],
    n_slots: usize,
    element: impl Fn(usize) -> usize,
    scale: impl Fn(usize) -> usize,
) {
    match ty {
        KvType::F32 => {
            let places = region.as_chunks_mut::<4>().0;
            row.iter()
                .enumerate()
                .for_each(|(i, x)| places[element(i)] = x.to_ne_bytes());
        }
        KvType::F16 => {
            let places = region.as_chunks_mut::<2>().0;
            row.iter()
                .enumerate()
                .for_each(|(i, &x)| places[element(i)] = f16::from_f32(x).to_ne_bytes());
        }
        KvType::BF16 => {
            let places = region.as_chunks_mut::<2>().0;
            row.iter()
                .enumerate()
                .for_each(|(i, &x)| places[element(i)] = bf16::from_f32(x).to_ne_bytes());
        }
        KvType::Q8_0 => {
            let (elements, scales) = region.split_at_mut(row.len() * n_slots);
            let scales = scales.as_chunks_mut::<4>().0;
            for (s, values) in row.as_chunks::<QUANT_DIMS>().0.iter().enumerate() {
                let mut q = [0; QUANT_DIMS];
                let d = activations::quantize::<Scalar16, QUANT_DIMS>(values, &mut q);
                scales[scale(s)] = d.to_ne_bytes();
                for (i, q) in q.into_iter().enumerate() {
                    elements[element(s * QUANT_DIMS + i)] = q.cast_unsigned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dim = 64;
        for (keys, values, error) in [
            (KvType::F32, KvType::F32, 0.0),
            (KvType::F16, KvType::BF16, 0.004),
            (KvType::Q8_0, KvType::Q8_0, 0.004),
        ] {
            let shape = KvShape::new(keys, values, 2, 2, dim).unwrap();
            let mut block = KvBlock::new(shape);
            let row = |seed: usize| -> Vec<f32> {
                (0..dim)
                    .map(|d| ((d * 31 + seed * 17) % 97) as f32 / 97.0 - 0.5)
                    .collect()
            };
            for position in 0..KV_BLOCK {
                block.write(1, 1, position, &row(position), &row(position + 1000));
            }
            let view = block.head(1, 1);
            for position in 0..KV_BLOCK {
                for d in 0..dim {
                    let (key, value) = match keys {
                        KvType::F32 => read::<F32Codec, F32Codec>(view, position, d),
                        KvType::F16 => read::<F16Codec, Bf16Codec>(view, position, d),
                        _ => read::<Q8Codec, Q8Codec>(view, position, d),
                    };
                    assert!((key - row(position)[d]).abs() <= error, "{keys} key");
                    assert!(
                        (value - row(position + 1000)[d]).abs() <= error,
                        "{values} value"
                    );
                }
            }
            assert!(
                block.lines[..shape.head(1, 1).start / 64]
                    .iter()
                    .all(|l| l.0 == [0; 64])
            );
        }
    }

    /// Reads one dimension of a position from a block with heads 64 wide.
    fn read<K: Codec, V: Codec>(view: HeadView<'_>, position: usize, d: usize) -> (f32, f32) {
        let (mut keys, mut values) = ([0.0; 16], [0.0; 16]);
        K::key::<Scalar16>(view.key_tile::<K>(position / 16, 64), d).store(&mut keys);
        V::value::<Scalar16>(view.values::<V>(64), position, d / 16, 4).store(&mut values);
        (keys[position % 16], values[d % 16])
    }

    #[test]
    fn the_bytes_of_a_block_make_an_equal_block() {
        let shape = KvShape::new(KvType::Q8_0, KvType::F16, 1, 1, 64).unwrap();
        let mut block = KvBlock::new(shape);
        block.write(0, 0, 7, &[0.5; 64], &[0.25; 64]);
        assert_eq!(block.as_bytes().len(), shape.block_bytes());
        let mut copy = KvBlock::new(shape);
        copy.as_bytes_mut().copy_from_slice(block.as_bytes());
        assert_eq!(
            read::<Q8Codec, F16Codec>(copy.head(0, 0), 7, 3),
            (0.5, 0.25)
        );
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        assert!(KvShape::new(KvType::F16, KvType::F16, 1, 1, 48).is_err());
        assert!(KvShape::new(KvType::F16, KvType::F16, usize::MAX, 2, 64).is_err());
        assert_eq!("Q8_0".parse::<KvType>().unwrap(), KvType::Q8_0);
        assert!("q4_0".parse::<KvType>().is_err());
    }
}
