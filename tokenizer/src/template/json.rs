//! The filter `tojson` as transformers defines it: Python's `json.dumps` without escapes for
//! HTML and with characters beyond ASCII as they are.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};

/// How deep lists and maps may lie in each other.
const MAX_DEPTH: usize = 256;

/// How values are laid out.
struct Layout {
    /// What each level is indented by; `None` writes one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
    ensure_ascii: bool,
}

/// Writes a value as JSON; the arguments are those of transformers, by name.
#[expect(clippy::needless_pass_by_value, reason = "filters own their arguments")]
pub(super) fn tojson(state: &State<'_, '_>, value: &Value, args: Kwargs) -> Result<String, Error> {
    let mut writer = Writer {
        state,
        layout: Layout::new(&args)?,
        out: String::new(),
        paid: 0,
    };
    args.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(writer.out)
}

impl Layout {
    fn new(args: &Kwargs) -> Result<Self, Error> {
        let indent: Option<Value> = args.get("indent")?;
        let indent = match indent.filter(|indent| !indent.is_none()) {
            None => None,
            Some(indent) => Some(match indent.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(u8::try_from(indent)?.into()),
            }),
        };
        let separators: Option<Vec<String>> = args.get("separators")?;
        let (item_separator, key_separator) = match separators.as_deref() {
            Some([item, key]) => (item.clone(), key.clone()),
            Some(_) => return Err(fault("tojson: separators are two texts")),
            None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
        };
        let flag = |name: &str| {
            args.get::<Option<bool>>(name)
                .map(Option::unwrap_or_default)
        };
        Ok(Self {
            indent,
            item_separator,
            key_separator,
            sort_keys: flag("sort_keys")?,
            ensure_ascii: flag("ensure_ascii")?,
        })
    }
}

struct Writer<'w, 's, 'e> {
    state: &'w State<'s, 'e>,
    layout: Layout,
    out: String,
    /// How much of `out` was paid for in fuel.
    paid: usize,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(fault("tojson: nested too deep"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            kind => return Err(fault(format!("tojson: {kind} is no JSON value"))),
        }
        self.pay()
    }

    fn list(&mut self, list: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut is_empty = true;
        for item in list.try_iter()? {
            self.separate(is_empty, depth + 1);
            is_empty = false;
            self.value(&item, depth + 1)?;
        }
        self.close(']', is_empty, depth);
        Ok(())
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.layout.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        let is_empty = keys.is_empty();
        for (i, key) in keys.iter().enumerate() {
            self.separate(i == 0, depth + 1);
            self.key(key)?;
            self.out.push_str(&self.layout.key_separator);
            self.value(&map.get_item(key)?, depth + 1)?;
        }
        self.close('}', is_empty, depth);
        Ok(())
    }

    /// A key; other scalars become strings, as in Python.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                self.out.push('"');
                self.value(key, MAX_DEPTH)?;
                self.out.push('"');
            }
            kind => return Err(fault(format!("tojson: {kind} cannot be a key"))),
        }
        Ok(())
    }

    fn number(&mut self, number: &Value) -> Result<(), Error> {
        if number.is_integer() {
            self.out += &number.to_string();
        } else {
            self.out += &float(f64::try_from(number.clone())?);
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.layout.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out += &format!("\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn separate(&mut self, is_first: bool, depth: usize) {
        if !is_first {
            self.out.push_str(&self.layout.item_separator);
        }
        self.line(depth);
    }

    fn close(&mut self, bracket: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.layout.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    /// Takes fuel for what was written since the last call, and for the value itself.
    fn pay(&mut self) -> Result<(), Error> {
        let n_bytes = self.out.len() - self.paid;
        self.paid = self.out.len();
        self.state.consume_fuel(1 + n_bytes as u64 / 64)
    }
}

/// A float as Python's `repr` writes it: the shortest digits, with an exponent below 1e-4 and
/// from 1e16.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..16 => format!("{value:?}"),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
    }
}

fn fault(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_does() {
        struct Case {
            value: f64,
            text: &'static str,
        }
        let cases = [
            Case {
                value: 0.0,
                text: "0.0",
            },
            Case {
                value: -0.0,
                text: "-0.0",
            },
            Case {
                value: 1.0,
                text: "1.0",
            },
            Case {
                value: 0.1,
                text: "0.1",
            },
            Case {
                value: 1e-4,
                text: "0.0001",
            },
            Case {
                value: 1.5e-5,
                text: "1.5e-05",
            },
            Case {
                value: 123_456_789_012_345_680.0,
                text: "1.2345678901234568e+17",
            },
            Case {
                value: 1e15,
                text: "1000000000000000.0",
            },
            Case {
                value: 1e16,
                text: "1e+16",
            },
            Case {
                value: 1e300,
                text: "1e+300",
            },
            Case {
                value: f64::NEG_INFINITY,
                text: "-Infinity",
            },
        ];
        for Case { value, text } in cases {
            assert_eq!(float(value), text);
        }
    }
}
