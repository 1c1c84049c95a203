//! What stands around an answer and says nothing: emphasis, quotation marks, tags, end tokens, pictures.

use std::sync::LazyLock;

use regex::Regex;

/// Layers of emphasis that are taken off.
const MAX_LAYERS: usize = 16;

/// Names of tags that may stand around an answer.
const TAGS: [&str; 20] = [
    "b",
    "i",
    "u",
    "s",
    "em",
    "strong",
    "span",
    "p",
    "br",
    "div",
    "code",
    "mark",
    "answer",
    "final_answer",
    "eos",
    "bos",
    "sub",
    "sup",
    "end_of_turn",
    "result",
];

/// A picture: an emoji, a dingbat, a check mark, or what binds them.
fn is_picture(c: char) -> bool {
    matches!(c as u32, 0x1f000..=0x1faff | 0x2600..=0x27bf | 0x2b00..=0x2bff | 0x2300..=0x2307 | 0x231a..=0x23ff | 0xfe0f | 0x200d | 0x20e3)
}

/// Whether this is the inside of a tag: `/b`, `|endoftext|`, `end_of_turn`.
fn is_tag(inner: &str) -> bool {
    if inner.len() > 60 || inner.contains(['<', '>', '\n']) {
        return false;
    }
    if inner.starts_with(['|', '｜']) {
        return inner.ends_with(['|', '｜']) && inner.len() > 2;
    }
    let name = inner
        .trim_matches('/')
        .split(' ')
        .next()
        .unwrap_or("")
        .to_ascii_lowercase();
    TAGS.contains(&name.as_str())
}

/// The text behind a tag that it begins with.
fn after_tag(text: &str) -> Option<&str> {
    let (inner, rest) = text.strip_prefix('<')?.split_once('>')?;
    is_tag(inner).then_some(rest)
}

/// The text before a tag that it ends with.
fn before_tag(text: &str) -> Option<&str> {
    let (rest, inner) = text.strip_suffix('>')?.rsplit_once('<')?;
    is_tag(inner).then_some(rest)
}

/// A value without a remark on how far it was rounded: `(3 s.f.)`, `(to 2 d.p.)`.
fn without_precision(text: &str) -> &str {
    static REMARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\s*\((?:correct\s+|rounded\s+|accurate\s+)?(?:to\s+)?(?:\d+|one|two|three|four)\s*(?:s\.?\s?f\.?|d\.?\s?p\.?|sig\.?\s?figs?\.?|significant\s+(?:figures?|digits?)|decimal\s+places?|decimals?)\)$",
        )
        .expect("a constant pattern")
    });
    if !text.ends_with(')') {
        return text;
    }
    // a remark is short
    let tail = (text.len().saturating_sub(60)..=text.len()).find(|at| text.is_char_boundary(*at));
    let from = tail.unwrap_or(0);
    match REMARK.find(&text[from..]) {
        Some(remark) if from + remark.start() > 0 => &text[..from + remark.start()],
        _ => text,
    }
}

/// An answer without what is only around it. Linear in what is taken off.
pub(super) fn undress(text: &str) -> &str {
    const PAIRS: [(&str, &str); 11] = [
        ("**", "**"),
        ("__", "__"),
        ("`", "`"),
        ("*", "*"),
        ("\"", "\""),
        ("“", "”"),
        ("„", "“"),
        ("«", "»"),
        ("‘", "’"),
        ("「", "」"),
        ("'", "'"),
    ];
    let mut s = text;
    for _ in 0..MAX_LAYERS {
        let before = s.len();
        s = s.trim_matches(|c: char| c.is_whitespace() || is_picture(c));
        s = s.trim_start_matches(['•', '◦', '▪', '‣', '●']);
        while let Some(rest) = after_tag(s) {
            s = rest.trim_start();
        }
        while let Some(rest) = before_tag(s) {
            s = rest.trim_end();
        }
        for (open, close) in PAIRS {
            if let Some(inner) = s.strip_prefix(open).and_then(|inner| inner.strip_suffix(close))
                && !inner.contains(open)
            {
                s = inner;
            }
        }
        // Emphasis whose other end was cut off.
        for mark in ["**", "__", "`"] {
            let outer = s.trim_end_matches(['.', ',', ';', ':']);
            if let Some(inner) = outer.strip_suffix(mark).filter(|inner| !inner.contains(mark)) {
                s = inner;
            }
            if let Some(inner) = s.strip_prefix(mark).filter(|inner| !inner.contains(mark)) {
                s = inner;
            }
        }
        for mark in ['_', '*'] {
            s = s
                .strip_suffix(mark)
                .filter(|inner| !inner.contains(mark))
                .unwrap_or(s);
        }
        s = s.strip_suffix("[/INST]").unwrap_or(s);
        s = without_precision(s);
        if s.len() == before {
            break;
        }
    }
    s
}

#[cfg(test)]
mod tests {
    use super::undress;

    #[test]
    fn what_is_around_an_answer_is_taken_off() {
        for (text, answer) in [
            ("**73** 🎉", "73"),
            ("73**", "73"),
            ("73<|endoftext|>", "73"),
            ("5</s>", "5"),
            ("<b>5</b>", "5"),
            ("5 </answer>", "5"),
            ("`B`", "B"),
            ("“42”", "42"),
            ("✅ 7 ✅", "7"),
            ("• 5", "5"),
            ("x<y>z", "x<y>z"),
            ("2 < x > 1", "2 < x > 1"),
            ("-5", "-5"),
            ("f'", "f'"),
        ] {
            assert_eq!(undress(text), answer, "{text}");
        }
    }
}
