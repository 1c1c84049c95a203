//! Words behind a value: its unit, a number word, or a remark. Anything else makes the answer a text.

use super::lex::Token;
use super::parse::{Node, Parser, based};
use super::sum::{Result, TooMuch, int};
use super::words;
use num_traits::One;

/// The words behind a value.
struct Run {
    name: String,
    /// Whether all of them are units.
    known: bool,
}

/// Whether a tree can be nothing but a number.
fn is_number(node: &Node) -> bool {
    match node {
        Node::Num(_) | Node::Based(..) => true,
        Node::Sym(name) => matches!(name.as_str(), "\\pi" | "e" | "i"),
        Node::Add(terms) => terms.iter().all(|(_, n)| is_number(n)),
        Node::Mul(factors) => factors.iter().all(|(_, n)| is_number(n)),
        Node::Pow(a, b) => is_number(a) && is_number(b),
        Node::Degree(inner) | Node::Unit(inner, _) => is_number(inner),
        Node::Call(_, nodes) | Node::Group('(', nodes, ')') => nodes.iter().all(is_number),
        Node::Ratio(parts) => parts.iter().all(is_number),
        _ => false,
    }
}

impl Parser {
    /// Reads words behind the factors of a product into them; false where none stand here.
    pub(super) fn words_after(&mut self, factors: &mut Vec<(bool, Node)>) -> Result<bool> {
        if matches!(factors.first(), Some((_, Node::Text(_)))) {
            return Ok(false);
        }
        let number = factors.iter().all(|(_, n)| is_number(n));
        match self.peek().cloned() {
            Some(Token::Word(word)) => {
                if let Some(factor) = words::factor(&word) {
                    self.at += 1;
                    factors.push((false, Node::Num(factor)));
                    return Ok(true);
                }
                // 1 third; "5 third" is none
                if let Some(place) = words::ordinal(&word)
                    && place > 2
                    && matches!(factors.as_slice(), [(false, Node::Num(q))] if q.is_one())
                {
                    self.at += 1;
                    factors.push((true, Node::Num(int(place))));
                    return Ok(true);
                }
                match word.as_str() {
                    "choose" => {
                        self.at += 1;
                        let below = self.power()?;
                        let above = Node::Mul(std::mem::take(factors));
                        factors.push((false, Node::Call("binom", vec![above, below])));
                        return Ok(true);
                    }
                    "base" => {
                        self.at += 1;
                        return self.in_base(factors).map(|()| true);
                    }
                    _ => {}
                }
            }
            Some(Token::Letter(c)) if words::unit(&c.to_string()).is_some() && !matches!(c, 'e' | 'i') => {}
            // 5 €
            Some(Token::Currency(unit)) if number => {
                self.at += 1;
                let value = take(factors);
                factors.push((false, Node::Unit(Box::new(value), unit.to_owned())));
                return Ok(true);
            }
            Some(Token::Op('(')) if number && self.starts_aside() => {
                return self.aside(factors).map(|()| true);
            }
            _ => return Ok(false),
        }
        let run = self.run()?;
        if !run.known && !number {
            return Err(TooMuch);
        }
        let (value, run) = match take(factors) {
            // 5 degrees Celsius, 45 degrees north
            Node::Degree(value) if matches!(run.name.as_str(), "C" | "F" | "K") => (*value, run),
            Node::Degree(value) => {
                let name = format!("degree {}", run.name);
                (*value, Run { name, ..run })
            }
            value => (value, run),
        };
        let node = if run.known && matches!(self.peek(), Some(Token::Num { .. })) {
            self.compound(value, run.name)?
        } else if matches!(value, Node::Unit(..)) || (self.starts_factor() && !self.starts_aside()) {
            return Err(TooMuch);
        } else {
            Node::Unit(Box::new(value), run.name)
        };
        factors.push((false, node));
        Ok(true)
    }

    fn in_base(&mut self, factors: &mut Vec<(bool, Node)>) -> Result<()> {
        let base = self.deeper(Self::atom)?;
        let Node::Num(q) = take(factors) else {
            return Err(TooMuch);
        };
        factors.push((false, based(q.to_string(), &base)?));
        Ok(())
    }

    /// A remark in parentheses: words first.
    fn starts_aside(&self) -> bool {
        self.depth == 0
            && self.peek() == Some(&Token::Op('('))
            && matches!(self.peek_at(1), Some(Token::Word(_)))
    }

