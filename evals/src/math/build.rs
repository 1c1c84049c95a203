//! Trees to forms.

use super::eval::is_constant;
use super::form::{Form, Left, NAMELESS};
use super::lex::Join;
use super::names::left_side;
use super::parse::Node;
use super::region::{Region, Span, infinite};
use super::signs::has_plus_minus;
use super::sum::{Budget, Result, Sum, TooMuch, int};
use super::vector::is_vector;
use super::words;
use num_traits::{Signed, Zero};

/// Turns one tree into its form, within one budget.
pub(super) struct Builder {
    pub(super) budget: Budget,
    /// Whether ± now means + (and ∓ means -).
    pub(super) upper: bool,
    /// Whether degrees are turned into radians: in the argument of a trigonometric function.
    pub(super) turning: bool,
    /// The unit met in the value that is read.
    pub(super) unit: Option<String>,
}

/// Builds the form of a tree; an answer with ± is the list of both values.
pub(crate) fn build(tree: &Node) -> Result<Form> {
    let mut builder = Builder {
        budget: Budget::default(),
        upper: true,
        turning: false,
        unit: None,
    };
    builder.whole(tree)
}

/// Units that say no more than that there is one.
fn is_bare(unit: &str) -> bool {
    unit.starts_with("unit") || unit == "radian"
}

impl Builder {
    fn whole(&mut self, node: &Node) -> Result<Form> {
        match node {
            node if !matches!(node, Node::List(..)) && has_plus_minus(node) => {
                Ok(Form::List(self.both(node)?))
            }
            node => self.form(node),
        }
    }

    pub(super) fn form(&mut self, node: &Node) -> Result<Form> {
        self.budget.spend(1)?;
        match node {
            Node::Group(_, items, _) if items.len() == 1 => self.form(&items[0]),
            Node::Group('[', items, ']') if is_table(items) => {
                let rows: Vec<Vec<Node>> = items
                    .iter()
                    .filter_map(|item| match item {
                        Node::Group(_, cells, _) => Some(cells.clone()),
                        _ => None,
                    })
                    .collect();
                self.form(&Node::Matrix(rows))
            }
            Node::Group(open, items, close) => self.group(*open, items, *close),
            Node::List(items, joins) => self.list(items, joins),
            Node::Set(items) => {
                let mut members = Vec::new();
                for item in items {
                    members.extend(self.both(item)?.into_iter().map(value_of_name));
                }
                members.sort();
                members.dedup();
                Ok(Form::Set(members))
            }
            Node::Builder(head, conditions, joins) => self.set_builder(head, conditions, joins),
            Node::Matrix(rows) => {
                let rows: Result<Vec<Vec<Form>>> = rows
                    .iter()
                    .map(|row| row.iter().map(|cell| self.form(cell)).collect())
                    .collect();
                Ok(Form::Matrix(rows?))
            }
            Node::Cases(rows) => self.cases(rows),
            Node::SetOp(op, parts) => self.set_operation(*op, parts),
            Node::Ratio(parts) => {
                self.unit = None;
                Ok(Form::Ratio(
                    parts.iter().map(|p| self.sum(p)).collect::<Result<_>>()?,
                ))
            }
            Node::Text(words) if let Some(place) = words::ordinal(words) => {
                Ok(Form::Quantity(Sum::rational(int(place)), "th".to_owned()))
            }
            Node::Text(words) => Ok(match words.to_lowercase().as_str() {
                "all real numbers"
                | "all reals"
                | "all real x"
                | "the real numbers"
                | "the set of all real numbers" => Region::all().into_form(),
                _ => Form::Text(words.clone()),
            }),
            Node::Choice(letter, rest) => {
                let rest = rest.as_ref().and_then(|rest| self.form(rest).ok());
                Ok(Form::Choice(*letter, rest.map(Box::new)))
            }
            Node::Sym(name) if name == "\\mathbb{R}" => Ok(Region::all().into_form()),
            Node::Rel(parts, relations) => self.relation(parts, relations),
            Node::Mod(inner, modulus, aside) => self.modulus(inner, modulus, *aside),
            Node::Compound(parts) => {
                let mut values = Vec::new();
                self.unit = None;
                for (value, unit) in parts {
                    values.push((self.sum(value)?, unit.clone()));
                }
                Ok(Form::Compound(values))
            }
            Node::Unit(inner, unit) if matches!(**inner, Node::Ratio(_)) && is_bare(unit) => self.form(inner),
            Node::Add(terms) if matches!(terms.as_slice(), [('+', _), ('-', Node::Set(_))]) => {
                let sets: Vec<Node> = terms.iter().map(|(_, set)| set.clone()).collect();
                self.set_operation('\\', &sets)
            }
            node if is_vector(node) => {
                self.unit = None;
                self.vectors(node)
            }
            node => {
                self.unit = None;
                let sum = self.sum(node)?;
                Ok(match self.unit.take() {
                    Some(unit) => Form::Quantity(sum, unit),
                    None => Form::Expr(sum),
                })
            }
        }
    }

