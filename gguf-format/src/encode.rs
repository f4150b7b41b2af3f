//! Values on their way into a file.

use crate::{Value, ValueType};

/// A Rust type that can be written as a metadata value.
///
/// Implemented for the integers from `u8` to `i64`, `f32`, `f64`, `bool`, strings, and for
/// slices, arrays and vectors of these, also of slices, arrays and vectors. No other type
/// can implement it, so what is written is always well formed.
pub trait Encode: sealed::Sealed {
    /// The type in the file.
    const TYPE: ValueType;

    /// How many arrays lie inside each other; 0 for a single value.
    const DEPTH: usize;

    /// Appends the value as it lies in a file, without its type.
    fn encode(&self, out: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! encode_number {
    ($($rust:ty => $name:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Encode for $rust {
            const TYPE: ValueType = ValueType::$name;
            const DEPTH: usize = 0;

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}

encode_number! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f32 => F32, f64 => F64,
}

impl sealed::Sealed for bool {}
impl Encode for bool {
    const TYPE: ValueType = ValueType::Bool;
    const DEPTH: usize = 0;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl sealed::Sealed for str {}
impl Encode for str {
    const TYPE: ValueType = ValueType::String;
    const DEPTH: usize = 0;

    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        out.extend(self.as_bytes());
    }
}

impl sealed::Sealed for String {}
impl Encode for String {
    const TYPE: ValueType = ValueType::String;
    const DEPTH: usize = 0;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {}
impl<T: Encode + ?Sized> Encode for &T {
    const TYPE: ValueType = T::TYPE;
    const DEPTH: usize = T::DEPTH;

    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: sealed::Sealed> sealed::Sealed for [T] {}
impl<T: Encode> Encode for [T] {
    const TYPE: ValueType = ValueType::Array;
    const DEPTH: usize = 1 + T::DEPTH;

    fn encode(&self, out: &mut Vec<u8>) {
        encode_array_header(T::TYPE, self.len(), out);
        for element in self {
            element.encode(out);
        }
    }
}

impl<T: sealed::Sealed, const N: usize> sealed::Sealed for [T; N] {}
impl<T: Encode, const N: usize> Encode for [T; N] {
    const TYPE: ValueType = ValueType::Array;
    const DEPTH: usize = 1 + T::DEPTH;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: sealed::Sealed> sealed::Sealed for Vec<T> {}
impl<T: Encode> Encode for Vec<T> {
    const TYPE: ValueType = ValueType::Array;
    const DEPTH: usize = 1 + T::DEPTH;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

/// Appends a value read from another file.
pub(crate) fn encode_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::U8(v) => v.encode(out),
        Value::I8(v) => v.encode(out),
        Value::U16(v) => v.encode(out),
        Value::I16(v) => v.encode(out),
        Value::U32(v) => v.encode(out),
        Value::I32(v) => v.encode(out),
        Value::F32(v) => v.encode(out),
        Value::Bool(v) => v.encode(out),
        Value::String(v) => v.encode(out),
        Value::U64(v) => v.encode(out),
        Value::I64(v) => v.encode(out),
        Value::F64(v) => v.encode(out),
        Value::Array(array) => {
            encode_array_header(array.element_type(), array.len(), out);
            match array.raw() {
                Some(elements) => out.extend(elements),
                None => array.iter().for_each(|element| encode_value(&element, out)),
            }
        }
    }
}

fn encode_array_header(element_type: ValueType, len: usize, out: &mut Vec<u8>) {
    element_type.tag().encode(out);
    (len as u64).encode(out);
}
