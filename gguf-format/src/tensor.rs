//! One tensor: its description in the file and its bytes.

use crate::{
    GgmlType, GgufError, MAX_DIMENSIONS,
    cursor::{Cursor, Field},
    error::quote,
};

/// The fewest bytes of a description: length of the name, number of dimensions, type, offset.
pub(crate) const MIN_INFO_BYTES: u64 = 8 + 4 + 4 + 8;

/// What a file says about a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    name: &'a str,
    ne: [u64; MAX_DIMENSIONS],
    n_dims: usize,
    ty: GgmlType,
    offset: u64,
    size: Size,
}

/// A tensor: what the file says about it, and its data, borrowed from the file.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    /// The description.
    pub info: TensorInfo<'a>,
    /// The data: exactly [`TensorInfo::n_bytes`] bytes.
    pub data: &'a [u8],
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tensor")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl<'a> TensorInfo<'a> {
    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Returns the dimensions, contiguous one first: `ne[0]` weights make a row.
    ///
    /// At most four, none of them zero. A tensor without dimensions is a single element.
    #[must_use]
    pub fn ne(&self) -> &[u64] {
        &self.ne[..self.n_dims]
    }

    /// Returns the storage type.
    #[must_use]
    pub const fn ty(&self) -> GgmlType {
        self.ty
    }

    /// Returns where the data starts, counted from the start of the data section.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the number of weights.
    #[must_use]
    pub const fn n_elements(&self) -> u64 {
        self.size.n_elements
    }

    /// Returns the number of bytes of the data.
    #[must_use]
    pub const fn n_bytes(&self) -> u64 {
        self.size.n_bytes
    }

    /// Reads and checks what follows the name: dimensions, type and offset.
    pub(crate) fn read(cursor: &mut Cursor<'_>, name: &'a str) -> Result<Self, GgufError> {
        let offset_of_dims = cursor.offset();
        let (ne, n_dims) = read_dimensions(cursor, name)?;
        let ty = read_type(cursor, name)?;
        let offset = cursor.u64(Field::part("data offset", name))?;
        let size = Size::of(&ne[..n_dims], ty)
            .map_err(|fault| fault.at(name, offset_of_dims, &ne[..n_dims], ty))?;
        Ok(Self {
            name,
            ne,
            n_dims,
            ty,
            offset,
            size,
        })
    }
}

fn read_dimensions(
    cursor: &mut Cursor<'_>,
    name: &str,
) -> Result<([u64; MAX_DIMENSIONS], usize), GgufError> {
    let offset = cursor.offset();
    let found = cursor.u32(Field::part("number of dimensions", name))?;
    let Some(n_dims) = usize::try_from(found).ok().filter(|&n| n <= MAX_DIMENSIONS) else {
        return Err(GgufError::TooManyDimensions {
            name: quote(name),
            offset,
            found,
        });
    };
    let mut ne = [1; MAX_DIMENSIONS];
    for dimension in &mut ne[..n_dims] {
        *dimension = cursor.u64(Field::part("dimensions", name))?;
    }
    Ok((ne, n_dims))
}

fn read_type(cursor: &mut Cursor<'_>, name: &str) -> Result<GgmlType, GgufError> {
    let offset = cursor.offset();
    let found = cursor.u32(Field::part("type", name))?;
    GgmlType::from_tag(found).ok_or_else(|| match GgmlType::removed_name(found) {
        Some(type_name) => GgufError::RemovedType {
            name: quote(name),
            offset,
            found,
            type_name,
        },
        None => GgufError::UnknownType {
            name: quote(name),
            offset,
            found,
        },
    })
}

/// How large a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) n_elements: u64,
    pub(crate) n_bytes: u64,
}

/// What is wrong with a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShapeFault {
    Zero { dimension: usize },
    Overflow,
    PartialBlock,
}

impl Size {
    /// The size of a tensor, which must be whole blocks in every row.
    pub(crate) fn of(ne: &[u64], ty: GgmlType) -> Result<Self, ShapeFault> {
        if let Some(dimension) = ne.iter().position(|&n| n == 0) {
            return Err(ShapeFault::Zero { dimension });
        }
        let row_len = ne.first().copied().unwrap_or(1);
        if row_len % ty.block_len() != 0 {
            return Err(ShapeFault::PartialBlock);
        }
        let n_elements = ne
            .iter()
            .try_fold(1_u64, |product, &n| product.checked_mul(n));
        let n_elements = n_elements.ok_or(ShapeFault::Overflow)?;
        let n_blocks = n_elements / ty.block_len();
        let n_bytes = n_blocks
            .checked_mul(ty.block_bytes())
            .ok_or(ShapeFault::Overflow)?;
        Ok(Self {
            n_elements,
            n_bytes,
        })
    }
}

impl ShapeFault {
    /// The error about a tensor whose dimensions were read at `offset`.
    fn at(self, name: &str, offset: u64, ne: &[u64], ty: GgmlType) -> GgufError {
        let name = quote(name);
        match self {
            Self::Zero { dimension } => GgufError::ZeroDimension {
                name,
                offset,
                dimension,
            },
            Self::Overflow => GgufError::DimensionsOverflow {
                name,
                offset,
                ne: ne.to_vec(),
            },
            Self::PartialBlock => {
                let ne0 = ne.first().copied().unwrap_or(1);
                GgufError::PartialBlock {
                    name,
                    offset,
                    ty,
                    ne0,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_blocks() {
        let size = |ne: &[u64], ty| Size::of(ne, ty).map(|s| (s.n_elements, s.n_bytes));
        assert_eq!(size(&[256, 3], GgmlType::Q4_K), Ok((768, 432)));
        assert_eq!(size(&[2, 3, 4, 5], GgmlType::F16), Ok((120, 240)));
        assert_eq!(size(&[], GgmlType::F32), Ok((1, 4)));
        assert_eq!(size(&[], GgmlType::Q8_0), Err(ShapeFault::PartialBlock));
        assert_eq!(
            size(&[255, 256], GgmlType::Q4_K),
            Err(ShapeFault::PartialBlock)
        );
        assert_eq!(
            size(&[32, 0], GgmlType::Q8_0),
            Err(ShapeFault::Zero { dimension: 1 })
        );
    }

    #[test]
    fn sizes_beyond_64_bits_are_refused() {
        let half = 1 << 32;
        assert_eq!(
            Size::of(&[half, half], GgmlType::I8),
            Err(ShapeFault::Overflow)
        );
        assert_eq!(
            Size::of(&[1 << 62], GgmlType::F32),
            Err(ShapeFault::Overflow)
        );
        assert!(Size::of(&[1 << 61], GgmlType::F32).is_ok());
    }
}