    fn group(&mut self, open: char, items: &[Node], close: char) -> Result<Form> {
        if let [low, high] = items {
            let square = open == '[' || close == ']';
            let ends = if square {
                Some((self.sum(low)?, self.sum(high)?))
            } else {
                match (self.sum(low), self.sum(high)) {
                    (Ok(low), Ok(high)) if infinite(&low).is_some() || infinite(&high).is_some() => {
                        Some((low, high))
                    }
                    _ => None,
                }
            };
            if let Some((low, high)) = ends {
                self.unit = None;
                return Ok(Region(vec![Span::new(low, open == '[', high, close == ']')]).into_form());
            }
        }
        Ok(Form::Tuple(
            items.iter().map(|item| self.form(item)).collect::<Result<_>>()?,
        ))
    }

    fn set_operation(&mut self, op: char, parts: &[Node]) -> Result<Form> {
        let mut parts = parts.iter().map(|p| self.form(p)).collect::<Result<Vec<_>>>()?;
        let regions: Option<Vec<Region>> = parts.iter().map(Region::of).collect();
        if let Some((first, others)) = regions.as_deref().and_then(|r| r.split_first()) {
            let mut total = Ok(first.clone());
            for other in others {
                total = total.and_then(|total| match op {
                    'U' => Region::union([total, other.clone()]),
                    '∩' => total.intersection(other),
                    _ => total.intersection(&other.complement()?),
                });
            }
            if let Ok(total) = total {
                return Ok(total.into_form());
            }
        }
        if op != '\\' {
            parts.sort();
        }
        Ok(Form::SetOp(op, parts))
    }

    fn cases(&mut self, rows: &[Vec<Node>]) -> Result<Form> {
        if rows.iter().all(|row| row.len() == 1) {
            let items: Vec<Node> = rows.iter().flatten().cloned().collect();
            let joins = vec![Join::And; items.len() - 1];
            return match items.as_slice() {
                [one] => self.form(one),
                _ => self.list(&items, &joins),
            };
        }
        let mut cases = Vec::new();
        for row in rows {
            if let [value, condition] = row.as_slice() {
                cases.push((self.form(value)?, self.form(condition)?));
            }
        }
        cases.sort();
        Ok(Form::Cases(cases))
    }

    /// `\{x : x > 2\}`: where the condition holds.
    fn set_builder(&mut self, head: &Node, conditions: &[Node], joins: &[Join]) -> Result<Form> {
        let (name, domain) = match head {
            Node::Sym(name) => (name, None),
            Node::Rel(parts, relations) if relations.as_slice() == ["in"] => match parts.as_slice() {
                [Node::Sym(name), set] => (name, Some(self.form(set)?)),
                _ => return Err(TooMuch),
            },
            _ => return Err(TooMuch),
        };
        let (variable, region) = self.solved(conditions, joins)?;
        if variable.is_some_and(|v| v != *name) {
            return Err(TooMuch);
        }
        let region = match domain {
            Some(domain) => region.intersection(&Region::of(&domain).ok_or(TooMuch)?)?,
            None => region,
        };
        Ok(region.into_form())
    }

