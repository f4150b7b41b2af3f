//! Conversion of metadata values to the types that callers want.
//!
//! Writers disagree about widths (`u32` here, `u64` or `i32` there), so an integer is taken
//! from any integer type that holds it exactly. Nothing is rounded or wrapped.

use crate::{Array, Element, Elements, Value, element::sealed::Decode};

/// A Rust type that a metadata value can be read as.
///
/// Integers accept any integer type whose value fits; `f64` also accepts `f32`, and `f32`
/// an `f64` that it holds exactly. `Vec<T>` accepts an array whose elements all convert.
pub trait FromValue<'a>: Sized {
    /// Says in words what is accepted, for error messages.
    fn expected() -> String;

    /// Converts the value.
    ///
    /// # Errors
    /// [`Mismatch`] says whether the type or only the value is wrong.
    fn from_value(value: Value<'a>) -> Result<Self, Mismatch>;
}

/// Why a value was not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The value is of another kind.
    Type,
    /// The value is of the right kind, but the target cannot hold it.
    Range,
}

macro_rules! integer {
    ($($rust:ty),*) => {$(
        impl<'a> FromValue<'a> for $rust {
            fn expected() -> String {
                stringify!($rust).to_owned()
            }

            fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
                let integer = value.as_integer().ok_or(Mismatch::Type)?;
                Self::try_from(integer).map_err(|_| Mismatch::Range)
            }
        }
    )*};
}

integer!(u8, i8, u16, i16, u32, i32, u64, i64, usize);

impl<'a> FromValue<'a> for f32 {
    fn expected() -> String {
        "f32".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        match value {
            Value::F32(v) => Ok(v),
            Value::F64(v) => narrow(v).ok_or(Mismatch::Range),
            _ => Err(Mismatch::Type),
        }
    }
}

/// The `f32` that is equal to `v`, if there is one.
fn narrow(v: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "the next line compares")]
    let narrow = v as f32;
    (f64::from(narrow) == v || v.is_nan()).then_some(narrow)
}

impl<'a> FromValue<'a> for f64 {
    fn expected() -> String {
        "f64".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        match value {
            Value::F32(v) => Ok(v.into()),
            Value::F64(v) => Ok(v),
            _ => Err(Mismatch::Type),
        }
    }
}

impl<'a> FromValue<'a> for bool {
    fn expected() -> String {
        "bool".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        Self::of(value).ok_or(Mismatch::Type)
    }
}

impl<'a> FromValue<'a> for &'a str {
    fn expected() -> String {
        "string".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        Self::of(value).ok_or(Mismatch::Type)
    }
}

impl<'a> FromValue<'a> for String {
    fn expected() -> String {
        "string".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        <&str>::from_value(value).map(Self::from)
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    fn expected() -> String {
        "array".to_owned()
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        Self::of(value).ok_or(Mismatch::Type)
    }
}

impl<'a, T: Element<'a>> FromValue<'a> for Elements<'a, T> {
    fn expected() -> String {
        format!("array of {}", T::TYPE)
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        Array::from_value(value)?.elements().ok_or(Mismatch::Type)
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn expected() -> String {
        format!("array of {}", T::expected())
    }

    fn from_value(value: Value<'a>) -> Result<Self, Mismatch> {
        Array::from_value(value)?
            .iter()
            .map(T::from_value)
            .collect()
    }
}

impl<'a> FromValue<'a> for Value<'a> {
    fn expected() -> String {
        "any value".to_owned()
    }

    fn from_value(value: Self) -> Result<Self, Mismatch> {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_taken_from_every_width_that_fits() {
        for value in [
            Value::U8(7),
            Value::I16(7),
            Value::I32(7),
            Value::U64(7),
            Value::I64(7),
        ] {
            assert_eq!(u32::from_value(value), Ok(7), "{value:?}");
            assert_eq!(i8::from_value(value), Ok(7), "{value:?}");
        }
        assert_eq!(u32::from_value(Value::I32(-1)), Err(Mismatch::Range));
        assert_eq!(u8::from_value(Value::U32(256)), Err(Mismatch::Range));
        assert_eq!(i64::from_value(Value::U64(u64::MAX)), Err(Mismatch::Range));
        assert_eq!(u32::from_value(Value::F32(7.0)), Err(Mismatch::Type));
        assert_eq!(u32::from_value(Value::Bool(true)), Err(Mismatch::Type));
    }

    #[test]
    fn floats_widen_and_narrow_only_when_nothing_is_lost() {
        assert_eq!(f64::from_value(Value::F32(0.1)), Ok(f64::from(0.1_f32)));
        assert_eq!(f32::from_value(Value::F64(0.5)), Ok(0.5));
        assert_eq!(f32::from_value(Value::F64(0.1)), Err(Mismatch::Range));
        assert_eq!(f32::from_value(Value::F64(1e300)), Err(Mismatch::Range));
        assert_eq!(f32::from_value(Value::U32(1)), Err(Mismatch::Type));
    }

    #[test]
    fn expectations_name_the_element() {
        assert_eq!(Vec::<Vec<u32>>::expected(), "array of array of u32");
        assert_eq!(Elements::<&str>::expected(), "array of string");
    }
}
