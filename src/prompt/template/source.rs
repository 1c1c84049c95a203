//! A chat template's source before it is compiled: bounded, and with guards where values grow.
//!
//! The engine counts instructions, but not what a value holds. So every assignment of a template passes its
//! value through a guard of `bounds`: `{% set x = EXPR %}` is compiled as `{% set x = __kept__(EXPR) %}`, and
//! the parameters of macros and the variables of loops are looked at where they begin. Lines stay where they
//! are.

use std::sync::LazyLock;

use regex::Regex;

/// Bytes of a template; the longest that models come with have under 64 KiB.
const MOST_SOURCE: usize = 256 << 10;
/// Words and signs of one tag, and branches of all conditions: each may be one level of the compiler's
/// recursion.
const MOST_TOKENS: usize = 4096;
const MOST_BRANCHES: usize = 1000;
/// Text between tags from which on it is counted when it is written.
const LONG_TEXT: usize = 256;
const GUARDS: [&str; 4] = ["__kept__", "__stored__", "__seen__", "__wrote__"];

/// The source as it is compiled, or why it is not.
pub(super) fn guarded(source: &str) -> Result<String, String> {
    if source.len() > MOST_SOURCE {
        return Err(format!(
            "it has {} bytes, and no template needs more than {MOST_SOURCE}",
            source.len()
        ));
    }
    if let Some(name) = GUARDS.iter().find(|name| source.contains(**name)) {
        return Err(format!("the name {name} is not for templates"));
    }
    let source = without_generation_marks(source);
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut rest = source.as_str();
    let mut branches = 0;
    while let Some(at) = next_tag(rest) {
        push_text(&mut out, &rest[..at]);
        rest = &rest[at..];
        let length = match rest.as_bytes()[1] {
            b'#' => rest.find("#}").map(|end| end + 2),
            b'%' => raw_block(rest),
            _ => None,
        };
        if let Some(length) = length {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let Some(tag) = Tag::read(rest) else {
            break; // it has no end, which the compiler says better
        };
        if tag.tokens > MOST_TOKENS {
            return Err(format!(
                "one of its tags has more than {MOST_TOKENS} words and signs: {}...",
                rest.chars().take(40).collect::<String>()
            ));
        }
        branches += usize::from(tag.is_block && tag.keyword() == "elif");
        if branches > MOST_BRANCHES {
            return Err(format!("it has more than {MOST_BRANCHES} branches (elif)"));
        }
        tag.write(&mut out);
        rest = &rest[tag.length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// `{% generation %}` marks what an assistant wrote, for training. An `{% if true %}` in its place trims the
/// same white space.
fn without_generation_marks(source: &str) -> String {
    static MARK: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());
    // most templates have none, and a first token need not wait for the expression
    let has_any = source.contains("generation");
    let Some(mark) = has_any.then(|| MARK.as_ref()).flatten() else {
        return source.to_owned();
    };
    mark.replace_all(source, |found: &regex::Captures<'_>| {
        let tag = if found.get(2).is_some() {
            "endif"
        } else {
            "if true"
        };
        format!("{{%{} {tag} {}%}}", &found[1], &found[3])
    })
    .into_owned()
}

fn next_tag(text: &str) -> Option<usize> {
    ["{{", "{%", "{#"].iter().filter_map(|tag| text.find(tag)).min()
}

/// Length of a raw block that begins here.
fn raw_block(text: &str) -> Option<usize> {
    static RAW: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?s)^\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}").ok());
    let inside = text.strip_prefix("{%")?.trim_start_matches(['-', '+']);
    let raw = inside.trim_start().starts_with("raw");
    Some(raw.then(|| RAW.as_ref()).flatten()?.find(text)?.end())
}

