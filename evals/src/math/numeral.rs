//! Numbers as they are written: thousands, decimals, repeating digits, exponents of ten, other bases.

use super::lex::{Lexer, Token, closing_brace};
use super::number;
use super::sum::{Result, TooMuch};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow};

/// Digits that repeat are read up to this many.
const MAX_REPEATING: usize = 100;

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// What stands between groups of three digits: its length, and whether it can be nothing else there.
fn thousands_mark(text: &str) -> Option<(usize, bool)> {
    let fixed = ["{,}", ",\\!", "\\,", "\\:", "\\;", "~", "{\\,}"]
        .iter()
        .find(|mark| text.starts_with(**mark))
        .map(|mark| mark.len());
    let (mut length, sure) = match fixed {
        Some(length) => (length, true),
        None if text.starts_with([',', ' ']) => (1, false),
        None => return None,
    };
    if sure {
        while text[length..].starts_with(' ') || text[length..].starts_with("\\!") {
            length += if text[length..].starts_with(' ') { 1 } else { 2 };
        }
    } else if text.starts_with(", \\!") {
        return Some((4, true));
    }
    Some((length, sure))
}

/// Digits that repeat, behind the others: `\overline{6}`, `\dot 6`, `(6)`; how many there are and what their
/// notation takes.
fn repeating(text: &str, after_point: bool) -> Option<(String, usize)> {
    let inside = |open: &str, close: char| {
        let inner = text.strip_prefix(open)?;
        let n = digits(inner);
        (n > 0 && n <= MAX_REPEATING && inner[n..].starts_with(close))
            .then(|| (inner[..n].to_owned(), open.len() + n + 1))
    };
    if after_point && let Some(found) = inside("(", ')') {
        return Some(found);
    }
    for over in ["\\overline", "\\bar", "\\dot", "\\widehat"] {
        let Some(after) = text.strip_prefix(over) else {
            continue;
        };
        let inner = after.trim_start();
        let lead = text.len() - inner.len();
        if let Some(group) = inner.strip_prefix('{') {
            let end = closing_brace(group)?;
            let all = digits(group) == end && end > 0 && end <= MAX_REPEATING;
            let mut found = group[..end].to_owned();
            let mut length = lead + end + 2;
            // 0.\dot{1}42\dot{8}: from the first dot to the last
            if over == "\\dot" {
                let tail = &text[length..];
                let between = digits(tail);
                if let Some(last) = tail[between..].strip_prefix("\\dot{")
                    && digits(last) == 1
                    && last[1..].starts_with('}')
                {
                    found = found + &tail[..between] + &last[..1];
                    length += between + "\\dot{".len() + 2;
                }
            }
            return all.then_some((found, length));
        }
        if digits(inner) > 0 {
            return Some((inner[..1].to_owned(), lead + 1));
        }
    }
    None
}

/// A zero before the letter of a base, but no number in it: `0xG`, `0b12`, `00x1`, `0b`.
fn is_odd_prefix(text: &str) -> bool {
    let rest = text.trim_start_matches('0');
    let Some(after) = rest.strip_prefix(['x', 'X', 'b', 'B', 'o', 'O', 'd', 'D', 'h', 'H', 'q', 'Q']) else {
        return false;
    };
    rest.len() < text.len()
        && (after.starts_with(|c: char| c.is_ascii_alphanumeric())
            || (after.is_empty() && rest.starts_with(['x', 'X', 'b', 'B', 'o', 'O'])))
}