    /// Items side by side: relations that hold together, named values, or values.
    fn list(&mut self, items: &[Node], joins: &[Join]) -> Result<Form> {
        let changes = |n: &Node| matches!(n, Node::Text(words) if words::changes(words.split(' ').next().unwrap_or("")));
        if items
            .iter()
            .any(|n| matches!(n, Node::Mod(_, _, true)) || changes(n))
        {
            return Err(TooMuch);
        }
        if let Some(form) = self.joined(items, joins) {
            return form;
        }
        if items.iter().any(|n| matches!(n, Node::Rel(..)))
            && let Ok((_, region)) = self.solved(items, joins)
        {
            return Ok(Form::Relation {
                parts: Vec::new(),
                either: joins.contains(&Join::Or),
                region: Some(Box::new(region.into_form())),
            });
        }
        let mut names: Vec<Option<String>> = Vec::new();
        let mut forms: Vec<Form> = Vec::new();
        for item in items {
            let name = self.name(item);
            for form in self.both(item)? {
                names.push(name.clone());
                forms.push(form);
            }
        }
        // [1, 2] or [3, 4]
        if joins.contains(&Join::Or)
            && forms.iter().any(|form| matches!(form, Form::Region(_)))
            && let Some(regions) = forms.iter().map(Region::of).collect::<Option<Vec<_>>>()
            && let Ok(union) = Region::union(regions)
        {
            return Ok(union.into_form());
        }
        self.named(&names, forms)
    }

    /// What named values come to.
    fn named(&mut self, names: &[Option<String>], forms: Vec<Form>) -> Result<Form> {
        let asked = |form: &Form| {
            matches!(
                form,
                Form::Equation {
                    left: Left::Asked,
                    ..
                }
            )
        };
        // m = 3, n = 4, m + n = 7
        if let Some(last) = forms.last()
            && asked(last)
            && forms.len() > 1
            && names
                .iter()
                .zip(&forms)
                .all(|(name, form)| name.is_some() || asked(form))
        {
            return Ok(last.clone());
        }
        let mut distinct: Vec<&String> = names.iter().flatten().collect();
        distinct.sort();
        distinct.dedup();
        let count = distinct.len();
        if count == 0 {
            return Ok(Form::List(forms));
        }
        let values: Vec<Form> = forms.into_iter().map(value_of_name).collect();
        if count == 1 {
            return if names[0].is_some() {
                Ok(Form::List(values))
            } else {
                Err(TooMuch)
            };
        }
        let mut pairs: Vec<(String, Form)> = Vec::new();
        for (name, value) in names.iter().zip(values) {
            pairs.push((name.clone().ok_or(TooMuch)?, value));
        }
        if pairs.len() == count {
            return Ok(Form::Named(pairs));
        }
        // x = 1, y = 2 or x = 3, y = 4
        let mut tuples = Vec::new();
        for group in pairs.chunks(count) {
            let mut group = group.to_vec();
            group.sort();
            group.dedup_by(|a, b| a.0 == b.0);
            if group.len() != count {
                return Err(TooMuch);
            }
            tuples.push(Form::Tuple(group.into_iter().map(|(_, value)| value).collect()));
        }
        Ok(Form::List(tuples))
    }

