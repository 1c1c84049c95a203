//! Text of models and of strangers, made harmless before it is shown.

/// Every character that commands instead of showing (control characters, but for those in `keep`, and marks
/// that turn the direction of writing) as something to see, so that nothing is hidden and nothing can act.
fn shown(text: &str, keep: &[char]) -> String {
    text.chars()
        .map(|c| match c {
            c if keep.contains(&c) => c,
            '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
            '\u{7f}' => '\u{2421}',
            c if c.is_control() => '\u{fffd}',
            '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The text on one line, its control characters made visible.
pub(crate) fn one_line(text: &str) -> String {
    shown(text, &[])
}

/// At most `most` characters, on one line.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= most {
        return line;
    }
    let mut short: String = line.chars().take(most.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short
}

/// For XML and HTML, between tags and in quoted attributes; newlines stay.
pub(crate) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in shown(text, &['\n']).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For a cell of a Markdown table: neither a new column nor markup.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '~' | '$' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_commands_is_shown() {
        assert_eq!(
            one_line("a\u{1b}[31m\n\u{202e}b"),
            "a\u{241b}[31m\u{240a}\u{fffd}b"
        );
        assert_eq!(markup("<b a='1'>&\n\0"), "&lt;b a=&#39;1&#39;&gt;&amp;\n\u{2400}");
        assert_eq!(markdown("a|b_c"), "a\\|b\\_c");
        assert_eq!(clipped("abcdef", 4), "abc\u{2026}");
    }

    proptest! {
        #[test]
        fn nothing_escapes(text in any::<String>()) {
            let safe = markup(&text);
            prop_assert!(!safe.contains(['<', '>', '"', '\'']));
            prop_assert!(safe.chars().all(|c| c == '\n' || !c.is_control()));
            let cell = markdown(&text);
            prop_assert!(!cell.replace("\\|", "").contains(['|', '\n']));
        }
    }
}
