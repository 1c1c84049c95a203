//! The parser's atoms: numbers, names, functions, groups, matrices.

use super::lex::Token;
use super::parse::{Node, Parser};
use super::sum::{Result, TooMuch, int};
use num_rational::BigRational;
use num_traits::{One, Signed};

/// Letters that name a function when a parenthesis follows.
const FUNCTION_NAMES: [&str; 6] = ["f", "g", "F", "G", "P", "Q"];

impl Parser {
    pub(super) fn atom(&mut self) -> Result<Node> {
        let token = self.peek().cloned().ok_or(TooMuch)?;
        self.at += 1;
        match token {
            Token::Num { value, digits } => self.mixed(value, digits.is_some()),
            Token::Sym(name) => {
                if FUNCTION_NAMES.contains(&name.as_str()) && self.eat('(') {
                    let args = self.deeper(Self::items)?;
                    return if self.eat(')') {
                        Ok(Node::Apply(name, args))
                    } else {
                        Err(TooMuch)
                    };
                }
                Ok(Node::Sym(name))
            }
            Token::Func(name) => self.function(name),
            Token::Macro("sqrt") => {
                let degree = if self.eat('[') {
                    let degree = self.deeper(Self::sum)?;
                    if !self.eat(']') {
                        return Err(TooMuch);
                    }
                    degree
                } else {
                    Node::Num(int(2))
                };
                let radicand = self.deeper(Self::atom)?;
                let power = Node::Mul(vec![(false, Node::Num(int(1))), (true, degree)]);
                Ok(Node::Pow(Box::new(radicand), Box::new(power)))
            }
            Token::Macro("frac") => {
                let (above, below) = (self.argument()?, self.argument()?);
                Ok(Node::Mul(vec![(false, above), (true, below)]))
            }
            Token::Macro("binom") => Ok(Node::Call("binom", vec![self.argument()?, self.argument()?])),
            Token::Macro("box") => self.argument(),
            Token::Op(open @ ('(' | '[')) => {
                let bars = std::mem::take(&mut self.bars);
                let items = self.deeper(Self::items);
                self.bars = bars;
                let items = items?;
                match self.peek() {
                    Some(&Token::Op(close @ (')' | ']'))) => {
                        self.at += 1;
                        Ok(Node::Group(open, items, close))
                    }
                    _ => Err(TooMuch),
                }
            }
            Token::Op('{') => self.braced('}'),
            Token::Op('S') => {
                if self.eat('s') {
                    return Ok(Node::Sym("\\emptyset".to_owned()));
                }
                let items = self.deeper(Self::items)?;
                if self.eat('s') {
                    Ok(Node::Set(items))
                } else {
                    Err(TooMuch)
                }
            }
            Token::Op('|') => {
                self.bars += 1;
                let inner = self.deeper(Self::sum);
                self.bars -= 1;
                if self.eat('|') {
                    Ok(Node::Call("abs", vec![inner?]))
                } else {
                    Err(TooMuch)
                }
            }
            Token::Op(open @ ('⌊' | '⌈')) => {
                let inner = self.deeper(Self::sum)?;
                let (close, name) = if open == '⌊' {
                    ('⌋', "floor")
                } else {
                    ('⌉', "ceil")
                };
                if self.eat(close) {
                    Ok(Node::Call(name, vec![inner]))
                } else {
                    Err(TooMuch)
                }
            }
            Token::Text(words) | Token::Word(words) => {
                let mut all = words;
                while let Some(Token::Text(words) | Token::Word(words)) = self.peek() {
                    all = all + " " + words;
                    self.at += 1;
                }
                Ok(Node::Text(all))
            }
            Token::Matrix(true) => self.matrix(),
            _ => Err(TooMuch),
        }
    }

    /// A group that may hold a list.
    pub(super) fn braced(&mut self, close: char) -> Result<Node> {
        let bars = std::mem::take(&mut self.bars);
        let node = self.deeper(Self::list);
        self.bars = bars;
        let node = node?;
        if self.eat(close) { Ok(node) } else { Err(TooMuch) }
    }