/// Text between tags; a long one says so where it is written, between two characters that no tag trims.
fn push_text(out: &mut String, text: &str) {
    let inside = |pair: &[(usize, char)]| {
        let between = !pair[0].1.is_whitespace() && !pair[1].1.is_whitespace();
        (between && pair[0].1 != '{' && pair[1].1 != '{').then_some(pair[1].0)
    };
    let place = if text.len() < LONG_TEXT {
        None
    } else {
        text.char_indices()
            .collect::<Vec<_>>()
            .windows(2)
            .find_map(inside)
    };
    match place {
        Some(at) => {
            out.push_str(&text[..at]);
            out.push_str(&format!("{{{{__wrote__({})}}}}", text.len()));
            out.push_str(&text[at..]);
        }
        None => out.push_str(text),
    }
}

/// `{{ ... }}` or `{% ... %}`.
struct Tag<'a> {
    is_block: bool,
    /// `-` or `+` at the beginning, or nothing.
    before: &'a str,
    body: &'a str,
    /// `-` or `+` at the end, or nothing.
    after: &'a str,
    /// Bytes of the whole.
    length: usize,
    tokens: usize,
}

impl<'a> Tag<'a> {
    /// The tag that `text` begins with; `None` if it has no end.
    fn read(text: &'a str) -> Option<Self> {
        let is_block = text.as_bytes()[1] == b'%';
        let end = if is_block { "%}" } else { "}}" };
        let before = sign(&text[2..]);
        let start = 2 + before.len();
        let (mut depth, mut tokens, mut at) = (0_i64, 0, start);
        while at < text.len() {
            let rest = &text[at..];
            let after = sign(rest);
            if depth == 0 && rest[after.len()..].starts_with(end) {
                return Some(Self {
                    is_block,
                    before,
                    body: &text[start..at],
                    after,
                    length: at + after.len() + end.len(),
                    tokens,
                });
            }
            let token = token(rest);
            depth += balance(token);
            tokens += usize::from(!token.trim().is_empty());
            at += token.len();
        }
        None
    }

    fn keyword(&self) -> &'a str {
        let body = self.body.trim_start();
        &body[..word(body)]
    }

    fn write(&self, out: &mut String) {
        let body = formatted(self.body);
        if !self.is_block {
            out.push_str(&format!("{{{{{}{body}{}}}}}", self.before, self.after));
            return;
        }
        let (body, seen) = match self.keyword() {
            "set" => (kept(&body), Vec::new()),
            _ => {
                let seen = variables(self.keyword(), body.trim());
                (body, seen)
            }
        };
        out.push_str(&format!("{{%{}{body}{}%}}", self.before, self.after));
        for name in seen {
            out.push_str(&format!("{{% set {name} = __seen__({name}) {}%}}", self.after));
        }
    }
}

fn sign(text: &str) -> &str {
    &text[..usize::from(text.starts_with(['-', '+']))]
}

/// Bytes of the word that `text` begins with.
fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// The string, the word or the single character that `text` begins with.
fn token(text: &str) -> &str {
    let first = text.chars().next().unwrap_or(' ');
    if first == '"' || first == '\'' {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            if c == first && !escaped {
                return &text[..=at];
            }
            escaped = c == '\\' && !escaped;
        }
        return text;
    }
    &text[..word(text).max(first.len_utf8())]
}

fn balance(token: &str) -> i64 {
    match token {
        "(" | "[" | "{" => 1,
        ")" | "]" | "}" => -1,
        _ => 0,
    }
}

/// The tokens of a text with their places and the depth of the brackets around them.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str, i64)> {
    let (mut at, mut depth) = (0, 0);
    std::iter::from_fn(move || {
        let token = token(text.get(at..).filter(|rest| !rest.is_empty())?);
        let place = at;
        at += token.len();
        let change = balance(token);
        depth += change;
        Some((place, token, depth - change.max(0)))
    })
}

