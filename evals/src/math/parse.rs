//! Tokens to a tree, by recursive descent with a bounded depth.

use super::lex::{Token, is_unit};
use super::sum::{Result, TooMuch, int};
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

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
    /// Side by side with commas, without brackets.
    List(Vec<Node>),
    Matrix(Vec<Vec<Node>>),
    /// Parts and the relations between them.
    Rel(Vec<Node>, Vec<&'static str>),
    /// `U`, `∩`, `\`
    SetOp(char, Vec<Node>),
    Ratio(Vec<Node>),
    Text(String),
}

const MAX_DEPTH: usize = 48;

/// The state of a parse.
pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    depth: usize,
    /// Open absolute-value bars: inside them a bar closes.
    pub(super) bars: usize,
}

/// Parses a whole answer.
pub(crate) fn parse(tokens: Vec<Token>) -> Result<Node> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        bars: 0,
    };
    let node = parser.list()?;
    if parser.at < parser.tokens.len() {
        Err(TooMuch)
    } else {
        Ok(node)
    }
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn eat(&mut self, op: char) -> bool {
        let found = self.peek() == Some(&Token::Op(op));
        self.at += usize::from(found);
        found
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

    /// relation (separator relation)*
    pub(super) fn list(&mut self) -> Result<Node> {
        let mut items = self.items()?;
        if items.len() == 1 {
            items.pop().ok_or(TooMuch)
        } else {
            Ok(Node::List(items))
        }
    }

    pub(super) fn items(&mut self) -> Result<Vec<Node>> {
        let mut items = vec![self.relation()?];
        while matches!(self.peek(), Some(Token::Separator(_))) {
            while matches!(self.peek(), Some(Token::Separator(_))) {
                self.at += 1;
            }
            items.push(self.relation()?);
        }
        Ok(items)
    }

    pub(super) fn relation(&mut self) -> Result<Node> {
        let mut parts = vec![self.ratio()?];
        let mut relations = Vec::new();
        while let Some(&Token::Rel(name)) = self.peek() {
            self.at += 1;
            relations.push(name);
            parts.push(self.ratio()?);
        }
        if relations.is_empty() {
            parts.pop().ok_or(TooMuch)
        } else {
            Ok(Node::Rel(parts, relations))
        }
    }

    fn ratio(&mut self) -> Result<Node> {
        let mut parts = vec![self.set_operation()?];
        while self.eat(':') {
            parts.push(self.set_operation()?);
        }
        if parts.len() == 1 {
            parts.pop().ok_or(TooMuch)
        } else {
            Ok(Node::Ratio(parts))
        }
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
        match terms.as_slice() {
            [('+', _)] => terms.pop().map(|(_, node)| node).ok_or(TooMuch),
            _ => Ok(Node::Add(terms)),
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
        let mut factors = vec![(false, self.power()?)];
        loop {
            let divided = match self.peek() {
                Some(Token::Op('*')) => Some(false),
                Some(Token::Op('/')) => Some(true),
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
            } else if self.skip_unit() || self.skip_modulus()? {
                // Units and "mod n" say nothing about the value.
            } else if self.starts_factor() {
                factors.push((false, self.power()?));
            } else {
                break;
            }
        }
        match factors.as_slice() {
            [(false, _)] => factors.pop().map(|(_, node)| node).ok_or(TooMuch),
            _ => Ok(Node::Mul(factors)),
        }
    }

    pub(super) fn starts_factor(&self) -> bool {
        match self.peek() {
            // Two numbers side by side are no product.
            Some(Token::Num { .. }) => {
                !matches!(self.tokens.get(self.at.wrapping_sub(1)), Some(Token::Num { .. }))
            }
            Some(
                Token::Sym(_)
                | Token::Func(_)
                | Token::Macro("frac" | "sqrt" | "binom" | "box")
                | Token::Matrix(true),
            ) => true,
            Some(Token::Op('(' | '[' | '{' | '⌊' | '⌈')) => true,
            Some(Token::Op('|')) => self.bars == 0,
            _ => false,
        }
    }

    /// Skips a unit after a value: `\text{ cm}^2`, "square units". A remark in parentheses ends the answer.
    fn skip_unit(&mut self) -> bool {
        let after_number = matches!(
            self.tokens.get(self.at.wrapping_sub(1)),
            Some(Token::Num { .. } | Token::Word(_) | Token::Text(_) | Token::Op('}' | '%' | ')' | '/'))
        );
        match self.peek() {
            Some(Token::Text(words)) if words.starts_with('(') && self.depth == 0 => {
                self.at = self.tokens.len();
                return true;
            }
            Some(Token::Text(_)) => {}
            Some(Token::Word(word)) if is_unit(word) || after_number => {}
            _ => return false,
        }
        self.at += 1;
        if self.eat('^') {
            let grouped = self.eat('{');
            self.at += usize::from(matches!(self.peek(), Some(Token::Num { .. })));
            if grouped {
                self.eat('}');
            }
        }
        true
    }

    fn skip_modulus(&mut self) -> Result<bool> {
        if self.peek() != Some(&Token::Macro("mod")) {
            return Ok(false);
        }
        self.at += 1;
        self.deeper(Self::power)?;
        Ok(true)
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
                    node = Node::Pow(Box::new(node), Box::new(exponent));
                }
                Some(Token::Op('!')) => {
                    self.at += 1;
                    node = Node::Call("factorial", vec![node]);
                }
                Some(Token::Op('%')) => {
                    self.at += 1;
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
                Some(Token::Degree) => {
                    self.at += 1;
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
        match (node, index) {
            (Node::Num(q), Node::Num(base)) if q.is_integer() && !q.is_negative() => {
                let base = base.to_u32().filter(|_| base.is_integer()).ok_or(TooMuch)?;
                Ok(if base == 10 {
                    Node::Num(q)
                } else {
                    Node::Based(q.to_string(), base)
                })
            }
            (Node::Sym(name), _) => {
                let index: String = self.tokens[start..self.at].iter().map(plain).collect();
                Ok(Node::Sym(format!("{name}_{index}")))
            }
            _ => Err(TooMuch),
        }
    }
}

/// A token as part of an index.
fn plain(token: &Token) -> String {
    match token {
        Token::Num { value, .. } => value.to_string(),
        Token::Sym(s) | Token::Text(s) | Token::Word(s) => s.clone(),
        Token::Op('{' | '}') => String::new(),
        Token::Op(c) | Token::Separator(c) => c.to_string(),
        _ => "?".to_owned(),
    }
}
