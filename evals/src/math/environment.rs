//! Rows and cells: matrices, determinants, and cases.

use super::lex::{Environment, Token};
use super::parse::{Node, Parser, Surroundings};
use super::sum::{Result, TooMuch};

impl Parser {
    pub(super) fn environment(&mut self, environment: Environment) -> Result<Node> {
        let mut rows: Vec<Vec<Node>> = vec![Vec::new()];
        loop {
            match self.peek() {
                Some(Token::Row) => {
                    self.at += 1;
                    rows.push(Vec::new());
                }
                Some(Token::Cell) => self.at += 1,
                Some(Token::End) => {
                    self.at += 1;
                    break;
                }
                Some(Token::Separator(_)) if environment == Environment::Cases => self.at += 1,
                Some(_) => {
                    let cell = match environment {
                        Environment::Cases => self.case()?,
                        _ => self.inside(Surroundings::default(), Self::relation)?,
                    };
                    rows.last_mut().ok_or(TooMuch)?.push(cell);
                }
                None => return Err(TooMuch),
            }
        }
        rows.retain(|row| !row.is_empty());
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            return Err(TooMuch);
        }
        match environment {
            Environment::Matrix => Ok(Node::Matrix(rows)),
            Environment::Determinant => Ok(Node::Call("det", vec![Node::Matrix(rows)])),
            Environment::Cases if width <= 2 => Ok(Node::Cases(rows)),
            Environment::Cases => Err(TooMuch),
        }
    }

    /// A cell of a case distinction: a value, or a condition without the word before it.
    fn case(&mut self) -> Result<Node> {
        const BEFORE: [&str; 7] = ["if", "when", "for", "where", "provided", "that", "as"];
        while let Some(Token::Word(word)) = self.peek()
            && BEFORE.contains(&word.to_ascii_lowercase().as_str())
        {
            self.at += 1;
        }
        self.inside(Surroundings::default(), Self::list)
    }
}
