//! Array values: a header and a promise.
//!
//! A vocabulary is an array of 150,000 strings, so arrays stay in the file. [`Array`] knows
//! the element type, the length and where the elements start; they are decoded one by one
//! while iterating. [`Array::walk`] runs over all of them once, when the file is parsed,
//! and after that iterators cannot meet an error.

use std::{fmt, iter::FusedIterator, marker::PhantomData};

use crate::{
    Element, GgufError, MAX_ARRAY_DEPTH, Value, ValueType,
    cursor::{Cursor, Field},
    element::sealed::Decode,
};

/// Why decoding an element cannot fail.
const PROVEN: &str = "every element was read once when the file was parsed";

/// What such a read is about, should it fail all the same.
const ELEMENT: Field<'static> = Field::header("array element");

/// An array in the metadata, borrowed from the file.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    element_type: ValueType,
    len: usize,
    elements: Cursor<'a>,
}

impl<'a> Array<'a> {
    /// Returns the number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the type that all elements have.
    #[must_use]
    pub const fn element_type(&self) -> ValueType {
        self.element_type
    }

    /// Iterates over the elements as values.
    #[must_use]
    pub const fn iter(&self) -> ArrayIter<'a> {
        ArrayIter {
            element_type: self.element_type,
            left: self.len,
            cursor: self.elements,
        }
    }

    /// Iterates over the elements as `T`, or returns `None` if they are of another type.
    ///
    /// The types must be equal; [`FromValue`](crate::FromValue) is the way to convert.
    #[must_use]
    pub fn elements<T: Element<'a>>(&self) -> Option<Elements<'a, T>> {
        (self.element_type == T::TYPE).then_some(Elements {
            left: self.len,
            cursor: self.elements,
            element: PhantomData,
        })
    }

    /// Iterates over the strings, or returns `None` if the elements are of another type.
    #[must_use]
    pub fn strings(&self) -> Option<Elements<'a, &'a str>> {
        self.elements()
    }

    /// Returns the elements as they lie in the file, little-endian; `None` for strings and
    /// arrays, whose elements vary in length.
    #[must_use]
    pub fn raw(&self) -> Option<&'a [u8]> {
        let n_bytes = usize::try_from(self.element_type.n_bytes()?).ok()?;
        self.elements.rest().get(..self.len * n_bytes)
    }

    /// Reads element type and length, and leaves the cursor at the first element.
    pub(crate) fn read_header(
        cursor: &mut Cursor<'a>,
        field: Field<'_>,
    ) -> Result<Self, GgufError> {
        let element_type = ValueType::read(cursor, field)?;
        let len = cursor.count(element_type.min_bytes(), field)?;
        Ok(Self {
            element_type,
            len,
            elements: *cursor,
        })
    }

    /// Reads every element, from a cursor at the first one to behind the last.
    ///
    /// `depth` is 1 for an array that lies in no other.
    pub(crate) fn walk(
        &self,
        cursor: &mut Cursor<'a>,
        depth: usize,
        field: Field<'_>,
    ) -> Result<(), GgufError> {
        match self.element_type {
            ValueType::Array if depth == MAX_ARRAY_DEPTH && self.len > 0 => {
                return Err(GgufError::NestingTooDeep {
                    field: field.to_string(),
                    offset: cursor.offset(),
                    limit: MAX_ARRAY_DEPTH,
                });
            }
            ValueType::Array => {
                for _ in 0..self.len {
                    Self::read_header(cursor, field)?.walk(cursor, depth + 1, field)?;
                }
            }
            ValueType::String => {
                for _ in 0..self.len {
                    <&str>::read(cursor, field)?;
                }
            }
            ValueType::Bool => {
                for _ in 0..self.len {
                    bool::read(cursor, field)?;
                }
            }
            number => {
                // The length was bounded by the bytes left, so this cannot wrap.
                cursor.take(self.len as u64 * number.min_bytes(), field)?;
            }
        }
        Ok(())
    }
}

impl PartialEq for Array<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.element_type == other.element_type
            && self.len == other.len
            && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Array<'_> {
    /// Shows at most eight elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {} ", self.len, self.element_type)?;
        let mut list = f.debug_list();
        list.entries(self.iter().take(8));
        if self.len > 8 {
            list.finish_non_exhaustive()
        } else {
            list.finish()
        }
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Array<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

/// Iterates over the elements of an [`Array`] as [`Value`]s.
#[derive(Clone)]
pub struct ArrayIter<'a> {
    element_type: ValueType,
    left: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let value = match self.element_type {
            // Most arrays that are iterated over are vocabularies.
            ValueType::String => <&str>::read(&mut self.cursor, ELEMENT).map(Value::String),
            other => Value::read_fully(&mut self.cursor, other, ELEMENT),
        };
        Some(value.expect(PROVEN))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ArrayIter<'_> {}
impl FusedIterator for ArrayIter<'_> {}

impl fmt::Debug for ArrayIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArrayIter({} × {} left)", self.left, self.element_type)
    }
}

/// Iterates over the elements of an [`Array`] as `T`.
pub struct Elements<'a, T> {
    left: usize,
    cursor: Cursor<'a>,
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Element<'a>> Iterator for Elements<'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        Some(T::read(&mut self.cursor, ELEMENT).expect(PROVEN))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: Element<'a>> ExactSizeIterator for Elements<'a, T> {}
impl<'a, T: Element<'a>> FusedIterator for Elements<'a, T> {}

impl<T> Clone for Elements<'_, T> {
    fn clone(&self) -> Self {
        Self {
            left: self.left,
            cursor: self.cursor,
            element: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Elements<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Elements({} left)", self.left)
    }
}