/// Where the `=` of an assignment stands, outside of all brackets.
fn assignment(text: &str) -> Option<usize> {
    let signs: Vec<_> = tokens(text)
        .filter(|(_, token, _)| !token.trim().is_empty())
        .collect();
    let is_part = |at: usize| {
        let neighbour = |i: Option<usize>| i.and_then(|i| signs.get(i)).map_or((0, ""), |(p, t, _)| (*p, *t));
        let (before, after) = (neighbour(at.checked_sub(1)), neighbour(Some(at + 1)));
        let joined = matches!(before.1, "=" | "!" | "<" | ">") && before.0 + 1 == signs[at].0;
        joined || (after.1 == "=" && after.0 == signs[at].0 + 1)
    };
    let found = (0..signs.len()).find(|&i| signs[i].1 == "=" && signs[i].2 == 0 && !is_part(i))?;
    Some(signs[found].0)
}

/// A `set` tag whose value goes through the guard.
fn kept(body: &str) -> String {
    let Some(at) = assignment(body) else {
        // what is written up to `endset`
        return format!("{body}|__kept__ ");
    };
    let (target, value) = (&body[..at], &body[at + 1..]);
    let guard = if target.contains('.') {
        "__stored__"
    } else {
        "__kept__"
    };
    match value.trim() {
        "" => body.to_owned(),
        _ => format!("{target}={guard}({value})"),
    }
}

/// The names that a macro, a call block, a loop or a `with` begins with.
fn variables<'b>(keyword: &str, body: &'b str) -> Vec<String> {
    let name = |text: &'b str| {
        let text = text.trim();
        let name = &text[..word(text)];
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        is_name.then(|| name.to_owned())
    };
    let list = match keyword {
        "macro" | "call" => {
            let Some(open) = tokens(body).find(|(_, token, _)| *token == "(") else {
                return Vec::new();
            };
            // `call` without parameters calls with arguments
            let bare = keyword == "call" && !body["call".len()..].trim_start().starts_with('(');
            let close = tokens(&body[open.0..])
                .skip(1)
                .find(|(_, token, depth)| *token == ")" && *depth == 0);
            match close {
                Some((close, _, _)) if !bare => &body[open.0 + 1..open.0 + close],
                _ => return Vec::new(),
            }
        }
        "with" => &body["with".len()..],
        "for" => {
            let end = tokens(body).find(|(_, token, depth)| *token == "in" && *depth == 0);
            let targets = end.map_or("", |(at, _, _)| &body["for".len()..at]);
            return tokens(targets).filter_map(|(_, token, _)| name(token)).collect();
        }
        _ => return Vec::new(),
    };
    let mut starts = vec![0];
    starts.extend(
        tokens(list)
            .filter(|(_, t, depth)| *t == "," && *depth == 0)
            .map(|(at, _, _)| at + 1),
    );
    starts.into_iter().filter_map(|at| name(&list[at..])).collect()
}

/// Python's `'text' % values`, for which the engine has the filter `format`.
fn formatted(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut at = 0;
    while at < body.len() {
        let token = token(&body[at..]);
        out.push_str(token);
        at += token.len();
        if !token.starts_with(['"', '\'']) {
            continue;
        }
        let rest = &body[at..];
        let Some(operand) = rest.trim_start().strip_prefix('%').map(str::trim_start) else {
            continue;
        };
        let length = operand_length(operand);
        if length == 0 {
            continue;
        }
        let values = &operand[..length];
        let inner = values.strip_prefix('(').and_then(|v| v.strip_suffix(')'));
        let inner = inner.filter(|_| closes_at(values) == Some(values.len()));
        let values = formatted(inner.unwrap_or(values).trim().trim_end_matches(','));
        out.push_str(&format!("|format({values})"));
        at = body.len() - operand.len() + length;
    }
    out
}

/// Where the bracket that `text` begins with closes.
fn closes_at(text: &str) -> Option<usize> {
    let close = tokens(text)
        .skip(1)
        .find(|(_, token, depth)| balance(token) < 0 && *depth == 0);
    close.map(|(at, _, _)| at + 1)
}

