//! Numbers and names as people write and read them: the same in tables, notes and reports.

/// A number with commas between thousands: `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    grouped(&n.to_string())
}

/// Digits in groups of three.
pub(crate) fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Most characters of a text from elsewhere that stand in a message.
const SHOWN: usize = 300;

/// A text from an engine, a template or a file as it may stand in a message: what could command a terminal is
/// escaped, and what is too long is cut.
pub(crate) fn shown(text: &str) -> String {
    let cut = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
    let more = if cut < text.len() { "..." } else { "" };
    format!("{}{more}", escaped(&text[..cut]))
}

/// The text with its control characters as escapes, and those that turn the direction of writing.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            c if c.is_control() || turns => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// `1 problem`, `2 problems`.
pub(crate) fn plural(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = n as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `0.714` as `71 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Seconds in the unit that suits them.
pub(crate) fn seconds(s: f64) -> String {
    match s {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// `a, b or c`.
pub(crate) fn any_of(names: &[&str]) -> String {
    match names {
        [names @ .., before, last] => [names, &[&format!("{before} or {last}")]].concat().join(", "),
        one => one.concat(),
    }
}

/// The name among `known` that is spelt most like `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .min_by_key(|k| strsim::damerau_levenshtein(name, k))
}

/// The name among `known` that `name` is a slip of: of its letters at most a third are others.
pub(crate) fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, known).filter(|k| strsim::damerau_levenshtein(name, k) * 3 <= k.len())
}

/// Three digits that matter, or all before the point.
pub(crate) fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => count(v.round() as u64),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_from_elsewhere_cannot_command_a_terminal() {
        use super::shown;
        assert_eq!(shown("plain \u{e9} \u{1f600}"), "plain \u{e9} \u{1f600}");
        assert_eq!(
            shown("\u{1b}]0;x\u{7}\u{1b}[2J\n\0\u{9b}"),
            "\\u{1b}]0;x\\u{7}\\u{1b}[2J\\n\\u{0}\\u{9b}"
        );
        assert_eq!(shown("a\u{202e}b"), "a\\u{202e}b");
        let long = shown(&"\u{1b}[31m".repeat(100_000));
        assert!(long.len() < 1000 && long.ends_with("...") && !long.contains('\u{1b}'));
    }

    use super::*;

    #[test]
    fn names_are_listed_and_slips_are_found() {
        assert_eq!(
            [&["a"][..], &["a", "b"], &["a", "b", "c"]].map(any_of),
            ["a", "a or b", "a, b or c"]
        );
        assert_eq!(meant("tracse", ["slots", "traces"]), Some("traces"));
        assert_eq!(meant("tracse", ["slots", "seed"]), None);
        assert_eq!(nearest("tracse", ["slots", "seed"]), Some("slots"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"].map(str::to_owned),
            [0, 999, 1000, 1_234_567].map(count)
        );
        assert_eq!(
            (bytes(1023), bytes(1536), bytes(300 << 20)),
            ("1023 B".to_owned(), "1.5 KiB".to_owned(), "300 MiB".to_owned())
        );
    }
}
