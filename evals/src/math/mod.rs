//! A small LaTeX engine: text to tokens to a tree to a canonical form.
//!
//! `clean` takes out typography, `lex` and `parse` build a tree of bounded depth, `sum` and `func` reduce
//! expressions to a canonical sum of rational multiples of atoms, `form` covers what is not one expression
//! (tuples, sets, intervals, matrices, equations, texts), and `numeric` evaluates to 30 digits. No step
//! backtracks, every number and sum has a size limit, and what passes a limit is treated as plain text.

mod atom;
pub(crate) mod clean;
mod eval;
pub(crate) mod form;
mod func;
mod lex;
mod number;
pub(crate) mod numeric;
mod parse;
mod power;
mod print;
mod real;
pub(crate) mod sum;

pub(crate) use eval::is_constant;
pub(crate) use form::Form;

/// Longer answers are compared as text.
const MAX_ANSWER_BYTES: usize = 4096;

/// The form of an answer, or `None` when it is not mathematics that is understood here.
pub(crate) fn read(text: &str) -> Option<Form> {
    if text.len() > MAX_ANSWER_BYTES {
        return None;
    }
    let cleaned = clean::clean(text);
    let form = |text: &str| form::build(&parse::parse(lex::lex(text).ok()?).ok()?).ok();
    // An expression broken over the rows of a matrix, a habit of some models, is not a matrix.
    form(&cleaned).or_else(|| form(&clean::without_rows(&cleaned)?))
}