impl Lexer<'_> {
    pub(super) fn number(&mut self) -> Result<()> {
        if let Some((value, length)) = self.prefixed() {
            self.tokens.push(Token::Num { value, digits: None });
            self.skip(length);
            return Ok(());
        }
        let text = self.rest;
        if is_odd_prefix(text) {
            return Err(TooMuch);
        }
        let mut at = digits(text);
        let mut all = text[..at].to_owned();
        let mut plain = true;
        if (1..=3).contains(&at) {
            while let Some((length, sure)) = thousands_mark(&text[at..])
                && (sure || self.depth == 0)
                && digits(&text[at + length..]) == 3
            {
                all.push_str(&text[at + length..at + length + 3]);
                at += length + 3;
                plain = false;
            }
        }
        let mut point = 0;
        let mut tail = None;
        if text[at..].starts_with('.') {
            point = digits(&text[at + 1..]);
            all.push_str(&text[at + 1..at + 1 + point]);
            at += 1 + point;
            plain = false;
            tail = repeating(&text[at..], true);
            at += tail.as_ref().map_or(0, |(_, length)| *length);
            if tail.is_some() && text[at..].starts_with("...") {
                at += 3;
            }
        }
        let mut exponent = 0;
        if text[at..].starts_with(['e', 'E']) {
            let sign = usize::from(text[at + 1..].starts_with(['-', '+']));
            let n = digits(&text[at + 1 + sign..]);
            let end = at + 1 + sign + n;
            if n > 0 && !text[end..].starts_with(|c: char| c.is_ascii_alphabetic()) {
                exponent = text[at + 1..end].parse().map_err(|_| TooMuch)?;
                at = end;
                plain = false;
            }
        }
        let mut value = number::decimal(&all, point, exponent)?;
        if let Some((repeating, _)) = tail {
            let nines = Pow::pow(BigInt::from(10), repeating.len()) - BigInt::one();
            let tail = BigInt::parse_bytes(repeating.as_bytes(), 10).ok_or(TooMuch)?;
            let share = BigRational::new(tail, nines * Pow::pow(BigInt::from(10), point));
            value += share * number::decimal("1", 0, exponent)?;
        }
        let digits = plain.then_some(all);
        self.tokens.push(Token::Num { value, digits });
        self.skip(at);
        Ok(())
    }

    /// `1F_{16}`: digits with letters among them, and a base above ten.
    pub(super) fn based(&mut self) -> bool {
        let is_digit = |b: &u8| b.is_ascii_digit() || (b'A'..=b'F').contains(b);
        let n = self.rest.bytes().take_while(|b| is_digit(b)).count();
        let digits = &self.rest[..n];
        if !(2..=200).contains(&n) || digits.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        let Some(index) = self.rest[n..].strip_prefix('_') else {
            return false;
        };
        let grouped = index.strip_prefix('{');
        let base: String = grouped
            .unwrap_or(index)
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let closes = grouped.is_none_or(|inner| inner[base.len()..].starts_with('}'));
        match base.parse() {
            Ok(radix @ 11..=36) if closes => {
                self.tokens.push(Token::Based(digits.to_owned(), radix));
                let braces = if grouped.is_some() { 2 } else { 0 };
                self.skip(n + 1 + base.len() + braces);
                true
            }
            _ => false,
        }
    }

    /// `0x1F`, `0b101`
    fn prefixed(&self) -> Option<(BigRational, usize)> {
        let (radix, is_digit): (u32, fn(&u8) -> bool) = match self.rest.get(..2)? {
            "0x" | "0X" => (16, u8::is_ascii_hexdigit),
            "0b" | "0B" => (2, |b| matches!(b, b'0' | b'1')),
            "0o" | "0O" => (8, |b| (b'0'..=b'7').contains(b)),
            "0d" | "0D" => (10, u8::is_ascii_digit),
            _ => return None,
        };
        let n = self.rest[2..].bytes().take_while(is_digit).count();
        let ends = !self.rest[2 + n..].starts_with(|c: char| c.is_ascii_alphanumeric());
        if n == 0 || n > 1_000 || !ends {
            return None;
        }
        let value = BigInt::parse_bytes(&self.rest.as_bytes()[2..2 + n], radix)?;
        Some((BigRational::from_integer(value), 2 + n))
    }
}
