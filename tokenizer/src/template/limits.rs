//! How much a template may do, and the means that hold it to that.

use std::io;

use serde_json::{Map, Value};

use crate::TemplateError;

/// The longest source; real templates have up to 20 KB.
pub(super) const MAX_SOURCE_BYTES: usize = 256 << 10;

/// The longest text; a million tokens are about 4 MB.
pub(super) const MAX_OUTPUT_BYTES: usize = 32 << 20;

/// How deep macros and loops may lie in each other at run time.
pub(super) const MAX_DEPTH: usize = 100;

/// Stack for compiling: 4 KiB for each of 16,384 levels, far above what [`super::guard`] lets
/// an expression nest. Only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;

/// What one rendering may spend; it grows with the conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// minijinja's fuel: about one for each instruction or 64 bytes of data.
    pub(super) steps: u64,
    /// The largest list or map that the template may build, all levels together.
    pub(super) value: Size,
}

impl Budget {
    pub(super) fn of(context: &Map<String, Value>, n_messages: usize) -> Self {
        let size = context
            .values()
            .map(Size::of)
            .fold(Size::default(), Size::plus);
        Self {
            steps: 250_000 + 2_000 * n_messages as u64 + size.bytes as u64,
            value: size.plus(Size {
                bytes: 64 << 10,
                parts: 1024,
            }),
        }
    }
}

/// The size of a value: what it takes to write it out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// The length of all strings.
    pub(super) bytes: usize,
    /// The number of values in it, at all levels.
    pub(super) parts: usize,
}

impl Size {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self { bytes: 8, parts: 1 },
            Value::String(text) => Self {
                bytes: text.len(),
                parts: 1,
            },
            Value::Array(items) => {
                let one = Self { bytes: 8, parts: 1 };
                items.iter().map(Self::of).fold(one, Self::plus)
            }
            Value::Object(fields) => {
                fields
                    .iter()
                    .fold(Self { bytes: 8, parts: 1 }, |size, (key, value)| {
                        size.plus(Self::of(value)).plus(Self {
                            bytes: key.len(),
                            parts: 1,
                        })
                    })
            }
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            parts: self.parts + other.parts,
        }
    }
}

/// A text that stops growing at [`MAX_OUTPUT_BYTES`].
#[derive(Debug, Default)]
pub(super) struct LimitedText {
    bytes: Vec<u8>,
    is_full: bool,
}

impl LimitedText {
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn into_string(self) -> String {
        String::from_utf8(self.bytes).expect("a template writes whole strings")
    }
}

impl io::Write for LimitedText {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > MAX_OUTPUT_BYTES - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a function on a stack of its own, for work that recurses as deep as its input nests.
pub(super) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| TemplateError::Thread {
                message: error.to_string(),
            })?;
        thread
            .join()
            .map_err(|panic| std::panic::resume_unwind(panic))
    })
}
