//! Metadata values: the 13 types, and how one value is read.

use crate::{
    Array, GgufError,
    cursor::{Cursor, Field},
    element::sealed::Decode,
};

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// `u8`.
    U8,
    /// `i8`.
    I8,
    /// `u16`.
    U16,
    /// `i16`.
    I16,
    /// `u32`.
    U32,
    /// `i32`.
    I32,
    /// `f32`.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// UTF-8 text.
    String,
    /// Elements of one type.
    Array,
    /// `u64`.
    U64,
    /// `i64`.
    I64,
    /// `f64`.
    F64,
}

impl ValueType {
    /// All types, at the index of their number in a file.
    pub const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Returns the number that stands for the type in a file.
    #[must_use]
    pub const fn tag(self) -> u32 {
        self as u32
    }

    /// Returns the type that a number in a file stands for.
    #[must_use]
    pub fn from_tag(tag: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(tag).ok()?).copied()
    }

    /// Returns the name in lower case: `u32`, `string`, `array`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Returns the bytes a value takes; `None` for strings and arrays, whose length varies.
    #[must_use]
    pub const fn n_bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The fewest bytes a value takes: a string has a length, an array also a type.
    pub(crate) const fn min_bytes(self) -> u64 {
        match self {
            Self::String => 8,
            Self::Array => 12,
            fixed => match fixed.n_bytes() {
                Some(n_bytes) => n_bytes,
                None => 1,
            },
        }
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>, field: Field<'_>) -> Result<Self, GgufError> {
        let offset = cursor.offset();
        let found = cursor.u32(field)?;
        Self::from_tag(found).ok_or_else(|| GgufError::UnknownValueType {
            field: field.to_string(),
            offset,
            found,
        })
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A metadata value, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `u8`.
    U8(u8),
    /// `i8`.
    I8(i8),
    /// `u16`.
    U16(u16),
    /// `i16`.
    I16(i16),
    /// `u32`.
    U32(u32),
    /// `i32`.
    I32(i32),
    /// `f32`.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(&'a str),
    /// Elements of one type, decoded when they are asked for.
    Array(Array<'a>),
    /// `u64`.
    U64(u64),
    /// `i64`.
    I64(i64),
    /// `f64`.
    F64(f64),
}

impl<'a> Value<'a> {
    /// Returns the value's type.
    #[must_use]
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Returns the value if it is an integer of any width.
    #[must_use]
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => {
                return None;
            }
        })
    }

    /// Says what the value is, for an error message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::String(_) => "string".to_owned(),
            Self::Array(array) => {
                format!("array of {} × {}", array.len(), array.element_type())
            }
            Self::F32(v) => format!("f32 {v}"),
            Self::F64(v) => format!("f64 {v}"),
            Self::Bool(v) => format!("bool {v}"),
            integer => match integer.as_integer() {
                Some(v) => format!("{} {v}", integer.value_type()),
                None => integer.value_type().to_string(),
            },
        }
    }

    /// Reads a value whose type is known. Of an array it reads the header only and leaves
    /// the cursor at the first element.
    pub(crate) fn read(
        cursor: &mut Cursor<'a>,
        ty: ValueType,
        field: Field<'_>,
    ) -> Result<Self, GgufError> {
        Ok(match ty {
            ValueType::U8 => Self::U8(u8::read(cursor, field)?),
            ValueType::I8 => Self::I8(i8::read(cursor, field)?),
            ValueType::U16 => Self::U16(u16::read(cursor, field)?),
            ValueType::I16 => Self::I16(i16::read(cursor, field)?),
            ValueType::U32 => Self::U32(u32::read(cursor, field)?),
            ValueType::I32 => Self::I32(i32::read(cursor, field)?),
            ValueType::F32 => Self::F32(f32::read(cursor, field)?),
            ValueType::Bool => Self::Bool(bool::read(cursor, field)?),
            ValueType::String => Self::String(<&str>::read(cursor, field)?),
            ValueType::Array => Self::Array(Array::read_header(cursor, field)?),
            ValueType::U64 => Self::U64(u64::read(cursor, field)?),
            ValueType::I64 => Self::I64(i64::read(cursor, field)?),
            ValueType::F64 => Self::F64(f64::read(cursor, field)?),
        })
    }

    /// Reads a value and everything inside it, so that all later reads of it succeed.
    pub(crate) fn read_fully(
        cursor: &mut Cursor<'a>,
        ty: ValueType,
        field: Field<'_>,
    ) -> Result<Self, GgufError> {
        let value = Self::read(cursor, ty, field)?;
        if let Self::Array(array) = &value {
            array.walk(cursor, 1, field)?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_the_positions_in_the_list() {
        for (tag, ty) in (0..).zip(ValueType::ALL) {
            assert_eq!(ty.tag(), tag, "{ty}");
            assert_eq!(ValueType::from_tag(tag), Some(ty));
        }
        assert_eq!(ValueType::from_tag(13), None);
    }

    #[test]
    fn fixed_types_read_as_many_bytes_as_they_say() {
        for ty in ValueType::ALL {
            let Some(n_bytes) = ty.n_bytes() else {
                continue;
            };
            let mut cursor = Cursor::new(&[0; 16]);
            let value = Value::read(&mut cursor, ty, Field::header("value")).unwrap();
            assert_eq!((cursor.offset(), value.value_type()), (n_bytes, ty));
        }
    }

    #[test]
    fn a_bool_of_two_is_refused() {
        let read = Value::read(
            &mut Cursor::new(&[2]),
            ValueType::Bool,
            Field::header("value"),
        );
        assert!(matches!(
            read,
            Err(GgufError::InvalidBool {
                offset: 0,
                found: 2,
                ..
            })
        ));
    }
}
