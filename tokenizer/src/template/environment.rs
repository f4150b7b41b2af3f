//! What a template can call: minijinja's built-ins, Python's methods, and what transformers
//! adds (`raise_exception`, `strftime_now`, its own `tojson`).

use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    syntax::SyntaxConfig,
    value::{Rest, ValueKind, ValueOrKwargs, from_args},
};
use minijinja_contrib::pycompat;

use super::{
    Clock, clock, guard, json,
    limits::{self, Size},
};

/// Filters that nest, share or add up values where [`guard`] sees nothing.
const REMOVED_FILTERS: [&str; 7] = ["batch", "slice", "groupby", "zip", "chain", "pprint", "sum"];

/// The longest width that `format` may fill up to, in digits.
const MAX_WIDTH_DIGITS: usize = 4;

/// The bytes that one unit of fuel pays for.
const BYTES_PER_FUEL: usize = 64;

/// The parts of a value that one unit of fuel pays for when they are counted.
const PARTS_PER_FUEL: usize = 16;

/// The template stopped itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

/// A value built by the template is too large.
#[derive(Debug, thiserror::Error)]
#[error("value too large")]
pub(super) struct TooLarge;

/// Returns an environment without templates and without limits on values and steps.
pub(super) fn new(clock: Option<Clock>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("the delimiters are the usual ones"),
    );
    environment.set_recursion_limit(limits::MAX_DEPTH);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(call_method);
    for name in REMOVED_FILTERS {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("reverse", reverse);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| {
        strftime_now(clock, format)
    });
    environment
}

/// Holds what a template builds to a size.
pub(super) fn limit_values(environment: &mut Environment<'_>, limit: Size) {
    let check = move |state: &State<'_, '_>, value: Value| check(state, value, limit);
    environment.add_function(guard::CHECK, check);
    environment.add_filter(guard::CHECK, check);
    environment.add_filter(guard::FACTOR, factor);
    environment.add_function(guard::ASSIGN, assign);
    for name in ["namespace", "dict"] {
        let builtin = environment.globals().find(|(global, _)| *global == name);
        let Some((_, builtin)) = builtin else {
            continue;
        };
        let checked = move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            for arg in &args {
                check(state, arg.clone())?;
            }
            builtin.call(state, &args)
        };
        environment.add_function(name, checked);
    }
    let map = move |state: &mut State<'_, '_>, items: Value, args: Rest<ValueOrKwargs>| {
        let mapped = filters::map(state, items, args)?;
        check(state, mapped.into())
    };
    environment.add_filter("map", map);
}

/// Returns the value if it is no larger than `limit`.
fn check(state: &State<'_, '_>, value: Value, limit: Size) -> Result<Value, Error> {
    let mut left = limit;
    if !fits(&value, &mut left)? {
        return Err(Error::from(ErrorKind::InvalidOperation).with_source(TooLarge));
    }
    state.consume_fuel(((limit.parts - left.parts) / PARTS_PER_FUEL) as u64)?;
    Ok(value)
}

/// Counts the size of a list or map down; false when nothing is left.
///
/// The recursion ends: each level takes a part, and a value grew through this check itself or
/// came with the conversation.
fn fits(value: &Value, left: &mut Size) -> Result<bool, Error> {
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(true);
    }
    refuse_namespace(value)?;
    for item in value.try_iter()? {
        if !takes(&item, left)? || (is_map && !takes(&value.get_item(&item)?, left)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Counts one part of a list or map down.
fn takes(part: &Value, left: &mut Size) -> Result<bool, Error> {
    let n_bytes = part.as_str().map_or(0, str::len);
    if left.parts == 0 || left.bytes < n_bytes {
        return Ok(false);
    }
    left.parts -= 1;
    left.bytes -= n_bytes;
    fits(part, left)
}

/// Returns what may be multiplied: numbers and strings, whose growth is counted.
fn factor(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let message = "lists cannot be repeated";
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
        _ => Ok(value),
    }
}

/// Returns what may be kept under a name; a slice is made a list of its own.
fn assign(state: &State<'_, '_>, value: Value, is_slice: Option<bool>) -> Result<Value, Error> {
    refuse_namespace(&value)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if is_slice == Some(true) => list(state, &value),
        _ => Ok(value),
    }
}

fn refuse_namespace(value: &Value) -> Result<(), Error> {
    if is_namespace(value) {
        let message = "a namespace cannot be part of another value";
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(())
}

/// Namespaces are the only values that change, so only they can come to hold themselves.
fn is_namespace(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// As in jinja2: whatever Python's `iter` takes, so not `none`.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// As in jinja2: whatever has a length and subscripts, so strings and maps too.
fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Bytes, Map, Seq, String};
    matches!(value.kind(), Bytes | Map | Seq | String)
}

/// Python's methods of strings, maps and lists, with those that multiply text paid first.
fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if method == "count" && value.kind() == ValueKind::Seq {
        state.consume_fuel(value.len().unwrap_or(0) as u64)?;
    }
    if let Some(text) = value.as_str() {
        let n_bytes = match method {
            "replace" => replaced_len(text, args)?,
            "join" => joined_len(state, text, args)?,
            "format" => formatted_len(text)?,
            _ => text.len(),
        };
        state.consume_fuel((n_bytes / BYTES_PER_FUEL) as u64)?;
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

fn replaced_len(text: &str, args: &[Value]) -> Result<usize, Error> {
    let (old, new, _): (&str, &str, Option<i64>) = from_args(args)?;
    Ok(text.len() + text.matches(old).count().saturating_mul(new.len()))
}

fn joined_len(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<usize, Error> {
    let (items,): (&Value,) = from_args(args)?;
    let mut n_bytes = 0_usize;
    for item in items.try_iter()? {
        state.consume_fuel(1)?;
        let len = item.as_str().map_or(0, str::len);
        n_bytes = n_bytes.saturating_add(text.len() + len);
    }
    Ok(n_bytes)
}

fn formatted_len(text: &str) -> Result<usize, Error> {
    let mut runs = text.split(|c: char| !c.is_ascii_digit()).map(str::len);
    if runs.any(|len| len > MAX_WIDTH_DIGITS) {
        return Err(Error::new(ErrorKind::InvalidOperation, "too large a width"));
    }
    // Each byte may be part of a field that is as wide as it can be.
    let n_fields = text.matches('{').count();
    Ok(text.len() + n_fields * 10_usize.pow(4))
}

/// Turns a string or a sequence round, at once: a chain of views would nest without limit.
fn reverse(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().rev().collect::<String>().into());
    }
    let mut items = items(state, value)?;
    items.reverse();
    Ok(items.into())
}

fn list(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    items(state, value).map(Value::from)
}

fn items(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        items.push(item);
    }
    Ok(items)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn strftime_now(clock: Option<Clock>, format: &str) -> Result<String, Error> {
    let failed = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let now = clock.ok_or_else(|| failed("strftime_now: no clock was given".to_owned()))?();
    clock::strftime(now, format).map_err(failed)
}
