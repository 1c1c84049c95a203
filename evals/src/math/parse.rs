//! Tokens to a tree, by recursive descent with a bounded depth.

use super::application::is_function;
use super::lex::{Join, Token};
use super::sum::{Result, TooMuch, int};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};

/// A parsed answer. Sums and products hold their parts side by side, so that depth is nesting only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Num(BigRational),
    Sym(String),
    /// Terms with their signs: `+`, `-`, `±`, `∓`.
    Add(Vec<(char, Node)>),
    /// Factors; `true` for those divided by.
    Mul(Vec<(bool, Node)>),
    Pow(Box<Node>, Box<Node>),
    Call(&'static str, Vec<Node>),
    /// f(x) for a letter f that usually names a function.
    Apply(String, Vec<Node>),
    /// A number written in a base that is not ten.
    Based(String, u32),
    Degree(Box<Node>),
    /// Between round or square brackets.
    Group(char, Vec<Node>, char),
    Set(Vec<Node>),
    /// `\{x : ...\}`: what it holds, and its conditions.
    Builder(Box<Node>, Vec<Node>, Vec<Join>),
    /// Side by side with commas, without brackets, and how each is joined to the one before.
    List(Vec<Node>, Vec<Join>),
    Matrix(Vec<Vec<Node>>),
    /// The rows of a case distinction, each a value and its condition, or one statement.
    Cases(Vec<Vec<Node>>),
    /// Parts and the relations between them.
    Rel(Vec<Node>, Vec<&'static str>),
    /// `U`, `∩`, `\`
    SetOp(char, Vec<Node>),
    Ratio(Vec<Node>),
    /// A value and its unit.
    Unit(Box<Node>, String),
    /// Values in several units that make one: 2 hours 30 minutes.
    Compound(Vec<(Node, String)>),
    /// A value and a modulus; `true` where the modulus is a remark: `\pmod 7`.
    Mod(Box<Node>, Box<Node>, bool),
    Text(String),
    /// `(C) 12`: the letter of a choice, and what stands behind it.
    Choice(char, Option<Box<Node>>),
    /// A command that is not known: what it stands in has no value.
    Opaque,
}

const MAX_DEPTH: usize = 48;

/// What surrounds the place that is parsed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Surroundings {
    /// Open absolute-value bars: inside them a bar closes.
    pub(super) bars: usize,
    /// Between the braces of a set a bar or a colon begins the conditions.
    pub(super) set: bool,
    /// Between square brackets another one closes: `]2,7[`.
    pub(super) square: bool,
}

/// The state of a parse.
pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) inside: Surroundings,
}

/// Parses a whole answer.
pub(crate) fn parse(tokens: Vec<Token>) -> Result<Node> {
    if let Some(letter) = choice(&tokens) {
        let rest = parse(tokens[3..].to_vec()).ok();
        return Ok(Node::Choice(letter, rest.map(Box::new)));
    }
    // "≥ 3": of what is not said
    let mut tokens = tokens;
    if matches!(tokens.first(), Some(Token::Rel("<" | ">" | "le" | "ge" | "ne"))) {
        tokens.insert(0, Token::Sym("x".to_owned()));
    }
    // "= 5", "≈ 5": what was there before is left out
    let begins = matches!(tokens.first(), Some(Token::Rel("=" | "approx" | "equiv")));
    let mut parser = Parser {
        tokens,
        at: usize::from(begins),
        depth: 0,
        inside: Surroundings::default(),
    };
    let node = parser.list()?;
    if parser.at < parser.tokens.len() {
        Err(TooMuch)
    } else {
        Ok(node)
    }
}

