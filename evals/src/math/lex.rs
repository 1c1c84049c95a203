//! LaTeX or plain text to tokens, in one pass.

use super::command::{self, Command, command};
use super::sum::{Result, TooMuch};
use super::words;
use num_rational::BigRational;

/// How two items of a list are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    Comma,
    Semicolon,
    And,
    Or,
}

/// What an environment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    Matrix,
    Determinant,
    Cases,
}

/// A symbol of the answer language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A number; `digits` when it was nothing but digits.
    Num {
        value: BigRational,
        digits: Option<String>,
    },
    /// Digits and letters in a base above ten.
    Based(String, u32),
    /// A variable or constant: one letter, a command such as `\pi`, or a name that is not taken apart.
    Sym(String),
    /// A letter that stands alone among words: a name, or a unit.
    Letter(char),
    /// A function by its canonical name.
    Func(&'static str),
    /// `\frac`, `\sqrt`, `\binom`, `\over`, `\choose`, `\pmod`, `\bmod`, `conj`.
    Macro(&'static str),
    /// A word of language.
    Word(String),
    /// A command that is not known.
    Unknown(String),
    /// A sign of money before a number.
    Currency(&'static str),
    /// A single operator or delimiter. `S`/`s` are the braces of a set, `{`/`}` group.
    Op(char),
    /// `=`, `<`, `>`, `le`, `ge`, `ne`, `approx`, `in`, `equiv`.
    Rel(&'static str),
    /// Between the items of a list.
    Separator(Join),
    /// An environment opens or closes.
    Begin(Environment),
    End,
    /// `&`
    Cell,
    /// `\\`
    Row,
    /// The degree sign.
    Degree,
}

const MAX_TOKENS: usize = 4_000;
/// Words inside words, such as a formula in a `\text{}`, are followed this deep.
const MAX_NESTED: usize = 8;

pub(super) struct Lexer<'a> {
    pub(super) rest: &'a str,
    pub(super) tokens: Vec<Token>,
    /// Depth of parentheses, brackets and set braces: inside them a comma always separates.
    pub(super) depth: usize,
    /// Open environments; `false` for those whose rows are the lines of one text.
    environments: Vec<bool>,
    /// Whether a double backslash can end a row.
    rows: bool,
    /// How deep in `\text{}`.
    words: usize,
    /// Whether these words stand behind a number.
    after_number: bool,
    /// Whether the next array is a case distinction: `\left\{\begin{array}`.
    braced_array: bool,
    /// How many tokens stood before the last command for bold letters: those of vectors.
    bold: Option<usize>,
    /// How deep in `\underbrace{}`.
    braces: usize,
}

/// Cuts a text into tokens.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer::new(text, 0);
    lexer.currency_first();
    lexer.run()?;
    // The end of a line ends no row where there is none.
    while lexer.tokens.last() == Some(&Token::Row) {
        lexer.tokens.pop();
    }
    Ok(lexer.tokens)
}

/// Where the partner of the brace is that stands before this text; no longer than an answer.
pub(super) fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut bytes = text.bytes().enumerate();
    while let Some((i, b)) = bytes.next() {
        match b {
            b'\\' => {
                bytes.next();
            }
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(i),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, words: usize) -> Self {
        Self {
            rest: text,
            tokens: Vec::new(),
            depth: 0,
            environments: Vec::new(),
            rows: text.contains("\\begin"),
            words,
            after_number: false,
            braced_array: false,
            bold: None,
            braces: 0,
        }
    }

    fn run(&mut self) -> Result<()> {
        while let Some(c) = self.rest.chars().next() {
            if self.tokens.len() >= MAX_TOKENS {
                return Err(TooMuch);
            }
            self.next(c)?;
        }
        Ok(())
    }

    /// A dollar sign before a number, and no other: money.
    fn currency_first(&mut self) {
        let unsigned = self.rest.trim_start_matches(['-', ' ']);
        let number = |s: &str| s.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        if let Some(money) = unsigned.strip_prefix('$')
            && number(money)
            && !money.replace("\\$", "").contains('$')
        {
            if unsigned.len() < self.rest.trim_start().len() {
                self.tokens.push(Token::Op('-'));
            }
            self.tokens.push(Token::Currency("dollar"));
            self.rest = money;
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, token: Token, bytes: usize) {
        match token {
            Token::Op('(' | '[' | 'S') => self.depth += 1,
            Token::Op(')' | ']' | 's') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(token);
        self.skip(bytes);
    }

    fn next(&mut self, c: char) -> Result<()> {
        let follows = |wanted: char| self.rest[c.len_utf8()..].starts_with(wanted);
        match c {
            ' ' | '\n' | '\r' | '\t' | '~' | '$' | '`' => self.skip(1),
            '0'..='9' | 'A'..='F' if self.based() => {}
            '0'..='9' => self.number()?,
            '.' if self.rest[1..].starts_with(|d: char| d.is_ascii_digit()) => self.number()?,
            // the full stop of a sentence, or of an abbreviation
            '.' if self.words > 0 || self.rest[1..].starts_with(' ') => self.skip(1),
            '\\' => self.command()?,
            c if c.is_alphabetic() => self.word(),
            '^' => match degree(
                &self.rest[1..],
                matches!(self.tokens.last(), Some(Token::Num { .. })),
            ) {
                Some(length) => self.push(Token::Degree, 1 + length),
                None => self.push(Token::Op('^'), 1),
            },
            // 5!=120 is a factorial
            '!' if follows('=') && !matches!(self.tokens.last(), Some(Token::Num { .. })) => {
                self.push(Token::Rel("ne"), 2);
            }
            ':' if follows('=') => self.push(Token::Rel("="), 2),
            '(' | '[' | ')' | ']' | '{' | '}' | '+' | '-' | '/' | '_' | '!' | '%' | '\'' | '|' | ':' => {
                self.push(Token::Op(c), 1);
            }
            '*' if follows('*') => self.push(Token::Op('^'), 2),
            '*' => self.push(Token::Op('*'), 1),
            ',' => self.push(Token::Separator(Join::Comma), 1),
            ';' => self.push(Token::Separator(Join::Semicolon), 1),
            '=' if self.rest.starts_with("=>") => return Err(TooMuch),
            '=' => self.push(Token::Rel("="), 1 + usize::from(follows('='))),
            '<' => self.push(
                Token::Rel(if follows('=') { "le" } else { "<" }),
                1 + usize::from(follows('=')),
            ),
            '>' => self.push(
                Token::Rel(if follows('=') { "ge" } else { ">" }),
                1 + usize::from(follows('=')),
            ),
            '&' if self.environments.last() == Some(&false) => self.skip(1),
            '&' => self.push(Token::Cell, 1),
            _ => return Err(TooMuch),
        }
        Ok(())
    }

    /// Letters: a word, a function, a name, or variables side by side.
    fn word(&mut self) {
        let n: usize = self
            .rest
            .chars()
            .take_while(|c| c.is_alphabetic())
            .map(char::len_utf8)
            .sum();
        let word = &self.rest[..n];
        let lower = word.to_ascii_lowercase();
        let alone = word.len() == 1;
        if lower == "o" && self.rest[n..].starts_with("'clock") {
            return self.push(Token::Word("o'clock".to_owned()), n + "'clock".len());
        }
        if let Some((name, length)) = derivative_in_line(self.rest) {
            return self.push(Token::Sym(name), length);
        }
        let token = match lower.as_str() {
            "and" => Token::Separator(Join::And),
            "or" => Token::Separator(Join::Or),
            "sqrt" => Token::Macro("sqrt"),
            "pi" => Token::Sym("\\pi".to_owned()),
            "inf" | "infty" | "infinity" | "oo" => Token::Sym("\\infty".to_owned()),
            "pct" | "percent" | "percents" => Token::Op('%'),
            "per"
                if self.rest[n..].trim_start().starts_with("cent")
                    && !self.rest[n..].trim_start().starts_with("cents") =>
            {
                let after = self.rest[n..].trim_start();
                let bytes = self.rest.len() - after.len() + "cent".len();
                return self.push(Token::Op('%'), bytes);
            }
            "degree" | "degrees" | "deg" => Token::Degree,
            "mod" | "modulo" => Token::Macro("bmod"),
            // a union between brackets
            "u" if word == "U" && matches!(self.tokens.last(), Some(Token::Op(')' | ']' | 's' | '}'))) => {
                Token::Op('U')
            }
            // 2 h 30 min
            "h" | "m"
                if matches!(self.tokens.last(), Some(Token::Num { .. }))
                    && smaller(&lower, &self.rest[n..]) =>
            {
                Token::Word(if lower == "h" { "hours" } else { "minutes" }.to_owned())
            }
            _ if alone && self.words > 0 => Token::Letter(word.as_bytes()[0] as char),
            _ if alone => Token::Sym(word.to_owned()),
            // 15 min, 30 sec
            "min" | "sec" if self.after_number || matches!(self.tokens.last(), Some(Token::Num { .. })) => {
                Token::Word(word.to_owned())
            }
            name => match command::function(name) {
                Some(name) => Token::Func(name),
                None if self.words == 0 && words::is_product(word) => {
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
        match command(name) {
            _ if name == "times" => {
                let times = if self.between_vectors(&self.rest[bytes..]) {
                    '×'
                } else {
                    '*'
                };
                self.push(Token::Op(times), bytes);
            }
            _ if matches!(name, "underbrace" | "overbrace") => self.explained(bytes)?,
            Command::Is(Token::Macro("frac")) if self.derivative(bytes) => {}
            Command::Is(token) => self.push(token, bytes),
            Command::Look => {
                if matches!(name, "mathbf" | "boldsymbol" | "bm" | "pmb" | "bold" | "bf") {
                    self.bold = Some(self.tokens.len());
                }
                self.skip(bytes);
                let braced = self.rest.trim_start().strip_prefix("\\{");
                if let Some(inside) = braced.filter(|_| name == "left")
                    && inside.trim_start().starts_with("\\begin{array}")
                    && inside.contains("\\right")
                {
                    self.rest = inside;
                    self.braced_array = true;
                }
                // `\left.` is a delimiter that is not there
                if matches!(name, "left" | "right") && self.rest.trim_start().starts_with('.') {
                    self.rest = &self.rest.trim_start()[1..];
                }
            }
            Command::Skip(arguments) => {
                self.skip(bytes);
                // \color[rgb]{1,0,0}: the model of what follows
                if name.contains("color")
                    && let Some(model) = self.rest.trim_start().strip_prefix('[')
                    && let Some(end) = model.find(']')
                {
                    self.rest = &model[end + 1..];
                }
                for _ in 0..arguments {
                    self.rest = self.rest.trim_start_matches('*');
                    self.argument();
                }
            }
            Command::Words => self.text(bytes)?,
            Command::Name => {
                self.skip(bytes);
                let name = match name {
                    "vec" => "overrightarrow",
                    "measuredangle" => "angle",
                    name => name,
                };
                let long = matches!(name, "angle" | "triangle");
                let shown = if long { self.letters() } else { self.argument() };
                let shown: String = shown.chars().filter(|c| !c.is_whitespace()).collect();
                if name != "mathbb" || shown != "R" || !self.half_line()? {
                    self.tokens.push(Token::Sym(format!("\\{name}{{{shown}}}")));
                }
            }
            Command::Bar => self.bar(bytes),
            Command::Environment(begins) => self.environment(begins, bytes)?,
            Command::Unknown => match command::relation_before_letter(name) {
                // `\lex`: no command, but `\le x` with the space lost
                Some((relation, length)) => self.push(Token::Rel(relation), length + 1),
                None if name == "not" => {
                    let after = self.rest[bytes..].trim_start();
                    let Some(after) = after.strip_prefix('=') else {
                        return Err(TooMuch);
                    };
                    self.tokens.push(Token::Rel("ne"));
                    self.rest = after;
                }
                None => self.push(Token::Unknown(name.to_owned()), bytes),
            },
        }
        Ok(())
    }

    /// Whether a cross stands between vectors or sets, where the order counts; it is no product of numbers.
    fn between_vectors(&self, after: &str) -> bool {
        const NAMES: [&str; 12] = [
            "\\vec",
            "\\overrightarrow",
            "\\mathbf",
            "\\boldsymbol",
            "\\bm",
            "\\pmb",
            "\\mathbb",
            "\\mathcal",
            "\\mathfrak",
            "\\hat",
            "\\N",
            "\\Z",
        ];
        let is_name =
            |name: &str| name.starts_with('\\') && NAMES.iter().any(|known| name.starts_with(known));
        let bold = self.bold.is_some_and(|at| self.tokens.len() <= at + 3);
        // The name before, without its index or power.
        let mut tokens: Vec<&Token> = self.tokens.iter().rev().take(12).collect();
        tokens.retain(|t| !matches!(t, Token::Op('}' | '{')));
        let raised = matches!(tokens.get(1), Some(Token::Op('_' | '^')));
        let before = match tokens.get(if raised { 2 } else { 0 }) {
            Some(Token::Sym(name)) => bold || is_name(name),
            _ => false,
        };
        let after = after.trim_start_matches([' ', '{', '(']);
        let number = !raised && matches!(tokens.first(), Some(Token::Num { .. }));
        (before && !after.starts_with(|c: char| c.is_ascii_digit())) || (is_name(after) && !number)
    }

    /// `\underbrace{...}_{...}`: what is in the braces, without what is written under them.
    fn explained(&mut self, bytes: usize) -> Result<()> {
        self.skip(bytes);
        let inner = self.argument();
        while self.rest.trim_start().starts_with(['_', '^']) {
            self.rest = &self.rest.trim_start()[1..];
            self.argument();
        }
        if self.braces >= MAX_NESTED {
            return Err(TooMuch);
        }
        let mut lexer = Lexer::new(inner, self.words);
        lexer.braces = self.braces + 1;
        lexer.run()?;
        self.tokens.push(Token::Op('{'));
        self.tokens.append(&mut lexer.tokens);
        self.tokens.push(Token::Op('}'));
        Ok(())
    }

    /// The positive or negative real numbers, of whose name the letter was read: `\mathbb{R}^+` is an interval.
    fn half_line(&mut self) -> Result<bool> {
        const HALVES: [(&[&str], &str); 4] = [
            (&["^+", "^{+}", "_+", "_{+}", "_{>0}"], "(0, \\infty)"),
            (&["^-", "^{-}", "_-", "_{-}", "_{<0}"], "(-\\infty, 0)"),
            (
                &[
                    "_{\\ge0}",
                    "_{\\geq0}",
                    "_{\\geqslant0}",
                    "_0^+",
                    "^+_0",
                    "_{0}^{+}",
                    "^{+}_{0}",
                ],
                "[0, \\infty)",
            ),
            (&["_{\\le0}", "_{\\leq0}", "_{\\leqslant0}"], "(-\\infty, 0]"),
        ];
        let length = self
            .rest
            .find([')', ']', ',', ';', '=', '$'])
            .unwrap_or(self.rest.len());
        let (after, behind) = self.rest.split_at(length);
        let sign: String = after.chars().filter(|c| !c.is_whitespace()).collect();
        let Some((_, interval)) = HALVES.iter().find(|(signs, _)| signs.contains(&sign.as_str())) else {
            return Ok(false);
        };
        let mut lexer = Lexer::new(interval, self.words);
        lexer.run()?;
        self.tokens.append(&mut lexer.tokens);
        self.rest = behind;
        Ok(true)
    }

    /// A fraction of differentials is the name of a derivative: `\frac{dy}{dx}`, where nothing cancels.
    fn derivative(&mut self, bytes: usize) -> bool {
        let before = self.rest;
        self.skip(bytes);
        let (above, below) = (self.argument(), self.argument());
        let Some(name) = derivative(above, below) else {
            self.rest = before;
            return false;
        };
        self.tokens.push(Token::Sym(name));
        true
    }

    /// The argument of a command as it stands: what is in the braces, or one character or command.
    fn argument(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        if let Some(inner) = text.strip_prefix('{')
            && let Some(end) = closing_brace(inner)
        {
            self.rest = &inner[end + 1..];
            return &inner[..end];
        }
        let letters = |s: &str| s.bytes().take_while(u8::is_ascii_alphabetic).count();
        let length = match text.strip_prefix('\\') {
            Some(name) => 1 + letters(name).max(name.chars().next().map_or(0, char::len_utf8)),
            None => text.chars().next().map_or(0, char::len_utf8),
        };
        self.rest = &text[length..];
        &text[..length]
    }

    /// The points behind `\angle`.
    fn letters(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        if text.starts_with('{') {
            return self.argument();
        }
        let length = text.bytes().take_while(u8::is_ascii_alphabetic).count();
        self.rest = &text[length..];
        &text[..length]
    }

    /// A line over an expression is its conjugate, over letters or digits a name.
    fn bar(&mut self, bytes: usize) {
        self.skip(bytes);
        let before = self.rest;
        let shown = self.argument();
        if shown
            .chars()
            .all(|c| c.is_alphanumeric() || c.is_whitespace() || c == '\\' || c == '\'')
        {
            let shown: String = shown.chars().filter(|c| !c.is_whitespace()).collect();
            self.tokens.push(Token::Sym(format!("\\overline{{{shown}}}")));
        } else {
            self.rest = before;
            self.tokens.push(Token::Macro("conj"));
        }
    }

    fn escaped(&mut self) -> Result<()> {
        let token = match self.rest[1..].chars().next() {
            Some('{') => Token::Op('S'),
            Some('}') => Token::Op('s'),
            Some('%') => Token::Op('%'),
            Some('|') => Token::Op('‖'),
            Some('$') => Token::Currency("dollar"),
            Some('\\') => return self.double(),
            Some(' ' | ',' | ';' | ':' | '>' | '!' | '(' | ')' | '[' | ']' | '/' | '\n') => {
                self.skip(2);
                return Ok(());
            }
            None => {
                self.skip(1);
                return Ok(());
            }
            Some('&' | '#' | '_') => return Err(TooMuch),
            Some(_) => return Err(TooMuch),
        };
        self.push(token, 2);
        Ok(())
    }

    /// Two backslashes: the end of a row, or one backslash that some other tool doubled.
    fn double(&mut self) -> Result<()> {
        let after = &self.rest[2..];
        let name_len = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let known = name_len > 0
            && (!matches!(command(&after[..name_len]), Command::Unknown)
                || command::relation_before_letter(&after[..name_len]).is_some());
        let doubled =
            known || after.starts_with(['$', '%', '{', '}', '(', '[', ',', ';', '!', ' ', ')', ']']);
        if !self.rows && doubled && !(after.starts_with(' ') && !after.trim().is_empty() && self.words == 0) {
            self.skip(1);
            return Ok(());
        }
        self.skip(2);
        // `\\[4pt]`
        let space = self.rest.trim_start();
        if let Some(inner) = space.strip_prefix('[')
            && let Some(end) = inner.find(']')
            && inner[..end]
                .trim_end()
                .ends_with(|c: char| c.is_ascii_alphabetic())
            && inner.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'))
        {
            self.rest = &inner[end + 1..];
        }
        match self.environments.last() {
            Some(true) => self.tokens.push(Token::Row),
            // a line of a text: a new item, or the relation goes on
            _ => {
                let next = self.rest.trim_start_matches(['&', ' ', '\n']);
                let goes_on = next.starts_with(['=', '<', '>', '+', '-']) || next.starts_with("\\end");
                if !goes_on && !next.is_empty() && !self.tokens.is_empty() {
                    self.tokens.push(Token::Separator(Join::Comma));
                }
            }
        }
        Ok(())
    }

    /// `\text{...}`: its words, numbers and formulas.
    fn text(&mut self, bytes: usize) -> Result<()> {
        let after = self.rest[bytes..].trim_start_matches(['*', ' ']);
        let Some(inner) = after.strip_prefix('{') else {
            // `\mathrm e`: the font of what follows
            self.skip(bytes);
            return Ok(());
        };
        let end = closing_brace(inner).ok_or(TooMuch)?;
        if self.words >= MAX_NESTED {
            return Err(TooMuch);
        }
        let mut lexer = Lexer::new(&inner[..end], self.words + 1);
        lexer.depth = self.depth;
        lexer.after_number = matches!(self.tokens.last(), Some(Token::Num { .. }));
        lexer.run()?;
        self.depth = lexer.depth;
        self.tokens.append(&mut lexer.tokens);
        self.rest = &inner[end + 1..];
        Ok(())
    }

    fn environment(&mut self, begins: bool, bytes: usize) -> Result<()> {
        let inner = self.rest[bytes..].trim_start().strip_prefix('{').ok_or(TooMuch)?;
        let end = inner.find('}').ok_or(TooMuch)?;
        let name = inner[..end].trim().trim_end_matches('*');
        let mut rest = &inner[end + 1..];
        let kind = match name {
            "array" if begins && std::mem::take(&mut self.braced_array) => Some(Environment::Cases),
            "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "array" | "smallmatrix" | "psmallmatrix"
            | "bsmallmatrix" => Some(Environment::Matrix),
            "vmatrix" => Some(Environment::Determinant),
            "cases" | "dcases" | "rcases" => Some(Environment::Cases),
            "aligned" | "align" | "gathered" | "gather" | "split" | "equation" | "displaymath" | "math"
            | "alignat" | "alignedat" | "center" => None,
            _ => return Err(TooMuch),
        };
        // The column layout of an array.
        if begins && matches!(name, "array" | "alignat" | "alignedat") && rest.trim_start().starts_with('{') {
            rest = &rest[rest.find('}').ok_or(TooMuch)? + 1..];
        }
        self.rest = rest;
        if begins {
            self.environments.push(kind.is_some());
            self.tokens.extend(kind.map(Token::Begin));
        } else if self.environments.pop().ok_or(TooMuch)? {
            self.tokens.push(Token::End);
        }
        Ok(())
    }
}

/// Whether a number of minutes or seconds follows the letter of hours or minutes.
fn smaller(unit: &str, after: &str) -> bool {
    let number = after.trim_start();
    let word = number.trim_start_matches(|c: char| c.is_ascii_digit());
    if word.len() == number.len() {
        return false;
    }
    let word = word.trim_start();
    let end = word
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(word.len());
    match &word[..end] {
        "min" | "mins" | "minutes" => unit == "h",
        "sec" | "secs" | "seconds" => true,
        _ => false,
    }
}

/// The name of the derivative that two differentials are a fraction of.
fn derivative(above: &str, below: &str) -> Option<String> {
    let plain = |text: &str| {
        let upright = text.replace("\\mathrm{d}", "d").replace("\\text{d}", "d");
        upright
            .chars()
            .filter(|c| !matches!(c, ' ' | '{' | '}'))
            .collect::<String>()
    };
    let (above, below) = (plain(above), plain(below));
    let order = |text: &str| {
        let digit = text.strip_prefix('^')?;
        (digit.len() == 1 && digit.starts_with(|c: char| c.is_ascii_digit())).then(|| digit.to_owned())
    };
    let rest = above.strip_prefix('d')?;
    let (of, times) = match rest.len() {
        1 => (rest, None),
        3 => (&rest[2..], Some(order(rest.get(..2)?)?)),
        _ => return None,
    };
    let by = below.strip_prefix('d')?;
    let (by, again) = by.split_at_checked(1)?;
    let again = if again.is_empty() {
        None
    } else {
        Some(order(again)?)
    };
    let letter = |text: &str| text.bytes().all(|b| b.is_ascii_alphabetic());
    (letter(of) && letter(by) && of != by && times == again).then(|| format!("\\frac{{{above}}}{{{below}}}"))
}

/// `dy/dx` at the beginning of a text, with its length.
fn derivative_in_line(text: &str) -> Option<(String, usize)> {
    let [b'd', of, b'/', b'd', by, ..] = text.as_bytes() else {
        return None;
    };
    let ends = !text[5..].starts_with(|c: char| c.is_alphanumeric());
    let letters = of.is_ascii_alphabetic() && by.is_ascii_alphabetic();
    if !ends || !letters {
        return None;
    }
    derivative(&text[..2], &text[3..5]).map(|name| (name, 5))
}

/// The length of a raised ring that follows a `^`; behind a number the letter o is one too.
fn degree(after: &str, of_number: bool) -> Option<usize> {
    const RINGS: [&str; 5] = ["\\circ", "\\degree", "\\text{o}", "\\mathrm{o}", "o"];
    let known = if of_number { &RINGS[..] } else { &RINGS[..2] };
    let text = after.trim_start();
    let skipped = after.len() - text.len();
    let ring = |s: &str| {
        let length = known.iter().find(|ring| s.starts_with(**ring))?.len();
        (!s[length..].starts_with(|c: char| c.is_ascii_alphabetic())).then_some(length)
    };
    if let Some(length) = ring(text) {
        return Some(skipped + length);
    }
    let inner = text.strip_prefix('{')?;
    let ringed = inner.trim_start();
    let length = ring(ringed)?;
    let end = ringed[length..].trim_start().strip_prefix('}')?;
    Some(after.len() - end.len())
}
