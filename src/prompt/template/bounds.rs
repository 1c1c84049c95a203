//! What one rendering may take: instructions, bytes of its values, bytes that it writes, depth of its values.

use std::cell::RefCell;

use minijinja::value::{Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};

/// Instructions of a rendering, and those that each message adds.
const FUEL: u64 = 2_000_000;
const FUEL_A_MESSAGE: u64 = 2_000;
/// Bytes that a value may have beyond what it can be made of.
const SPARE: usize = 8 << 20;
/// How deep lists and dictionaries may stand in each other.
const DEPTH: usize = 100;

/// What is left of a rendering's share.
#[derive(Clone, Copy, Default)]
pub(super) struct Share {
    /// Bytes of one value.
    value: usize,
    /// Bytes that may still be given names.
    kept: usize,
    /// Bytes that may still be written.
    written: usize,
    /// The day that the template's clock shows, where it stands still.
    pub(super) date: Option<jiff::civil::Date>,
}

thread_local! {
    /// The share of the rendering on this thread; each has a thread of its own.
    static SHARE: RefCell<Share> = RefCell::default();
}

/// Begins a rendering on this thread for `bytes` of messages and variables.
pub(super) fn begin(bytes: usize, date: Option<jiff::civil::Date>) {
    let value = bytes.saturating_mul(4).saturating_add(SPARE);
    SHARE.set(Share {
        value,
        kept: value.saturating_mul(128),
        written: value.saturating_mul(8),
        date,
    });
}

/// Instructions for a conversation of so many messages.
pub(super) fn fuel(messages: usize) -> u64 {
    FUEL + FUEL_A_MESSAGE * messages as u64
}

/// The day that the template's clock shows, where it stands still.
pub(super) fn date() -> Option<jiff::civil::Date> {
    SHARE.with_borrow(|share| share.date)
}

fn refuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Whether a text of so many bytes may be made.
pub(in crate::prompt) fn fits(bytes: usize) -> Result<(), Error> {
    let most = SHARE.with_borrow(|share| share.value);
    if bytes > most {
        return Err(refuse(format!(
            "it makes a value of more than {} MiB",
            most >> 20
        )));
    }
    Ok(())
}

fn spend(bytes: usize, of: impl Fn(&mut Share) -> &mut usize, what: &str) -> Result<(), Error> {
    SHARE.with_borrow_mut(|share| {
        let left = of(share);
        *left = left.checked_sub(bytes).ok_or_else(|| refuse(what))?;
        Ok(())
    })
}

/// Counts bytes that are written.
fn write(bytes: usize) -> Result<(), Error> {
    spend(bytes, |share| &mut share.written, "it writes without end")
}

/// Bytes of a value, with all that it holds as often as it holds it.
pub(super) fn weigh(value: &Value) -> Result<usize, Error> {
    let most = SHARE.with_borrow(|share| share.value);
    let mut left = most;
    weigh_into(value, DEPTH, &mut left, false).map_err(|what| match what {
        TooMuch::Bytes => refuse(format!("it makes a value of more than {} MiB", most >> 20)),
        TooMuch::Depth => refuse(format!("it makes a value that is nested more than {DEPTH} deep")),
        TooMuch::Namespace => refuse(INSIDE),
        TooMuch::Broken(error) => error,
    })?;
    Ok(most - left)
}

const INSIDE: &str = "it puts a namespace into a namespace, where it could hold itself";

enum TooMuch {
    Bytes,
    Depth,
    Namespace,
    Broken(Error),
}

fn weigh_into(value: &Value, depth: usize, left: &mut usize, flat: bool) -> Result<(), TooMuch> {
    let own = 16 + value.as_str().map_or(0, str::len);
    *left = left.checked_sub(own).ok_or(TooMuch::Bytes)?;
    let kind = value.kind();
    let Some(object) = value
        .as_object()
        .filter(|_| matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable))
    else {
        return Ok(());
    };
    let name = object.type_name();
    if name.ends_with("::Loop") || name.ends_with("::Macro") || name.ends_with("::Module") {
        return Ok(());
    }
    if flat && name.ends_with("::Namespace") {
        return Err(TooMuch::Namespace);
    }
    let depth = depth.checked_sub(1).ok_or(TooMuch::Depth)?;
    for item in value.try_iter().map_err(TooMuch::Broken)?.checked() {
        let item = item.map_err(TooMuch::Broken)?;
        weigh_into(&item, depth, left, flat)?;
        if kind == ValueKind::Map {
            let held = value.get_item(&item).map_err(TooMuch::Broken)?;
            weigh_into(&held, depth, left, flat)?;
        }
    }
    Ok(())
}

/// One value, or several as a tuple.
fn single(values: Vec<Value>) -> Value {
    match <[Value; 1]>::try_from(values) {
        Ok([value]) => value,
        Err(several) => Value::from(Tuple::from(several)),
    }
}

fn kept(values: Rest<Value>) -> Result<Value, Error> {
    let value = single(values.0);
    let bytes = weigh(&value)?;
    spend(bytes, |share| &mut share.kept, "it fills memory without end")?;
    Ok(value)
}

fn stored(values: Rest<Value>) -> Result<Value, Error> {
    let value = kept(values)?;
    let mut left = usize::MAX;
    match weigh_into(&value, DEPTH, &mut left, true) {
        Err(TooMuch::Namespace) => Err(refuse(INSIDE)),
        _ => Ok(value),
    }
}

fn seen(value: Value) -> Result<Value, Error> {
    weigh(&value)?;
    Ok(value)
}

/// Puts the guards that `source` writes into an environment, and the one of what is written.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_function("__kept__", kept);
    environment.add_filter("__kept__", kept);
    environment.add_function("__stored__", stored);
    environment.add_function("__seen__", seen);
    environment.add_function("__wrote__", |bytes: usize| write(bytes).map(|()| ""));
    environment.set_formatter(|out: &mut Output, state: &mut State, value: &Value| {
        write(match value.as_str() {
            Some(text) => text.len(),
            None => weigh(value)?,
        })?;
        escape_formatter(out, state, value)
    });
}