/// The capital letter in parentheses before a value: the choice that has it.
fn choice(tokens: &[Token]) -> Option<char> {
    let [Token::Op('('), letter, Token::Op(')'), next, ..] = tokens else {
        return None;
    };
    let letter = match letter {
        Token::Sym(name) if name.len() == 1 => name.chars().next()?,
        Token::Letter(c) => *c,
        _ => return None,
    };
    let value = matches!(
        next,
        Token::Num { .. } | Token::Macro("frac" | "sqrt" | "binom") | Token::Word(_) | Token::Currency(_)
    );
    (('A'..='J').contains(&letter) && value).then_some(letter)
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    pub(super) fn eat(&mut self, op: char) -> bool {
        let found = self.peek() == Some(&Token::Op(op));
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, op: char) -> Result<()> {
        if self.eat(op) { Ok(()) } else { Err(TooMuch) }
    }

    pub(super) fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(TooMuch);
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Parses between brackets, where other surroundings hold.
    pub(super) fn inside<T>(
        &mut self,
        surroundings: Surroundings,
        parse: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = std::mem::replace(&mut self.inside, surroundings);
        let result = self.deeper(parse);
        self.inside = before;
        result
    }

    /// relation (separator relation)*
    pub(super) fn list(&mut self) -> Result<Node> {
        let (mut items, joins) = self.items()?;
        if items.len() == 1 {
            items.pop().ok_or(TooMuch)
        } else {
            Ok(Node::List(items, joins))
        }
    }

    pub(super) fn items(&mut self) -> Result<(Vec<Node>, Vec<Join>)> {
        let mut items = vec![self.relation()?];
        let mut joins = Vec::new();
        while let Some(join) = self.join() {
            if !self.starts_item() {
                break;
            }
            joins.push(join);
            items.push(self.relation()?);
        }
        Ok((items, joins))
    }

    /// Separators in a row, of which a word says most.
    fn join(&mut self) -> Option<Join> {
        let mut join = None;
        while let Some(&Token::Separator(next)) = self.peek() {
            self.at += 1;
            join = match (join, next) {
                (Some(word @ (Join::And | Join::Or)), _) => Some(word),
                _ => Some(next),
            };
        }
        join
    }

    /// Whether something follows, or a list ends with its separator: `\{1, 2,\}`.
    fn starts_item(&self) -> bool {
        !matches!(
            self.peek(),
            None | Some(Token::Op(')' | ']' | '}' | 's') | Token::Cell | Token::Row | Token::End)
        )
    }

    pub(super) fn relation(&mut self) -> Result<Node> {
        let mut parts = vec![self.ratio()?];
        let mut relations = Vec::new();
        while let Some(&Token::Rel(name)) = self.peek() {
            self.at += 1;
            relations.push(name);
            parts.push(self.ratio()?);
        }
        let node = if relations.is_empty() {
            parts.pop().ok_or(TooMuch)?
        } else {
            Node::Rel(parts, relations)
        };
        self.modulus(node)
    }

    /// `a \bmod m`, `a = b \pmod m`, `(mod m)`: of all that stands before it.
    fn modulus(&mut self, node: Node) -> Result<Node> {
        let bracketed = self.starts_modulus();
        let aside = bracketed || self.peek() == Some(&Token::Macro("pmod"));
        if bracketed {
            self.at += 1;
        } else if !matches!(self.peek(), Some(Token::Macro("pmod" | "bmod"))) {
            return Ok(node);
        }
        self.at += 1;
        let modulus = self.deeper(if bracketed { Self::sum } else { Self::power })?;
        if bracketed {
            self.expect(')')?;
        }
        Ok(Node::Mod(Box::new(node), Box::new(modulus), aside))
    }

    /// Whether `(mod ...)` follows.
    pub(super) fn starts_modulus(&self) -> bool {
        self.peek() == Some(&Token::Op('(')) && matches!(self.peek_at(1), Some(Token::Macro("bmod" | "pmod")))
    }

    fn ratio(&mut self) -> Result<Node> {
        let first = self.at;
        let mut parts = vec![self.set_operation()?];
        while !self.inside.set && self.eat(':') {
            parts.push(self.set_operation()?);
        }
        if parts.len() == 1 {
            return parts.pop().ok_or(TooMuch);
        }
        // words and a colon before a value: its name
        if let [Node::Text(_), value] = parts.as_slice() {
            return if first == 0 {
                Ok(value.clone())
            } else {
                Err(TooMuch)
            };
        }
        Ok(Node::Ratio(parts))
    }

    fn set_operation(&mut self) -> Result<Node> {
        let first = self.sum()?;
        let Some(&Token::Op(op @ ('U' | '∩' | '\\'))) = self.peek() else {
            return Ok(first);
        };
        let mut parts = vec![first];
        while self.eat(op) {
            parts.push(self.sum()?);
        }
        Ok(Node::SetOp(op, parts))
    }

    pub(super) fn sum(&mut self) -> Result<Node> {
        let mut terms = Vec::new();
        let mut sign = self.sign().unwrap_or('+');
        loop {
            terms.push((sign, self.product()?));
            match self.sign() {
                Some(next) => sign = next,
                None => break,
            }
        }
        let node = match terms.as_slice() {
            [('+', _)] => terms.pop().map(|(_, node)| node).ok_or(TooMuch)?,
            _ => Node::Add(terms),
        };
        // `a \over b` divides all that stands in its braces
        match self.peek() {
            Some(Token::Macro("over")) => {
                self.at += 1;
                let below = self.deeper(Self::sum)?;
                Ok(Node::Mul(vec![(false, node), (true, below)]))
            }
            Some(Token::Macro("choose")) => {
                self.at += 1;
                Ok(Node::Call("binom", vec![node, self.deeper(Self::sum)?]))
            }
            _ => Ok(node),
        }
    }

    /// One or more signs in a row.
    pub(super) fn sign(&mut self) -> Option<char> {
        let mut sign = None;
        while let Some(&Token::Op(c @ ('+' | '-' | '±' | '∓'))) = self.peek() {
            self.at += 1;
            sign = Some(match (sign, c) {
                (None | Some('+'), c) => c,
                (Some('-'), '-') => '+',
                (Some('-'), '±') | (Some('±'), '-') => '∓',
                (Some('-'), '∓') | (Some('∓'), '-') => '±',
                (Some(s), _) => s,
            });
        }
        sign
    }

    fn product(&mut self) -> Result<Node> {
        let currency = match self.peek() {
            Some(&Token::Currency(unit)) => {
                self.at += 1;
                Some(unit)
            }
            _ => None,
        };
        let mut factors = vec![(false, self.power()?)];
        loop {
            let divided = match self.peek() {
                Some(Token::Op('*')) => Some(false),
                Some(Token::Op('/')) => Some(true),
                // 2.5 x 10^4
                Some(Token::Sym(x)) if (x == "x" || x == "X") && self.is_times() => Some(false),
                _ => None,
            };
            if let Some(divided) = divided {
                self.at += 1;
                let negative = self.sign().is_some_and(|s| s == '-');
                let factor = self.power()?;
                factors.push((
                    divided,
                    if negative {
                        Node::Add(vec![('-', factor)])
                    } else {
                        factor
                    },
                ));
            } else if self.eat('×') {
                // Of vectors and sets, in this order.
                let right = self.power()?;
                let (divided, left) = factors.pop().ok_or(TooMuch)?;
                if matches!((&left, &right), (Node::Num(_), Node::Num(_))) {
                    factors.extend([(divided, left), (false, right)]);
                } else {
                    factors.push((divided, Node::Apply("×".to_owned(), vec![left, right])));
                }
            } else if self.starts_modulus() {
                break;
            } else if self.words_after(&mut factors)? {
                // Words behind a value are its unit, a number word, or a remark.
            } else if self.starts_factor() {
                factors.push((false, self.power()?));
            } else {
                break;
            }
        }
        let node = match factors.as_slice() {
            [(false, _)] => factors.pop().map(|(_, node)| node).ok_or(TooMuch)?,
            _ => Node::Mul(factors),
        };
        Ok(match (currency, node) {
            (Some(unit), Node::Unit(node, other)) if other == unit => Node::Unit(node, other),
            (Some(unit), Node::Unit(node, other)) if other.starts_with("per ") => {
                Node::Unit(node, format!("{unit} {other}"))
            }
            (Some(_), Node::Unit(..)) => return Err(TooMuch),
            (Some(unit), node) => Node::Unit(Box::new(node), unit.to_owned()),
            (None, node) => node,
        })
    }

    /// Whether the letter x here is a sign of multiplication, between a number and a power of ten.
    fn is_times(&self) -> bool {
        let ten =
            |token: Option<&Token>| matches!(token, Some(Token::Num { value, .. }) if *value == int(10));
        matches!(self.tokens.get(self.at.wrapping_sub(1)), Some(Token::Num { .. }))
            && ten(self.peek_at(1))
            && self.peek_at(2) == Some(&Token::Op('^'))
    }

    pub(super) fn starts_factor(&self) -> bool {
        match self.peek() {
            // Two numbers side by side are no product.
            Some(Token::Num { .. }) => {
                !matches!(self.tokens.get(self.at.wrapping_sub(1)), Some(Token::Num { .. }))
            }
            Some(
                Token::Sym(_)
                | Token::Letter(_)
                | Token::Func(_)
                | Token::Macro("frac" | "sqrt" | "binom" | "conj")
                | Token::Unknown(_)
                | Token::Begin(_),
            ) => true,
            Some(Token::Op('[')) => !self.inside.square,
            Some(Token::Op('(' | '{' | '⌊' | '⌈')) => true,
            Some(Token::Op('|')) => self.inside.bars == 0 && !self.inside.set,
            _ => false,
        }
    }

    /// An atom with its powers, factorials, percent signs, primes and indices.
    pub(super) fn power(&mut self) -> Result<Node> {
        let mut node = self.deeper(Self::atom)?;
        let mut postfixes = 0;
        loop {
            postfixes += 1;
            if postfixes > 8 {
                return Err(TooMuch);
            }
            match self.peek() {
                Some(Token::Op('^')) => {
                    self.at += 1;
                    let exponent = self.deeper(Self::exponent)?;
                    let inverse = exponent == Node::Add(vec![('-', Node::Num(BigRational::one()))]);
                    node = match node {
                        Node::Sym(name)
                            if inverse && is_function(&name) && self.peek() == Some(&Token::Op('(')) =>
                        {
                            Node::Sym(name + "^{-1}")
                        }
                        node => Node::Pow(Box::new(node), Box::new(exponent)),
                    };
                }
                Some(Token::Op('!')) => {
                    let mut marks = 0;
                    while self.eat('!') {
                        marks += 1;
                    }
                    let name = match marks {
                        1 => "factorial",
                        2 => "double factorial",
                        _ => return Err(TooMuch),
                    };
                    node = Node::Call(name, vec![node]);
                }
                Some(Token::Op('%')) => {
                    self.at += 1;
                    // a % b is no percentage
                    if matches!(
                        self.peek(),
                        Some(Token::Sym(_) | Token::Num { .. } | Token::Op('('))
                    ) {
                        return Err(TooMuch);
                    }
                    node = Node::Mul(vec![(false, node), (true, Node::Num(int(100)))]);
                }
                Some(Token::Op('\'')) => {
                    self.at += 1;
                    let Node::Sym(name) = node else {
                        return Err(TooMuch);
                    };
                    node = Node::Sym(name + "'");
                }
                Some(Token::Op('_')) => {
                    self.at += 1;
                    node = self.indexed(node)?;
                }
                Some(Token::Op('(')) => match node {
                    Node::Sym(name) if is_function(&name) || self.applies(&name) => {
                        self.at += 1;
                        let (args, _) = self.inside(Surroundings::default(), Self::items)?;
                        self.expect(')')?;
                        node = Node::Apply(name, args);
                    }
                    node => return Ok(node),
                },
                // E[X] and \mathbb{Z}[x] are no products
                Some(Token::Op('[')) if !self.inside.square => match node {
                    Node::Sym(name) if name == "E" || name == "V" || name.starts_with("\\mathbb{") => {
                        self.at += 1;
                        let (args, _) = self.inside(Surroundings::default(), Self::items)?;
                        self.expect(']')?;
                        node = Node::Apply(name, args);
                    }
                    node => return Ok(node),
                },
                Some(Token::Degree) => {
                    self.at += 1;
                    let scale = match self.peek() {
                        Some(Token::Sym(s)) => s.chars().next().filter(|_| s.len() == 1),
                        Some(Token::Letter(c)) => Some(*c),
                        _ => None,
                    };
                    if let Some(scale @ ('C' | 'F')) = scale {
                        self.at += 1;
                        return Ok(Node::Unit(Box::new(node), scale.to_string()));
                    }
                    node = Node::Degree(Box::new(node));
                }
                _ => return Ok(node),
            }
        }
    }

    pub(super) fn exponent(&mut self) -> Result<Node> {
        let negative = self.sign().is_some_and(|s| s == '-');
        // x^{y}, x^y, x^10, and x^y^z from the right.
        let mut node = self.deeper(Self::atom)?;
        if self.eat('^') {
            let upper = self.deeper(Self::exponent)?;
            node = Node::Pow(Box::new(node), Box::new(upper));
        }
        Ok(if negative {
            Node::Add(vec![('-', node)])
        } else {
            node
        })
    }

    /// `x_1` is a name, `204_5` a number in base five.
    fn indexed(&mut self, node: Node) -> Result<Node> {
        let start = self.at;
        let index = self.deeper(Self::atom)?;
        let written = match &node {
            Node::Group('(', items, ')') if items.len() == 1 => &items[0],
            node => node,
        };
        match written {
            Node::Num(q) if q.is_integer() && !q.is_negative() => based(q.to_string(), &index),
            Node::Sym(name) => {
                let index: String = self.tokens[start..self.at].iter().map(plain).collect();
                Ok(Node::Sym(format!("{name}_{index}")))
            }
            Node::Text(words) => {
                let index: String = self.tokens[start..self.at].iter().map(plain).collect();
                Ok(Node::Text(format!("{words}_{index}")))
            }
            Node::Opaque => Ok(Node::Opaque),
            _ => Err(TooMuch),
        }
    }
}

