//! What Python and Jinja2 have and the engine lacks, and what the engine has without a bound.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Tuple, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat;
use regex::Regex;

use super::bounds::{fits, weigh};

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Puts all of it into an environment.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.remove_global("debug");
    environment.add_function("cycler", cycler);
    environment.add_function("joiner", |separator: Option<String>| {
        let separator = separator.unwrap_or_else(|| ", ".to_owned());
        Value::from_object(Joiner(separator, AtomicUsize::new(0)))
    });
    environment.add_filter("center", |text: &str, width: Option<usize>| {
        padded(text, width.unwrap_or(80), " ", Side::Both)
    });
    environment.add_filter("replace", replace_filter);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    for name in BOUNDED {
        environment.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            bounded(state, name, &args.into_values())
        });
    }
    environment.add_filter("__indent__", filters::indent);
    environment.add_filter("__join__", filters::join);
    environment.add_filter("__format__", filters::format);
    environment.add_filter("__list__", filters::list);
    environment.add_filter("__string__", filters::string);
    environment.add_filter("__batch__", filters::batch);
    environment.add_filter("__slice__", filters::slice);
    environment.add_filter("__sort__", filters::sort);
    environment.add_filter("__unique__", filters::unique);
    environment.add_filter("__reverse__", filters::reverse);
    environment.add_filter("__map__", filters::map);
    environment.add_filter("__select__", filters::select);
    environment.add_filter("__reject__", filters::reject);
    environment.add_filter("__pprint__", filters::pprint);
}

/// Filters of the engine that make more than they are given, or walk through all of it; the engine's own are
/// kept with lines around their names.
const BOUNDED: [&str; 14] = [
    "indent", "join", "format", "list", "string", "batch", "slice", "sort", "unique", "reverse", "map",
    "select", "reject", "pprint",
];

/// A filter whose result is worked out before it is made.
fn bounded(state: &mut State, name: &str, args: &[Value]) -> Result<Value, Error> {
    let value = args.first();
    let bytes = match value {
        Some(value) => weigh(value)?,
        None => 0,
    };
    let number = |value: &Value| usize::try_from(value.clone()).ok();
    let named = |key: &str| {
        let kwargs = Kwargs::try_from(args.last()?.clone()).ok()?;
        kwargs.get::<Option<Value>>(key).ok().flatten()
    };
    let option = |at: usize, key: &str| {
        args.get(at)
            .cloned()
            .filter(|v| !v.is_kwargs())
            .or_else(|| named(key))
    };
    match name {
        "indent" => {
            let lines = value
                .and_then(Value::as_str)
                .map_or(0, |text| text.lines().count() + 1);
            let width = option(1, "width").as_ref().and_then(number).unwrap_or(4);
            fits(width.saturating_mul(lines).saturating_add(bytes))?;
        }
        "join" => {
            let separator = option(1, "d").and_then(|d| d.as_str().map(str::len)).unwrap_or(0);
            let items = value.and_then(Value::len).unwrap_or(bytes / 16);
            fits(separator.saturating_mul(items).saturating_add(bytes))?;
        }
        "format" => widths(value.and_then(Value::as_str).unwrap_or_default())?,
        "batch" | "slice" => {
            let count = option(1, "count").as_ref().and_then(number).unwrap_or(0);
            fits(count.saturating_mul(24).saturating_add(bytes))?;
        }
        _ => {}
    }
    state.apply_filter(&format!("__{name}__"), args)
}

/// Refuses a width or precision in a format that no text has.
fn widths(format: &str) -> Result<(), Error> {
    static WIDE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[0-9]{5}|[%.][-+ #0]*\*").ok());
    match WIDE.as_ref() {
        Some(wide) if wide.is_match(format) && format.contains(['%', '{']) => {
            Err(wrong("a format with such a width is not filled in"))
        }
        _ => Ok(()),
    }
}

fn replaced(text: &str, old: &str, new: &str, count: Option<usize>) -> Result<String, Error> {
    let most = count.unwrap_or(usize::MAX);
    let times = text.matches(old).take(most).count();
    fits(times.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(text.replacen(old, new, most))
}

fn replace_filter(value: &Value, old: &Value, new: &Value, count: Option<i64>) -> Result<String, Error> {
    weigh(value)?;
    let count = count.and_then(|count| usize::try_from(count).ok());
    replaced(&value.to_string(), &old.to_string(), &new.to_string(), count)
}

/// Jinja2's: no longer than `length` unless it is `leeway` longer at most, cut at a word.
fn truncate(text: &str, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (length, killwords, end, leeway, options): (
        Option<usize>,
        Option<bool>,
        Option<String>,
        Option<usize>,
        Kwargs,
    ) = from_args(&args)?;
    let length = length.or(options.get("length")?).unwrap_or(255);
    let killwords = killwords.or(options.get("killwords")?).unwrap_or(false);
    let end = end.or(options.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = leeway.or(options.get("leeway")?).unwrap_or(5);
    options.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let room = length
        .checked_sub(end.chars().count())
        .ok_or_else(|| wrong(format!("truncate: {length} characters have no room for {end:?}")))?;
    let cut: String = text.chars().take(room).collect();
    let cut = match killwords {
        true => &cut,
        false => cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words),
    };
    Ok(format!("{cut}{end}"))
}

fn wordcount(text: &str) -> usize {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\w+").ok());
    WORD.as_ref().map_or(0, |word| word.find_iter(text).count())
}

#[derive(Debug)]
struct Joiner(String, AtomicUsize);

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let () = from_args(args)?;
        let first = self.1.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(Value::from(if first { "" } else { &self.0 }))
    }
}

