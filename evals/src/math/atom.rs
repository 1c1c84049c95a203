//! The parser's atoms: numbers, names, functions, groups.

use super::lex::{Join, Token};
use super::parse::{Node, Parser, Surroundings};
use super::sum::{Result, TooMuch, int};
use super::words;
use num_rational::BigRational;
use num_traits::{One, Signed};

impl Parser {
    pub(super) fn atom(&mut self) -> Result<Node> {
        let token = self.peek().cloned().ok_or(TooMuch)?;
        self.at += 1;
        match token {
            Token::Num { value, digits } => self.mixed(value, digits.is_some()),
            Token::Based(digits, base) => Ok(Node::Based(digits, base)),
            Token::Sym(name) => Ok(Node::Sym(name)),
            Token::Letter(_) | Token::Word(_) => {
                self.at -= 1;
                self.words()
            }
            Token::Unknown(_) => Ok(Node::Opaque),
            Token::Func(name) => self.function(name),
            Token::Macro("sqrt") => {
                let degree = if self.eat('[') {
                    let degree = self.inside(Surroundings::default(), Self::sum)?;
                    self.expect(']')?;
                    degree
                } else {
                    Node::Num(int(2))
                };
                let radicand = self.deeper(Self::argument)?;
                let power = Node::Mul(vec![(false, Node::Num(int(1))), (true, degree)]);
                Ok(Node::Pow(Box::new(radicand), Box::new(power)))
            }
            Token::Macro("frac") => {
                let (above, below) = (self.argument()?, self.argument()?);
                Ok(Node::Mul(vec![(false, above), (true, below)]))
            }
            Token::Macro("binom") => Ok(Node::Call("binom", vec![self.argument()?, self.argument()?])),
            Token::Macro("conj") => Ok(Node::Call("conj", vec![self.argument()?])),
            Token::Op('(') => self.bracketed('(', false),
            Token::Op(open @ ('[' | ']')) => self.bracketed(open, true),
            Token::Op('{') => self.braced(),
            Token::Op('S') => self.set(),
            // a bar before a value, not between two
            Token::Op('∣') => {
                let inner = self.inside(Surroundings::default(), Self::sum)?;
                self.expect('∣')?;
                Ok(Node::Call("abs", vec![inner]))
            }
            Token::Op('|') => {
                let bars = self.inside.bars + 1;
                let inner = self.inside(
                    Surroundings {
                        bars,
                        ..Surroundings::default()
                    },
                    Self::sum,
                )?;
                self.expect('|')?;
                Ok(Node::Call("abs", vec![inner]))
            }
            Token::Op(open @ ('⌊' | '⌈')) => {
                let inner = self.inside(Surroundings::default(), Self::sum)?;
                let (close, name) = if open == '⌊' {
                    ('⌋', "floor")
                } else {
                    ('⌉', "ceil")
                };
                self.expect(close)?;
                Ok(Node::Call(name, vec![inner]))
            }
            Token::Begin(environment) => self.environment(environment),
            _ => Err(TooMuch),
        }
    }

    fn bracketed(&mut self, open: char, square: bool) -> Result<Node> {
        let inside = Surroundings {
            square,
            ..Surroundings::default()
        };
        let (mut items, joins) = self.inside(inside, Self::items)?;
        // (p \lor q) is no pair
        if items.len() > 1 && joins.iter().any(|join| matches!(join, Join::And | Join::Or)) {
            items = vec![Node::List(items, joins)];
        }
        // ]a, b[ is open, [a, b[ half open.
        let close = match self.peek() {
            Some(&Token::Op(close @ (')' | ']'))) => close,
            Some(&Token::Op('[')) if square => ')',
            _ => return Err(TooMuch),
        };
        self.at += 1;
        let open = if open == ']' { '(' } else { open };
        if open == '(' && square && items.len() != 2 {
            return Err(TooMuch);
        }
        Ok(Node::Group(open, items, close))
    }