/// Digits in a base, which may be a word.
pub(super) fn based(digits: String, base: &Node) -> Result<Node> {
    const NAMES: [&str; 17] = [
        "", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen",
    ];
    let base = match base {
        Node::Group('(', items, ')') if items.len() == 1 => &items[0],
        base => base,
    };
    let base = match base {
        Node::Mul(factors) => match factors.as_slice() {
            [(false, Node::Text(word)), (false, number)] if word == "base" => number,
            _ => return Err(TooMuch),
        },
        base => base,
    };
    let base = match base {
        Node::Num(q) if q.is_integer() => q.to_u32(),
        Node::Text(name) => {
            let name = name.trim_start_matches("base").trim().to_lowercase();
            NAMES
                .iter()
                .position(|n| *n == name && !n.is_empty())
                .map(|n| n as u32)
        }
        _ => None,
    };
    match base.ok_or(TooMuch)? {
        10 => super::number::decimal(&digits, 0, 0).map(Node::Num),
        base => Ok(Node::Based(digits, base)),
    }
}

/// A token as part of an index.
fn plain(token: &Token) -> String {
    match token {
        Token::Num { value, .. } => value.to_string(),
        Token::Sym(s) | Token::Word(s) | Token::Unknown(s) => s.clone(),
        Token::Letter(c) => c.to_string(),
        Token::Op('{' | '}') => String::new(),
        Token::Op(c) => c.to_string(),
        Token::Separator(_) => ",".to_owned(),
        Token::Func(name) => (*name).to_owned(),
        _ => "?".to_owned(),
    }
}