    fn aside(&mut self, factors: &mut Vec<(bool, Node)>) -> Result<()> {
        self.at += 1;
        let first = self.at;
        if self.peek() == Some(&Token::Word("base".to_owned())) {
            self.at += 1;
            self.in_base(factors)?;
            return self.expect(')');
        }
        // 5 (kg)
        if let Ok(Run { name, known: true }) = self.run()
            && self.eat(')')
        {
            let value = take(factors);
            factors.push((false, Node::Unit(Box::new(value), name)));
            return Ok(());
        }
        self.at = first;
        let mut open = 1;
        while open > 0 {
            match self.peek().ok_or(TooMuch)? {
                Token::Op('(') => open += 1,
                Token::Op(')') => open -= 1,
                _ => {}
            }
            self.at += 1;
        }
        match self.peek() {
            None | Some(Token::Separator(_) | Token::Rel(_)) => Ok(()),
            _ => Err(TooMuch),
        }
    }

    /// Words in a row as the name of a unit.
    fn run(&mut self) -> Result<Run> {
        let mut parts: Vec<String> = Vec::new();
        let (mut known, mut power) = (true, None);
        loop {
            let word = match self.peek() {
                Some(Token::Word(word)) => word.clone(),
                Some(Token::Letter(c)) => c.to_string(),
                Some(Token::Op('/')) if !parts.is_empty() && self.is_word(1) => "per".to_owned(),
                Some(Token::Op('*')) if !parts.is_empty() && self.is_word(1) => {
                    self.at += 1;
                    continue;
                }
                Some(Token::Op('^')) if !parts.is_empty() => {
                    self.at += 1;
                    let grouped = self.eat('{');
                    let minus = if self.eat('-') { "-" } else { "" };
                    let Some(Token::Num { value, .. }) = self.peek() else {
                        return Err(TooMuch);
                    };
                    let exponent = format!("^{minus}{value}");
                    self.at += 1;
                    if grouped {
                        self.expect('}')?;
                    }
                    if let Some(last) = parts.last_mut() {
                        last.push_str(&exponent);
                    }
                    continue;
                }
                _ => break,
            };
            // units squared
            if let (Some(last), "squared" | "cubed") = (parts.last_mut(), word.as_str()) {
                last.push_str(if word == "squared" { "^2" } else { "^3" });
                self.at += 1;
                continue;
            }
            let point = word == "point" && parts.is_empty() && !self.is_word(1);
            if (words::changes(&word) && !point) || words::factor(&word).is_some() {
                return Err(TooMuch);
            }
            let last =
                !self.is_word(1) && !matches!(self.peek_at(1), Some(Token::Num { .. } | Token::Sym(_)));
            if words::ties(&word) && word != "per" && !(word == "in" && last && parts.is_empty()) {
                // Behind a unit the words go on about it.
                if parts.is_empty() || word == "in" && !known {
                    return Err(TooMuch);
                }
                while self.is_word(0) {
                    self.at += 1;
                }
                known = false;
                break;
            }
            self.at += 1;
            match word.to_ascii_lowercase().as_str() {
                "square" | "sq" => power = Some("^2"),
                "cubic" | "cu" => power = Some("^3"),
                lower => {
                    let name = words::unit(&word).map_or_else(|| lower.to_owned(), str::to_owned);
                    known &= word == "per" || words::unit(&word).is_some();
                    parts.push(name + power.take().unwrap_or_default());
                }
            }
        }
        parts.extend(power.map(|p| format!("unit{p}")));
        if parts.is_empty() {
            return Err(TooMuch);
        }
        Ok(Run {
            name: parts.join(" "),
            known: known && parts.last().is_some_and(|last| last != "per"),
        })
    }

    fn is_word(&self, ahead: usize) -> bool {
        matches!(self.peek_at(ahead), Some(Token::Word(_) | Token::Letter(_)))
    }

    /// 2 hours 30 minutes
    fn compound(&mut self, value: Node, unit: String) -> Result<Node> {
        let mut parts = vec![(value, unit)];
        while matches!(self.peek(), Some(Token::Num { .. })) {
            let value = self.power()?;
            let run = self.run()?;
            if !run.known || parts.iter().any(|(_, unit)| *unit == run.name) {
                return Err(TooMuch);
            }
            parts.push((value, run.name));
        }
        if self.starts_factor() {
            return Err(TooMuch);
        }
        Ok(Node::Compound(parts))
    }
}

fn take(factors: &mut Vec<(bool, Node)>) -> Node {
    match factors.as_slice() {
        [(false, _)] => factors.remove(0).1,
        _ => Node::Mul(std::mem::take(factors)),
    }
}