    /// Braces without backslashes: a group of LaTeX, or a set whose backslashes were left out.
    fn braced(&mut self) -> Result<Node> {
        let inside = Surroundings {
            set: true,
            ..Surroundings::default()
        };
        if self.eat('}') {
            return Err(TooMuch);
        }
        let node = self.inside(inside, Self::list)?;
        if self.eat('}') {
            return Ok(node);
        }
        // 7{:}3
        if matches!(node, Node::Num(_)) && self.eat(':') {
            let other = self.inside(Surroundings::default(), Self::sum)?;
            self.expect('}')?;
            return Ok(Node::Ratio(vec![node, other]));
        }
        self.conditions(node, '}')
    }

    fn set(&mut self) -> Result<Node> {
        if self.eat('s') {
            return Ok(Node::Sym("\\emptyset".to_owned()));
        }
        let inside = Surroundings {
            set: true,
            ..Surroundings::default()
        };
        let (mut items, _) = self.inside(inside, Self::items)?;
        if self.eat('s') {
            return Ok(Node::Set(items));
        }
        match (items.pop(), items.is_empty()) {
            (Some(head), true) => self.conditions(head, 's'),
            _ => Err(TooMuch),
        }
    }

    /// The conditions of a set: behind a bar or a colon.
    fn conditions(&mut self, head: Node, close: char) -> Result<Node> {
        match self.peek() {
            Some(Token::Op('|' | ':' | '∣')) => self.at += 1,
            _ => return Err(TooMuch),
        }
        let (items, joins) = self.inside(Surroundings::default(), Self::items)?;
        self.expect(close)?;
        Ok(Node::Builder(Box::new(head), items, joins))
    }

    /// Words in a row. Where a value follows that they only introduce, they say nothing.
    fn words(&mut self) -> Result<Node> {
        let first = self.at;
        let mut all: Vec<String> = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) => all.push(word.clone()),
                Some(Token::Letter(c)) => all.push(c.to_string()),
                _ => break,
            }
            self.at += 1;
        }
        if let [one] = all.as_slice()
            && one.len() == 1
            && matches!(self.tokens[first], Token::Letter(_))
        {
            return Ok(Node::Sym(one.clone()));
        }
        // "Therefore, 5"
        if self.peek() == Some(&Token::Separator(Join::Comma))
            && first == 0
            && all.iter().all(|word| words::introduces(word))
        {
            self.at += 1;
        }
        let value_follows =
            self.starts_factor() || matches!(self.peek(), Some(Token::Op('-' | '±') | Token::Currency(_)));
        if value_follows && all.iter().all(|word| words::introduces(word)) && self.depth <= 1 {
            let node = self.deeper(Self::sum)?;
            // The value may be followed by a relation or a separator, but not by more of a sentence.
            return Ok(Node::Group('(', vec![node], ')'));
        }
        Ok(Node::Text(all.join(" ")))
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
    fn mixed(&mut self, whole: BigRational, plain_digits: bool) -> Result<Node> {
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
    fn function(&mut self, name: &'static str) -> Result<Node> {
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
        let of_set = matches!(name, "max" | "min" | "gcd" | "lcm") && self.peek() == Some(&Token::Op('S'));
        let mut args = if of_set {
            self.at += 1;
            let (items, _) = self.inside(Surroundings::default(), Self::items)?;
            self.expect('s')?;
            items
        } else if self.peek() == Some(&Token::Op('(')) {
            self.at += 1;
            let (items, _) = self.inside(Surroundings::default(), Self::items)?;
            self.expect(')')?;
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
            (_, Some(_)) => return Err(TooMuch),
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
}

fn number(digits: &str) -> Result<Token> {
    let value = super::number::decimal(digits, 0, 0)?;
    Ok(Token::Num {
        value,
        digits: Some(digits.to_owned()),
    })
}
