//! A small LaTeX engine: text to tokens to a tree to a canonical form.
//!
//! `unicode` spells characters in LaTeX; `lex` cuts a text into tokens (`command` knows the commands,
//! `numeral` the numbers, `words` the words); `label` knows dates and codes, which are no mathematics; `parse` with `application`, `atom`, `environment` and `quantity` builds a tree
//! of bounded depth; `eval`, `sum`, `power` and `func` reduce expressions to a canonical sum of rational
//! multiples of atoms; `build`, `joined`, `relation`, `region`, `signs` and `vector` make `form`s of what is not one expression
//! (tuples, lists, sets, intervals, matrices, relations, texts); `numeric` compares values with the numbers
//! of `real`. No step backtracks, every number and sum has a size limit, and what passes a limit is treated
//! as plain text.

mod application;
mod atom;
mod build;
mod command;
mod environment;
mod eval;
pub(crate) mod form;
mod func;
mod joined;
mod label;
mod lex;
mod names;
mod number;
mod numeral;
pub(crate) mod numeric;
mod parse;
mod power;
mod print;
mod quantity;
mod real;
pub(crate) mod region;
mod relation;
mod signs;
pub(crate) mod sum;
pub(crate) mod text;
mod unicode;
mod vector;
mod words;

pub(crate) use eval::is_constant;
pub(crate) use form::Form;
pub(crate) use label::is_label;

/// Longer answers are compared as text.
const MAX_ANSWER_BYTES: usize = 4096;

/// The form of an answer, or `None` when it is not mathematics that is understood here.
pub(crate) fn read(text: &str) -> Option<Form> {
    if text.len() > MAX_ANSWER_BYTES || label::is_label(text) {
        return None;
    }
    let folded = unicode::fold(text);
    let folded = label::binomials(&folded);
    let form = |text: &str| build::build(&parse::parse(lex::lex(trimmed(text)).ok()?).ok()?).ok();
    form(&folded).or_else(|| form(&text::without_rows(&folded)?))
}

/// A text without the punctuation around it.
fn trimmed(text: &str) -> &str {
    let mut s = text;
    loop {
        let before = s;
        // 1, 2, 3, ... goes on
        if label::goes_on(s) {
            return s;
        }
        s = s
            .trim()
            .trim_end_matches(['.', ',', ';', ':'])
            .trim_start_matches([',', ';']);
        // A factorial is not punctuation.
        let bare = s.trim_end_matches('!');
        if !bare.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '}')) {
            s = bare;
        }
        if s == before {
            return s;
        }
    }
}
