//! Items that words join to one answer: statements with "or", measures with "and", a value and what its variable runs
//! through.

use super::build::Builder;
use super::form::{Form, Left};
use super::lex::Join;
use super::names::{left_side, renamed};
use super::parse::Node;
use super::sum::{Result, TooMuch};

impl Builder {
    /// What these items are together; none where they are a list.
    pub(super) fn joined(&mut self, items: &[Node], joins: &[Join]) -> Option<Result<Form>> {
        if joins.contains(&Join::Or) && items.iter().all(is_statement) {
            return Some(self.either(items, joins));
        }
        // 2 hours and 30 minutes
        if let Some(parts) = compound(items) {
            return Some(self.form(&Node::Compound(parts)));
        }
        // k\pi, k \in \mathbb{Z}
        let [value, Node::Rel(parts, relations)] = items else {
            return None;
        };
        let value = match value {
            Node::Rel(parts, relations) => match parts.as_slice() {
                [name, value] if relations.as_slice() == ["="] && left_side(name) == Left::Name => value,
                _ => return None,
            },
            value => value,
        };
        match parts.as_slice() {
            [Node::Sym(name), set @ Node::Sym(domain)]
                if relations.as_slice() == ["in"] && domain.starts_with("\\mathbb{") =>
            {
                Some(self.through(value, name, set))
            }
            _ => None,
        }
    }

    /// One of several statements, not all; what is joined in two ways depends on their order.
    fn either(&mut self, items: &[Node], joins: &[Join]) -> Result<Form> {
        if joins.iter().any(|join| *join != Join::Or) {
            return Err(TooMuch);
        }
        let mut parts = items.iter().map(|n| self.form(n)).collect::<Result<Vec<_>>>()?;
        parts.sort();
        Ok(Form::SetOp('∨', parts))
    }

    /// A value whose variable runs through a set: the variable may have any name.
    fn through(&mut self, value: &Node, name: &str, set: &Node) -> Result<Form> {
        let renamed = if name == "k" {
            None
        } else {
            renamed(value, name, "k")
        };
        let mut forms = self.both(renamed.as_ref().unwrap_or(value))?;
        let value = if forms.len() == 1 {
            forms.remove(0)
        } else {
            Form::List(forms)
        };
        let name = if renamed.is_some() { "k" } else { name };
        let set = self.sum(set)?;
        Ok(Form::Cases(vec![(value, Form::Text(format!("{name} in {set}")))]))
    }
}

/// Whether a tree can be a statement of logic: a letter, words, or statements in parentheses.
fn is_statement(node: &Node) -> bool {
    match node {
        Node::Sym(name) => name.len() == 1 && !matches!(name.as_str(), "i" | "e"),
        Node::Text(_) => true,
        Node::Group('(', items, ')') => matches!(items.as_slice(), [one] if is_statement(one)),
        Node::List(items, _) => items.iter().all(is_statement),
        _ => false,
    }
}

/// The parts of one measure that words join: `2 hours and 30 minutes`.
fn compound(items: &[Node]) -> Option<Vec<(Node, String)>> {
    const MEASURES: [&[&str]; 6] = [
        &["year", "month", "week", "day", "h", "min", "s"],
        &["mi", "yd", "ft", "in"],
        &["km", "m", "cm", "mm"],
        &["ton", "lb", "oz"],
        &["kg", "g", "mg"],
        &["dollar", "cent"],
    ];
    let mut parts = Vec::new();
    for item in items {
        match item {
            Node::Unit(value, unit) => parts.push(((**value).clone(), unit.clone())),
            Node::Compound(more) => parts.extend(more.iter().cloned()),
            _ => return None,
        }
    }
    let places = |measure: &&[&str]| -> Option<Vec<usize>> {
        let place = |unit: &String| measure.iter().position(|name| name == unit);
        parts.iter().map(|(_, unit)| place(unit)).collect()
    };
    let found = MEASURES.iter().find_map(places)?;
    // From the great to the small; otherwise they are two values.
    (found.len() > 1 && found.windows(2).all(|pair| pair[0] < pair[1])).then_some(parts)
}
