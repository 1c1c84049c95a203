//! Letters before parentheses: the name of a function, or a factor.

use super::lex::{Join, Token};
use super::parse::Parser;

/// Letters that name functions of anything.
const FUNCTIONS: [&str; 12] = [
    "\\phi",
    "\\varphi",
    "\\Phi",
    "\\Gamma",
    "\\zeta",
    "\\psi",
    "\\Psi",
    "\\chi",
    "\\delta",
    "\\eta",
    "\\Lambda",
    "\\mathbb{P}",
];
/// Letters that name functions of a number, of a variable, or of one that is shifted or scaled.
const OF_ONE: [&str; 11] = [
    "\\sigma",
    "\\tau",
    "\\mu",
    "\\mathbb{E}",
    "h",
    "u",
    "T",
    "H",
    "U",
    "E",
    "V",
];
/// Letters that are variables, but before a number or a variable alone.
const OF_A_NAME: [&str; 13] = [
    "\\lambda",
    "\\omega",
    "\\Omega",
    "\\theta",
    "\\Theta",
    "\\xi",
    "\\rho",
    "\\nu",
    "\\beta",
    "\\alpha",
    "\\gamma",
    "\\kappa",
    "\\epsilon",
];

/// Whether a name is a letter that usually names a function when a parenthesis follows, with primes or an
/// index.
pub(super) fn is_function(name: &str) -> bool {
    let rest = name.trim_start_matches(['f', 'g', 'F', 'G', 'P', 'Q']);
    name.len() == rest.len() + 1 && (rest.is_empty() || rest.starts_with(['\'', '_', '^']))
}

impl Parser {
    /// Whether a letter before these parentheses is more likely the name of a function than a factor, by what is in
    /// them.
    pub(super) fn applies(&self, name: &str) -> bool {
        let base = name.split(['_', '\'', '^']).next().unwrap_or(name);
        let (any, one) = (FUNCTIONS.contains(&base), OF_ONE.contains(&base));
        if !any && !one && !OF_A_NAME.contains(&base) {
            return false;
        }
        // A few tokens; a letter that is in them itself is a variable.
        let mut variable: Option<&str> = None;
        let mut simple = true;
        for ahead in 1..10 {
            match self.peek_at(ahead) {
                Some(Token::Op(')')) => return ahead > 1 && (any || (simple && (one || ahead == 2))),
                Some(Token::Sym(symbol)) if symbol == name => return false,
                Some(Token::Sym(symbol)) => {
                    simple &= variable.is_none_or(|v| v == symbol);
                    variable = Some(symbol);
                }
                Some(
                    Token::Num { .. }
                    | Token::Op('+' | '-' | '/' | '^' | '{' | '}' | '*')
                    | Token::Separator(Join::Comma),
                ) => {}
                Some(_) => simple = false,
                None => return false,
            }
        }
        any
    }
}
