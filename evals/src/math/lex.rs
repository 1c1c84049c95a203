//! Cleaned LaTeX (or plain text) to tokens.

use super::number;
use super::sum::{Result, TooMuch};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow};

/// A symbol of the answer language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A number; `digits` when it was nothing but digits.
    Num {
        value: BigRational,
        digits: Option<String>,
    },
    /// A variable or constant: one letter, or a command such as `\pi`.
    Sym(String),
    /// A function by its canonical name.
    Func(&'static str),
    /// `\frac`, `\sqrt`, `\binom`.
    Macro(&'static str),
    /// The words in a `\text{}`.
    Text(String),
    /// A word of a plain text.
    Word(String),
    /// A single operator or delimiter. `S`/`s` are the braces of a set, `{`/`}` group.
    Op(char),
    /// `=`, `<`, `>`, `le`, `ge`, `ne`, `approx`, `in`, `cong`.
    Rel(&'static str),
    /// A comma, a semicolon, "and", "or".
    Separator(char),
    /// A matrix opens or closes.
    Matrix(bool),
    /// `&`
    Cell,
    /// `\\`
    Row,
    /// The degree sign.
    Degree,
}

const MAX_TOKENS: usize = 4_000;

/// Unit words that may follow a number without being variables.
const UNITS: [&str; 48] = [
    "cm", "mm", "km", "kg", "mg", "ml", "ft", "inch", "inches", "feet", "foot", "yards", "miles", "mph",
    "meters", "meter", "metres", "unit", "units", "square", "cubic", "sq", "degrees", "degree", "dollars",
    "dollar", "cents", "cent", "hours", "hour", "minutes", "minute", "seconds", "second", "sec", "hrs",
    "mins", "days", "day", "weeks", "week", "months", "years", "points", "people", "grams", "liters", "ways",
];

pub(crate) fn is_unit(word: &str) -> bool {
    UNITS.contains(&word.to_ascii_lowercase().as_str())
}

fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "sin" => "sin",
        "cos" => "cos",
        "tan" | "tg" => "tan",
        "cot" => "cot",
        "sec" => "sec",
        "csc" => "csc",
        "arcsin" | "asin" => "arcsin",
        "arccos" | "acos" => "arccos",
        "arctan" | "atan" => "arctan",
        "sinh" => "sinh",
        "cosh" => "cosh",
        "tanh" => "tanh",
        "ln" => "ln",
        "log" | "lg" => "lg",
        "exp" => "exp",
        "max" => "max",
        "min" => "min",
        "gcd" => "gcd",
        "lcm" => "lcm",
        _ => return None,
    })
}

/// Whether letters without spaces are variables side by side: `xy`, `ab`, `xyz`, but not "no" or "odd".
fn is_product(lower: &str) -> bool {
    match lower.as_bytes() {
        [_, _] => !matches!(
            lower,
            "no" | "is" | "if" | "am" | "pm" | "of" | "to" | "in" | "at" | "by" | "it" | "we"
        ),
        [a, b, c] => a + 1 == *b && b + 1 == *c,
        _ => false,
    }
}

/// The relation that a command name of one letter too many begins with, and its length.
fn relation_before_letter(name: &str) -> Option<(&'static str, usize)> {
    let known = [("leq", "le"), ("geq", "ge"), ("le", "le"), ("ge", "ge")];
    let (spelled, relation) = known
        .into_iter()
        .find(|(spelled, _)| name.starts_with(spelled) && name.len() == spelled.len() + 1)?;
    Some((relation, spelled.len()))
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
    /// Depth of parentheses, brackets and set braces: inside them a comma always separates.
    depth: usize,
}

/// Cuts a cleaned text into tokens.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer {
        rest: text,
        tokens: Vec::new(),
        depth: 0,
    };
    while let Some(c) = lexer.rest.chars().next() {
        if lexer.tokens.len() >= MAX_TOKENS {
            return Err(TooMuch);
        }
        lexer.next(c)?;
    }
    Ok(lexer.tokens)
}

