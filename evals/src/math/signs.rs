//! Plus or minus: a value for each choice of the signs.

use super::build::Builder;
use super::form::Form;
use super::parse::Node;
use super::sum::{Result, TooMuch};

/// Whether ± or ∓ stands in a tree.
pub(super) fn has_plus_minus(node: &Node) -> bool {
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
    /// The form of an item, or with ± in it both forms.
    pub(super) fn both(&mut self, node: &Node) -> Result<Vec<Form>> {
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
}