    /// An argument of `\frac`: a group, or one symbol, which of a number is its first digit.
    pub(super) fn argument(&mut self) -> Result<Node> {
        if let Some(Token::Num {
            digits: Some(digits), ..
        }) = self.peek()
            && digits.len() > 1
        {
            let (first, rest) = (digits[..1].to_owned(), digits[1..].to_owned());
            self.tokens[self.at] = number(&rest)?;
            return match number(&first)? {
                Token::Num { value, .. } => Ok(Node::Num(value)),
                _ => Err(TooMuch),
            };
        }
        self.deeper(Self::atom)
    }

    /// A whole number before a proper fraction: 12\frac{3}{5}, 1 1/2.
    pub(super) fn mixed(&mut self, whole: BigRational, plain_digits: bool) -> Result<Node> {
        let start = self.at;
        if plain_digits && self.peek() == Some(&Token::Macro("frac")) {
            self.at += 1;
            let fraction = (self.argument()?, self.argument()?);
            if let (Node::Num(above), Node::Num(below)) = &fraction
                && above < below
                && above.is_positive()
            {
                return Ok(Node::Num(whole + above / below));
            }
            let fraction = Node::Mul(vec![(false, fraction.0), (true, fraction.1)]);
            return Ok(Node::Mul(vec![(false, Node::Num(whole)), (false, fraction)]));
        }
        let fraction = [self.at, self.at + 1, self.at + 2].map(|i| self.tokens.get(i).cloned());
        if let [
            Some(Token::Num {
                value: above,
                digits: Some(_),
            }),
            Some(Token::Op('/')),
            Some(Token::Num {
                value: below,
                digits: Some(_),
            }),
        ] = fraction
            && plain_digits
            && above < below
        {
            self.at = start + 3;
            return Ok(Node::Num(whole + above / below));
        }
        Ok(Node::Num(whole))
    }

    /// The arguments of a named function: in parentheses, or the factors that follow.
    pub(super) fn function(&mut self, name: &'static str) -> Result<Node> {
        let mut base = None;
        let mut power = None;
        for _ in 0..2 {
            if self.eat('_') {
                base = Some(self.deeper(Self::atom)?);
            }
            if self.eat('^') {
                power = Some(self.deeper(Self::exponent)?);
            }
        }
        let mut args = if self.peek() == Some(&Token::Op('(')) {
            self.at += 1;
            let items = self.deeper(Self::items)?;
            if !self.eat(')') {
                return Err(TooMuch);
            }
            items
        } else {
            let negative = self.sign().is_some_and(|s| s == '-');
            let mut factors = vec![(false, self.deeper(Self::power)?)];
            while self.starts_factor() && !matches!(self.peek(), Some(Token::Func(_) | Token::Op('('))) {
                factors.push((false, self.deeper(Self::power)?));
            }
            let product = Node::Mul(factors);
            vec![if negative {
                Node::Add(vec![('-', product)])
            } else {
                product
            }]
        };
        let name = match (name, base) {
            ("lg", Some(base)) => {
                args.insert(0, base);
                "log"
            }
            ("max" | "min", Some(_)) => return Err(TooMuch),
            _ => name,
        };
        let minus_one = Node::Add(vec![('-', Node::Num(BigRational::one()))]);
        let inverse = power.as_ref().is_some_and(|p| *p == minus_one);
        let (name, power) = match name {
            "sin" if inverse => ("arcsin", None),
            "cos" if inverse => ("arccos", None),
            "tan" if inverse => ("arctan", None),
            name => (name, power),
        };
        let call = Node::Call(name, args);
        Ok(match power {
            Some(power) => Node::Pow(Box::new(call), Box::new(power)),
            None => call,
        })
    }

    pub(super) fn matrix(&mut self) -> Result<Node> {
        let mut rows = vec![Vec::new()];
        loop {
            match self.peek() {
                Some(Token::Row) => {
                    self.at += 1;
                    rows.push(Vec::new());
                }
                Some(Token::Cell) => self.at += 1,
                Some(Token::Matrix(false)) => {
                    self.at += 1;
                    break;
                }
                Some(_) => {
                    let cell = self.deeper(Self::relation)?;
                    rows.last_mut().ok_or(TooMuch)?.push(cell);
                }
                None => return Err(TooMuch),
            }
        }
        rows.retain(|row| !row.is_empty());
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            Err(TooMuch)
        } else {
            Ok(Node::Matrix(rows))
        }
    }
}

fn number(digits: &str) -> Result<Token> {
    let value = super::number::decimal(digits, 0, 0)?;
    Ok(Token::Num {
        value,
        digits: Some(digits.to_owned()),
    })
}
