//! Trees to forms.

use super::eval::is_constant;
use super::form::{Form, Left, NAMELESS};
use super::lex::Join;
use super::names::{left_side, renamed};
use super::parse::Node;
use super::region::{Region, Span, infinite};
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

/// Whether ± or ∓ stands in a tree.
fn has_plus_minus(node: &Node) -> bool {
    match node {
        Node::Add(terms) => terms
            .iter()
            .any(|(sign, n)| matches!(sign, '±' | '∓') || has_plus_minus(n)),
        Node::Mul(factors) => factors.iter().any(|(_, n)| has_plus_minus(n)),
        Node::Pow(a, b) => has_plus_minus(a) || has_plus_minus(b),
        Node::Degree(a) | Node::Unit(a, _) | Node::Mod(a, _, _) => has_plus_minus(a),
        Node::Call(_, nodes) | Node::Apply(_, nodes) | Node::Group(_, nodes, _) | Node::Rel(nodes, _) => {
            nodes.iter().any(has_plus_minus)
        }
        _ => false,
    }
}

/// Units that say no more than that there is one.
fn is_bare(unit: &str) -> bool {
    unit.starts_with("unit") || unit == "radian"
}

/// Signs of one value that are chosen apart, in both ways each.
const MAX_SIGNS: u32 = 4;

/// How many `±` one value holds whose signs are chosen apart: none where there is `∓`, which goes with a `±`, or
/// where they stand in different values.
fn free_signs(node: &Node) -> Option<u32> {
    fn sum(mut counts: impl Iterator<Item = Option<u32>>) -> Option<u32> {
        counts.try_fold(0, |n, more| Some(n + more?))
    }
    match node {
        Node::Add(terms) => sum(terms.iter().map(|(sign, n)| match sign {
            '∓' => None,
            '±' => Some(1 + free_signs(n)?),
            _ => free_signs(n),
        })),
        Node::Mul(factors) => sum(factors.iter().map(|(_, n)| free_signs(n))),
        Node::Pow(a, b) => Some(free_signs(a)? + free_signs(b)?),
        Node::Degree(a) | Node::Unit(a, _) => free_signs(a),
        Node::Mod(a, ..) => free_signs(a),
        Node::Call(_, nodes) | Node::Apply(_, nodes) | Node::Group(_, nodes, _) | Node::Rel(nodes, _) => {
            if nodes.iter().filter(|n| has_plus_minus(n)).count() > 1 {
                return None;
            }
            sum(nodes.iter().map(free_signs))
        }
        _ => Some(0),
    }
}

/// The same tree with each `±` replaced by the sign that its bit says.
fn signed(node: &Node, bits: &mut u32) -> Node {
    let mut all = |nodes: &[Node]| nodes.iter().map(|n| signed(n, bits)).collect::<Vec<_>>();
    match node {
        Node::Add(terms) => Node::Add(
            terms
                .iter()
                .map(|(sign, n)| {
                    let sign = if *sign == '±' {
                        let minus = *bits & 1 == 1;
                        *bits >>= 1;
                        if minus { '-' } else { '+' }
                    } else {
                        *sign
                    };
                    (sign, signed(n, bits))
                })
                .collect(),
        ),
        Node::Mul(factors) => Node::Mul(factors.iter().map(|(d, n)| (*d, signed(n, bits))).collect()),
        Node::Pow(a, b) => Node::Pow(Box::new(signed(a, bits)), Box::new(signed(b, bits))),
        Node::Degree(a) => Node::Degree(Box::new(signed(a, bits))),
        Node::Unit(a, unit) => Node::Unit(Box::new(signed(a, bits)), unit.clone()),
        Node::Mod(a, m, aside) => Node::Mod(Box::new(signed(a, bits)), m.clone(), *aside),
        Node::Call(name, nodes) => Node::Call(name, all(nodes)),
        Node::Apply(name, nodes) => Node::Apply(name.clone(), all(nodes)),
        Node::Group(open, nodes, close) => Node::Group(*open, all(nodes), *close),
        Node::Rel(nodes, relations) => Node::Rel(all(nodes), relations.clone()),
        node => node.clone(),
    }
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

    /// The form of an item, or with ± in it both forms.
    fn both(&mut self, node: &Node) -> Result<Vec<Form>> {
        if !has_plus_minus(node) {
            return Ok(vec![self.form(node)?]);
        }
        let mut forms = Vec::new();
        if let Some(signs @ 2..) = free_signs(node) {
            if signs > MAX_SIGNS {
                return Err(TooMuch);
            }
            for bits in 0..1u32 << signs {
                self.unit = None;
                let form = self.form(&signed(node, &mut bits.clone()))?;
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
            return Ok(forms);
        }
        for upper in [true, false] {
            self.upper = upper;
            forms.push(self.form(node)?);
        }
        self.upper = true;
        Ok(forms)
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
        if joins.contains(&Join::Or) && items.iter().all(is_statement) {
            // One of them, not all; and what is joined in two ways depends on their order.
            if joins.iter().any(|join| *join != Join::Or) {
                return Err(TooMuch);
            }
            let parts = items.iter().map(|n| self.form(n)).collect::<Result<Vec<_>>>()?;
            let mut parts: Vec<Form> = parts;
            parts.sort();
            return Ok(Form::SetOp('∨', parts));
        }
        // 2 hours and 30 minutes
        if let Some(parts) = compound(items) {
            return self.form(&Node::Compound(parts));
        }
        // k\pi, k \in \mathbb{Z}
        if let [value, Node::Rel(parts, relations)] = items
            && relations.as_slice() == ["in"]
            && let [Node::Sym(name), set @ Node::Sym(domain)] = parts.as_slice()
            && domain.starts_with("\\mathbb{")
            && !matches!(value, Node::Rel(..))
        {
            let renamed = if name == "k" {
                None
            } else {
                renamed(value, name, "k")
            };
            let value = self.form(renamed.as_ref().unwrap_or(value))?;
            let name = if renamed.is_some() { "k" } else { name };
            let set = self.sum(set)?;
            return Ok(Form::Cases(vec![(value, Form::Text(format!("{name} in {set}")))]));
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
    let found = MEASURES.iter().find_map(|measure| places(measure))?;
    // From the great to the small; otherwise they are two values.
    (found.len() > 1 && found.windows(2).all(|pair| pair[0] < pair[1])).then_some(parts)
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