#[derive(Debug)]
struct Cycler(Vec<Value>, AtomicUsize);

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    match items.is_empty() {
        true => Err(wrong("cycler: give at least one item")),
        false => Ok(Value::from_object(Cycler(items.0, AtomicUsize::new(0)))),
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.1.load(Ordering::Relaxed);
        (key.as_str() == Some("current")).then(|| self.0[at % self.0.len()].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let () = from_args(args)?;
        match method {
            "next" => Ok(self.0[self.1.fetch_add(1, Ordering::Relaxed) % self.0.len()].clone()),
            "reset" => {
                self.1.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

enum Side {
    Left,
    Right,
    Both,
}

/// `text` with `fill` on these sides until it has `width` characters.
fn padded(text: &str, width: usize, fill: &str, sides: Side) -> Result<String, Error> {
    if fill.chars().count() != 1 {
        return Err(wrong("the fill character must be exactly one character"));
    }
    let missing = width.saturating_sub(text.chars().count());
    fits(missing.saturating_mul(fill.len()).saturating_add(text.len()))?;
    let left = match sides {
        Side::Left => missing,
        Side::Right => 0,
        // as CPython centres: the odd one goes to the left of an odd width
        Side::Both => missing / 2 + (missing & width & 1),
    };
    Ok(format!(
        "{}{text}{}",
        fill.repeat(left),
        fill.repeat(missing - left)
    ))
}

/// Methods of Python's strings, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            if let Some(made) = string_method(text, name, args)? {
                return Ok(made);
            }
        }
        ValueKind::Seq | ValueKind::Iterable => match name {
            "copy" => {
                let () = from_args(args)?;
                return Ok(value.clone());
            }
            "index" => {
                let (item,): (&Value,) = from_args(args)?;
                let at = value.try_iter()?.position(|other| other == *item);
                return at
                    .map(Value::from)
                    .ok_or_else(|| wrong("index: the list does not have the item"));
            }
            _ => {}
        },
        ValueKind::Map if name == "copy" => {
            let () = from_args(args)?;
            return Ok(value.clone());
        }
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// A method of a string; `None` where the engine has it.
fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let list = |parts: Vec<&str>| parts.into_iter().map(Value::from).collect::<Value>();
    let triple = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from).to_vec()));
    let place = |at: usize| text[..at].chars().count();
    Ok(Some(match name {
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = most
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(usize::MAX - 1);
            let mut parts: Vec<&str> = match separator {
                Some("") => return Err(wrong("rsplit: the separator is empty")),
                Some(separator) => text.rsplitn(most.saturating_add(1), separator).collect(),
                None => from_the_right(text, most),
            };
            parts.reverse();
            list(parts)
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(wrong(format!("{name}: the separator is empty")));
            }
            let (found, none) = match name {
                "partition" => (text.split_once(separator), [text, "", ""]),
                _ => (text.rsplit_once(separator), ["", "", text]),
            };
            triple(found.map_or(none, |(head, tail)| [head, separator, tail]))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let sign = &text[..usize::from(text.starts_with(['-', '+']))];
            let digits = padded(
                &text[sign.len()..],
                width.saturating_sub(sign.len()),
                "0",
                Side::Left,
            )?;
            Value::from(format!("{sign}{digits}"))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let sides = match name {
                "ljust" => Side::Right,
                "rjust" => Side::Left,
                _ => Side::Both,
            };
            Value::from(padded(text, width, fill.unwrap_or(" "), sides)?)
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if name == "index" {
                text.find(part)
            } else {
                text.rfind(part)
            };
            Value::from(place(
                at.ok_or_else(|| wrong(format!("{name}: substring not found")))?,
            ))
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase().replace('ß', "ss"))
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swapped = text.chars().flat_map(|c| match c.is_uppercase() {
                true => c.to_lowercase().collect::<Vec<_>>(),
                false => c.to_uppercase().collect(),
            });
            Value::from(swapped.collect::<String>())
        }
        "isdecimal" => {
            let () = from_args(args)?;
            static DIGITS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\d+\z").ok());
            Value::from(DIGITS.as_ref().is_some_and(|digits| digits.is_match(text)))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            Value::from(replaced(text, old, new, count)?)
        }
        "join" => {
            let (values,): (&Value,) = from_args(args)?;
            let items = values.len().unwrap_or(0);
            fits(text.len().saturating_mul(items).saturating_add(weigh(values)?))?;
            return Ok(None);
        }
        "format" => {
            widths(text)?;
            return Ok(None);
        }
        _ => return Ok(None),
    }))
}

/// Words from the last to the first, and what is left of them after `most` cuts.
fn from_the_right(text: &str, most: usize) -> Vec<&str> {
    let mut rest = text.trim_end();
    let mut parts = Vec::new();
    while !rest.is_empty() && parts.len() < most {
        let start = rest
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        parts.push(&rest[start..]);
        rest = rest[..start].trim_end();
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}