impl Lexer<'_> {
    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, token: Token, bytes: usize) {
        self.tokens.push(token);
        self.skip(bytes);
    }

    fn next(&mut self, c: char) -> Result<()> {
        match c {
            ' ' => self.skip(1),
            '0'..='9' => self.number()?,
            '.' if self.rest[1..].starts_with(|d: char| d.is_ascii_digit()) => self.number()?,
            '\\' => self.command()?,
            'A'..='Z' | 'a'..='z' => self.word(),
            '(' | '[' => {
                self.depth += 1;
                self.push(Token::Op(c), 1);
            }
            ')' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                self.push(Token::Op(c), 1);
            }
            '{' | '}' | '+' | '-' | '/' | '^' | '_' | '!' | '%' | '\'' | '|' | ':' => {
                let token = if c == '!' && self.rest.starts_with("!=") {
                    Token::Rel("ne")
                } else {
                    Token::Op(c)
                };
                let bytes = if token == Token::Rel("ne") { 2 } else { 1 };
                self.push(token, bytes);
            }
            '*' if self.rest.starts_with("**") => self.push(Token::Op('^'), 2),
            '*' => self.push(Token::Op('*'), 1),
            ',' | ';' => self.push(Token::Separator(c), 1),
            '=' => self.push(Token::Rel("="), if self.rest.starts_with("==") { 2 } else { 1 }),
            '<' | '>' => {
                let or_equal = self.rest[1..].starts_with('=');
                let name = match (c, or_equal) {
                    ('<', true) => "le",
                    ('<', false) => "<",
                    (_, true) => "ge",
                    _ => ">",
                };
                self.push(Token::Rel(name), 1 + usize::from(or_equal));
            }
            '&' => self.push(Token::Cell, 1),
            '\n' | '\r' | '\t' => self.skip(1),
            c if c.is_alphabetic() => self.push(Token::Sym(c.to_string()), c.len_utf8()),
            _ => return Err(TooMuch),
        }
        Ok(())
    }

    /// Decimal digits with separators of thousands, a repeating part, or an exponent of ten.
    fn number(&mut self) -> Result<()> {
        let bytes = self.rest.as_bytes();
        let run = |from: usize| {
            bytes[from.min(bytes.len())..]
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .count()
        };
        let mut at = run(0);
        let mut digits = self.rest[..at].to_owned();
        let mut plain = true;
        if (1..=3).contains(&at) && self.depth == 0 {
            while matches!(bytes.get(at), Some(b',' | b' ')) && run(at + 1) == 3 {
                digits.push_str(&self.rest[at + 1..at + 4]);
                at += 4;
                plain = false;
            }
        }
        let mut point = 0;
        let mut repeating = None;
        if bytes.get(at) == Some(&b'.') {
            point = run(at + 1);
            digits.push_str(&self.rest[at + 1..at + 1 + point]);
            at += 1 + point;
            plain = false;
            let tail = &self.rest[at..];
            if let Some(inner) = ["\\overline{", "\\bar{", "\\dot{"]
                .iter()
                .find_map(|p| tail.strip_prefix(p))
            {
                let n = inner.bytes().take_while(u8::is_ascii_digit).count();
                if n > 0 && n <= 100 && inner[n..].starts_with('}') {
                    repeating = Some(inner[..n].to_owned());
                    at += tail.len() - inner.len() + n + 1;
                }
            }
        }
        let mut exponent = 0;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'-' | b'+')));
            let n = run(at + 1 + sign);
            let end = at + 1 + sign + n;
            if n > 0 && !bytes.get(end).is_some_and(u8::is_ascii_alphabetic) {
                exponent = self.rest[at + 1..end].parse().map_err(|_| TooMuch)?;
                at = end;
                plain = false;
            }
        }
        let mut value = number::decimal(&digits, point, exponent)?;
        if let Some(repeating) = repeating {
            let nines = Pow::pow(BigInt::from(10), repeating.len()) - BigInt::one();
            let tail = BigInt::parse_bytes(repeating.as_bytes(), 10).ok_or(TooMuch)?;
            value += BigRational::new(tail, nines * Pow::pow(BigInt::from(10), point));
        }
        let digits = plain.then_some(digits);
        self.push(Token::Num { value, digits }, at);
        Ok(())
    }

    fn word(&mut self) {
        let n = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = &self.rest[..n];
        let lower = word.to_ascii_lowercase();
        let token = match lower.as_str() {
            "and" | "or" => Token::Separator(','),
            "sqrt" => Token::Macro("sqrt"),
            "pi" => Token::Sym("\\pi".to_owned()),
            "inf" | "infty" | "infinity" | "oo" => Token::Sym("\\infty".to_owned()),
            _ if n == 1 => Token::Sym(word.to_owned()),
            "u" if self.rest.starts_with("U") => Token::Op('U'),
            name => match function(name) {
                Some(name) => Token::Func(name),
                None if is_product(&lower) && !is_unit(&lower) => {
                    // A product of variables: xy, ab.
                    for letter in word.chars() {
                        self.tokens.push(Token::Sym(letter.to_string()));
                    }
                    return self.skip(n);
                }
                None => Token::Word(word.to_owned()),
            },
        };
        self.push(token, n);
    }

    fn command(&mut self) -> Result<()> {
        let name_len = self.rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
        if name_len == 0 {
            return self.escaped();
        }
        let (name, bytes) = (&self.rest[1..=name_len], name_len + 1);
        let token = match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" => Token::Macro("frac"),
            "sqrt" => Token::Macro("sqrt"),
            "binom" | "dbinom" | "tbinom" => Token::Macro("binom"),
            "pmod" | "bmod" | "mod" => Token::Macro("mod"),
            "boxed" | "fbox" => Token::Macro("box"),
            "text" => return self.text(bytes),
            "begin" | "end" => return self.environment(name == "begin", bytes),
            "hline" => {
                return {
                    self.skip(bytes);
                    Ok(())
                };
            }
            "cdot" | "times" | "ast" => Token::Op('*'),
            "div" => Token::Op('/'),
            "pm" => Token::Op('±'),
            "mp" => Token::Op('∓'),
            "cup" => Token::Op('U'),
            "cap" => Token::Op('∩'),
            "setminus" | "backslash" => Token::Op('\\'),
            "degree" => Token::Degree,
            "lvert" | "rvert" | "vert" => Token::Op('|'),
            "lfloor" => Token::Op('⌊'),
            "rfloor" => Token::Op('⌋'),
            "lceil" => Token::Op('⌈'),
            "rceil" => Token::Op('⌉'),
            "lbrace" => Token::Op('S'),
            "rbrace" => Token::Op('s'),
            "langle" => Token::Op('('),
            "rangle" => Token::Op(')'),
            "prime" => Token::Op('\''),
            "le" | "leq" | "leqslant" => Token::Rel("le"),
            "lt" => Token::Rel("<"),
            "gt" => Token::Rel(">"),
            "ge" | "geq" | "geqslant" => Token::Rel("ge"),
            "ne" | "neq" => Token::Rel("ne"),
            "approx" | "simeq" | "sim" => Token::Rel("approx"),
            "in" => Token::Rel("in"),
            "equiv" | "cong" => Token::Rel("cong"),
            "colon" => Token::Op(':'),
            // Written out, these mean something that is not followed here.
            "sum" | "prod" | "int" | "lim" | "ldots" | "dots" | "cdots" | "overline" | "bar" => {
                return Err(TooMuch);
            }
            "varnothing" | "emptyset" => Token::Sym("\\emptyset".to_owned()),
            // `\lex`: no command, but `\le x` with the space lost.
            _ if name.len() > 2 && relation_before_letter(name).is_some() => {
                let (relation, length) = relation_before_letter(name).ok_or(TooMuch)?;
                self.push(Token::Rel(relation), length + 1);
                return Ok(());
            }
            _ => match function(name) {
                Some(name) => Token::Func(name),
                None => Token::Sym(self.rest[..bytes].to_owned()),
            },
        };
        match token {
            Token::Op('S') => self.depth += 1,
            Token::Op('s') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.push(token, bytes);
        Ok(())
    }

    fn escaped(&mut self) -> Result<()> {
        let token = match self.rest[1..].chars().next() {
            Some('{') => {
                self.depth += 1;
                Token::Op('S')
            }
            Some('}') => {
                self.depth = self.depth.saturating_sub(1);
                Token::Op('s')
            }
            Some('%') => Token::Op('%'),
            Some('|') => Token::Op('|'),
            Some('\\') => Token::Row,
            Some(' ') => {
                return {
                    self.skip(2);
                    Ok(())
                };
            }
            _ => return Err(TooMuch),
        };
        self.push(token, 2);
        Ok(())
    }

    /// `\text{...}`: a number or a letter counts as itself, "and" and "or" separate, the rest is words.
    fn text(&mut self, bytes: usize) -> Result<()> {
        let Some(inner) = self.rest[bytes..].trim_start().strip_prefix('{') else {
            return Err(TooMuch);
        };
        let end = inner.find('}').ok_or(TooMuch)?;
        let words = inner[..end].trim();
        let is_name = |s: &str| s.len() == 1 && s.starts_with(|c: char| c.is_ascii_alphabetic());
        let letter = words.trim_matches(['(', ')']);
        let token = match words.to_ascii_lowercase().as_str() {
            "" => None,
            "and" | "or" | ", and" | "," | "and " | ", or" => Some(Token::Separator(',')),
            _ if is_name(letter) => Some(Token::Sym(letter.to_owned())),
            lower => match function(lower) {
                Some(name) => Some(Token::Func(name)),
                None if words.starts_with(|c: char| c.is_ascii_digit()) => {
                    let tokens = lex(words)?;
                    self.tokens.extend(tokens);
                    None
                }
                None => Some(Token::Text(words.to_owned())),
            },
        };
        self.tokens.extend(token);
        self.rest = &inner[end + 1..];
        Ok(())
    }

    fn environment(&mut self, begins: bool, bytes: usize) -> Result<()> {
        let inner = self.rest[bytes..].trim_start().strip_prefix('{').ok_or(TooMuch)?;
        let end = inner.find('}').ok_or(TooMuch)?;
        let name = inner[..end].trim_end_matches('*');
        let mut rest = &inner[end + 1..];
        if !matches!(
            name,
            "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "vmatrix" | "array" | "smallmatrix"
        ) {
            return Err(TooMuch);
        }
        // The column layout of an array.
        if begins && name == "array" && rest.starts_with('{') {
            rest = &rest[rest.find('}').ok_or(TooMuch)? + 1..];
        }
        self.tokens.push(Token::Matrix(begins));
        self.rest = rest;
        Ok(())
    }
}