/// Bytes of the operand that `text` begins with: a value with its attributes, calls and filters.
fn operand_length(text: &str) -> usize {
    let first = token(text);
    let mut at = match first {
        "(" | "[" | "{" => match closes_at(text) {
            Some(end) => end,
            None => return 0,
        },
        _ if word(first) > 0 || first.starts_with(['"', '\'']) => first.len(),
        _ => return 0,
    };
    loop {
        let rest = &text[at..];
        at += match token(rest) {
            "(" | "[" => match closes_at(rest) {
                Some(end) => end,
                None => return at,
            },
            "." => 1 + word(&rest[1..]),
            "|" => 1 + token(rest[1..].trim_start()).len() + rest[1..].len() - rest[1..].trim_start().len(),
            _ => return at,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn guards_stand_where_values_are_kept() {
        let cases = [
            ("{% set a = 1 %}", "{% set a =__kept__( 1 )%}"),
            ("{%- set a.b=\nx ~ y -%}", "{%- set a.b=__stored__(\nx ~ y )-%}"),
            ("{% set a, b = b, a %}", "{% set a, b =__kept__( b, a )%}"),
            (
                "{% set a = {'x': {'y': '%}'}} if b == 1 else f(k=2) %}",
                "{% set a =__kept__( {'x': {'y': '%}'}} if b == 1 else f(k=2) )%}",
            ),
            ("{% set a %}x{% endset %}", "{% set a |__kept__ %}x{% endset %}"),
            (
                "{% macro f(a, b=(1, 2)) -%}\nx{% endmacro %}",
                "{% macro f(a, b=(1, 2)) -%}{% set a = __seen__(a) -%}{% set b = __seen__(b) -%}\nx{% \
                 endmacro %}",
            ),
            (
                "{% for (k, v) in d.items() if k in v %}x{% endfor %}",
                "{% for (k, v) in d.items() if k in v %}{% set k = __seen__(k) %}{% set v = __seen__(v) \
                 %}x{% endfor %}",
            ),
            (
                "{% with a = [1, 2], b = 3 %}x{% endwith %}",
                "{% with a = [1, 2], b = 3 %}{% set a = __seen__(a) %}{% set b = __seen__(b) %}x{% endwith \
                 %}",
            ),
            (
                "{% call(u) f(1, 2) %}x{% endcall %}{% call f(1, 2) %}{% endcall %}",
                "{% call(u) f(1, 2) %}{% set u = __seen__(u) %}x{% endcall %}{% call f(1, 2) %}{% endcall %}",
            ),
            (
                "{# {% set a = 1 %} #}{% raw %}{% set a = 1 %}{% endraw %}{% set",
                "{# {% set a = 1 %} #}{% raw %}{% set a = 1 %}{% endraw %}{% set",
            ),
            ("{{ '%s-%d' % (a, 1) }}", "{{ '%s-%d'|format(a, 1) }}"),
            (
                "{{ '%s' % a.b[0]|upper ~ 'c' }}",
                "{{ '%s'|format(a.b[0]|upper) ~ 'c' }}",
            ),
            ("{{ '%s' % (a) + '%' }}", "{{ '%s'|format(a) + '%' }}"),
            ("{{ 5 % 3 }}{{ 'a' }}%", "{{ 5 % 3 }}{{ 'a' }}%"),
        ];
        for (source, compiled) in cases {
            assert_eq!(guarded(source).unwrap(), compiled);
        }
    }

    #[test]
    fn a_long_text_is_counted_where_nothing_is_trimmed() {
        let text = format!("\n  {}\n", "ab ".repeat(200));
        let compiled = guarded(&format!("{{% if x -%}}{text}{{%- endif %}}")).unwrap();
        assert_eq!(
            compiled.replace("{{__wrote__(604)}}", ""),
            format!("{{% if x -%}}{text}{{%- endif %}}")
        );
        assert!(compiled.contains("  a{{__wrote__(604)}}b ab"), "{compiled}");
    }
}