    /// The name that an item gives a value.
    fn name(&mut self, item: &Node) -> Option<String> {
        let Node::Rel(parts, relations) = item else {
            return None;
        };
        if relations
            .iter()
            .all(|r| matches!(*r, "<" | ">" | "le" | "ge" | "ne"))
        {
            return match self.form(item) {
                Ok(Form::Relation { parts, .. }) => self.place(&parts).ok().map(|(name, _)| name),
                _ => None,
            };
        }
        if !relations.iter().all(|r| matches!(*r, "=" | "approx" | "in")) {
            return None;
        }
        match (&parts[0], left_side(&parts[0])) {
            (Node::Text(words), Left::Name) => Some(words.to_lowercase()),
            (Node::Group(_, items, _), Left::Name) => {
                let names: Vec<String> = items
                    .iter()
                    .map(|n| Some(self.sum(n).ok()?.to_string()))
                    .collect::<Option<_>>()?;
                Some(format!("({})", names.join(", ")))
            }
            (node, Left::Name | Left::Function) => match self.sum(node) {
                Ok(sum) => Some(sum.to_string()),
                Err(_) => Some(format!("{node:?}")),
            },
            _ => None,
        }
    }
}

/// x = 2: the value alone.
fn value_of_name(form: Form) -> Form {
    match form {
        Form::Equation {
            value,
            left: Left::Name | Left::Function,
            ..
        } => *value,
        form => form,
    }
}

/// Rows in square brackets within square brackets.
fn is_table(items: &[Node]) -> bool {
    let width = |node: &Node| match node {
        Node::Group('[', cells, ']') => Some(cells.len()),
        _ => None,
    };
    let first = items.first().and_then(width);
    first.is_some() && items.iter().all(|item| width(item) == first)
}

impl Builder {
    /// A value modulo another, or a congruence.
    fn modulus(&mut self, inner: &Node, modulus: &Node, aside: bool) -> Result<Form> {
        match inner {
            Node::Rel(parts, relations) if relations.iter().all(|r| matches!(*r, "=" | "equiv")) => {
                self.congruence(&parts[0], &parts[parts.len() - 1], modulus)
            }
            Node::Rel(..) => Err(TooMuch),
            inner if aside => self.residue(inner, modulus),
            inner => {
                let value = self.sum(inner)?.as_rational().ok_or(TooMuch)?;
                let size = self.sum(modulus)?.as_rational().ok_or(TooMuch)?;
                // 1 mod 4 has nothing to compute, and so speaks of a class.
                if !value.is_negative() && value < size {
                    return self.residue(inner, modulus);
                }
                let modulus = size;
                if !value.is_integer() || !modulus.is_integer() || !modulus.is_positive() {
                    return Err(TooMuch);
                }
                let rest = num_integer::Integer::mod_floor(&value.to_integer(), &modulus.to_integer());
                Ok(Form::Expr(Sum::rational(rest.into())))
            }
        }
    }

    /// A value that is given modulo another, of what has no name.
    fn residue(&mut self, value: &Node, modulus: &Node) -> Result<Form> {
        self.congruence(&Node::Sym(NAMELESS.to_owned()), value, modulus)
    }

    fn congruence(&mut self, left: &Node, right: &Node, modulus: &Node) -> Result<Form> {
        let modulus = self.sum(modulus)?;
        let value = match left_side(left) {
            Left::Name => Some(Box::new(self.form(right)?)).filter(|form| match form.quantity() {
                Some((sum, _)) => is_constant(sum),
                None => false,
            }),
            _ => None,
        };
        self.unit = None;
        let mut zero = self.difference(left, right)?;
        if let Some(m) = modulus
            .as_rational()
            .filter(|m| m.is_integer() && m.is_positive())
        {
            let m = m.to_integer();
            let whole = zero.0.values().all(|q| q.is_integer());
            if whole {
                for turn in 0..2 {
                    for q in zero.0.values_mut() {
                        *q = num_integer::Integer::mod_floor(&q.to_integer(), &m).into();
                    }
                    zero.0.retain(|_, q| !q.is_zero());
                    // The leading coefficient is made 1 where it has an inverse.
                    let inverse = zero.leading().and_then(|q| q.to_integer().modinv(&m));
                    if let (0, Some(inverse)) = (turn, inverse) {
                        zero = zero.scale(&inverse.into(), &mut self.budget)?;
                    }
                }
            }
        }
        Ok(Form::Congruence { zero, modulus, value })
    }
}
