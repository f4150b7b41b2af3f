//! The Rust types that array elements have, and how one is decoded.

use crate::{
    Array, GgufError, Value, ValueType,
    cursor::{Cursor, Field},
};

/// A Rust type that array elements can be read as without conversion.
///
/// Implemented for the integers from `u8` to `i64`, `f32`, `f64`, `bool`, `&str` and
/// [`Array`]; no other type can implement it.
pub trait Element<'a>: sealed::Decode<'a> {
    /// The type in the file.
    const TYPE: ValueType;
}

pub(crate) mod sealed {
    use super::{Cursor, Field, GgufError, Value};

    pub trait Decode<'a>: Sized {
        /// Reads one element and moves behind it.
        fn read(cursor: &mut Cursor<'a>, field: Field<'_>) -> Result<Self, GgufError>;

        /// The value, if it is of this type.
        fn of(value: Value<'a>) -> Option<Self>;
    }
}

macro_rules! number {
    ($($rust:ty => $name:ident),* $(,)?) => {$(
        impl<'a> Element<'a> for $rust {
            const TYPE: ValueType = ValueType::$name;
        }

        impl<'a> sealed::Decode<'a> for $rust {
            #[inline]
            fn read(cursor: &mut Cursor<'a>, field: Field<'_>) -> Result<Self, GgufError> {
                cursor.fixed(field).map(Self::from_le_bytes)
            }

            fn of(value: Value<'a>) -> Option<Self> {
                if let Value::$name(v) = value { Some(v) } else { None }
            }
        }
    )*};
}

number! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f32 => F32, f64 => F64,
}

impl<'a> Element<'a> for bool {
    const TYPE: ValueType = ValueType::Bool;
}

impl<'a> sealed::Decode<'a> for bool {
    fn read(cursor: &mut Cursor<'a>, field: Field<'_>) -> Result<Self, GgufError> {
        let offset = cursor.offset();
        match cursor.fixed(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(GgufError::InvalidBool {
                field: field.to_string(),
                offset,
                found,
            }),
        }
    }

    fn of(value: Value<'a>) -> Option<Self> {
        if let Value::Bool(v) = value {
            Some(v)
        } else {
            None
        }
    }
}

impl<'a> Element<'a> for &'a str {
    const TYPE: ValueType = ValueType::String;
}

impl<'a> sealed::Decode<'a> for &'a str {
    #[inline]
    fn read(cursor: &mut Cursor<'a>, field: Field<'_>) -> Result<Self, GgufError> {
        cursor.string(field)
    }

    fn of(value: Value<'a>) -> Option<Self> {
        if let Value::String(v) = value {
            Some(v)
        } else {
            None
        }
    }
}

impl<'a> Element<'a> for Array<'a> {
    const TYPE: ValueType = ValueType::Array;
}

impl<'a> sealed::Decode<'a> for Array<'a> {
    fn read(cursor: &mut Cursor<'a>, field: Field<'_>) -> Result<Self, GgufError> {
        let array = Self::read_header(cursor, field)?;
        array.walk(cursor, 1, field)?;
        Ok(array)
    }

    fn of(value: Value<'a>) -> Option<Self> {
        if let Value::Array(v) = value {
            Some(v)
        } else {
            None
        }
    }
}
