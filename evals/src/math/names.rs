//! What stands on the left of an equals sign.

use super::form::Left;
use super::parse::Node;

fn is_variable(node: &Node) -> bool {
    matches!(node, Node::Sym(name) if !matches!(name.as_str(), "\\pi" | "\\infty" | "\\emptyset"))
}

/// A point of a figure: a capital letter.
fn is_point(node: &Node) -> bool {
    matches!(node, Node::Sym(name) if name.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// `AB`, `AB^2`, `ABC`: a length, its square, a figure.
fn is_figure(node: &Node) -> bool {
    let part = |node: &Node| match node {
        Node::Pow(base, _) => is_point(base),
        node => is_point(node),
    };
    matches!(node, Node::Mul(factors) if factors.len() > 1 && factors.iter().all(|(divided, n)| !divided && part(n)))
}

/// A letter that stands for a number the problem speaks of, and is not a variable of an equation.
fn is_unknown(node: &Node) -> bool {
    is_variable(node) && !matches!(node, Node::Sym(name) if matches!(name.as_str(), "x" | "y" | "z"))
}

/// The variable of `f(x)`.
pub(super) fn argument(node: &Node) -> Option<&str> {
    let only = |args: &'_ [Node]| matches!(args, [arg] if is_variable(arg));
    let args = match node {
        Node::Apply(_, args) => args,
        Node::Mul(factors) => match factors.as_slice() {
            [(false, name), (false, Node::Group('(', args, ')'))] if is_variable(name) => args,
            _ => return None,
        },
        _ => return None,
    };
    match args.as_slice() {
        [Node::Sym(variable)] if only(args) => Some(variable),
        _ => None,
    }
}

pub(super) fn left_side(node: &Node) -> Left {
    match node {
        node if is_variable(node) || is_figure(node) => Left::Name,
        node if argument(node).is_some() => Left::Function,
        Node::Text(_) | Node::Apply(..) => Left::Name,
        Node::Call("abs", inner) => match inner.first().map(left_side) {
            Some(Left::Name | Left::Function) => Left::Name,
            _ => Left::Other,
        },
        Node::Call(name, args) if !matches!(*name, "factorial" | "double factorial") => {
            if args.iter().all(|arg| asks(arg) || matches!(arg, Node::Num(_))) && args.iter().any(asks) {
                Left::Call
            } else {
                Left::Other
            }
        }
        Node::Pow(base, power) => match (left_side(base), power.as_ref()) {
            (Left::Call, Node::Num(_)) => Left::Call,
            (Left::Name, Node::Num(_)) if is_figure(ungroup(base)) || matches!(**base, Node::Call(..)) => {
                Left::Name
            }
            _ => Left::Other,
        },
        Node::Group('(', items, ')') if items.len() > 1 && items.iter().all(is_variable) => Left::Name,
        Node::Group(_, items, _) if items.len() == 1 && is_figure(&items[0]) => Left::Name,
        Node::Mul(factors) => match factors.as_slice() {
            [(false, one)] => left_side(one),
            [(false, name), (false, Node::Group('(', _, ')'))] if is_variable(name) => Left::Name,
            // E[X]
            [(false, name), (false, Node::Group('[', args, ']'))] if is_variable(name) && args.len() == 1 => {
                Left::Name
            }
            [(false, Node::Text(_)), ..] | [.., (false, Node::Text(_))] => Left::Name,
            factors
                if factors.iter().all(|(_, n)| is_variable(n)) && factors.iter().any(|(_, n)| is_mark(n)) =>
            {
                Left::Name
            }
            factors if factors.iter().all(|(_, n)| is_unknown(n) || is_figure(n)) => Left::Asked,
            _ => Left::Other,
        },
        Node::Ratio(parts) if parts.iter().all(|p| left_side(p) == Left::Name) => Left::Name,
        Node::Add(terms) if terms.len() > 1 => {
            let named = |n: &Node| matches!(left_side(n), Left::Name);
            let plain = terms.iter().all(|(sign, n)| *sign == '+' && named(n));
            if plain || terms.iter().all(|(_, n)| is_multiple(n)) {
                Left::Asked
            } else {
                Left::Other
            }
        }
        _ => Left::Other,
    }
}

/// A name with a sign before it: `\angle A`, `\overline{AB}`.
fn is_mark(node: &Node) -> bool {
    matches!(node, Node::Sym(name) if name.starts_with('\\') && name.contains('{'))
}

fn ungroup(node: &Node) -> &Node {
    match node {
        Node::Group('(', items, ')') if items.len() == 1 => &items[0],
        node => node,
    }
}

/// An unknown, or a whole multiple of one.
fn is_multiple(node: &Node) -> bool {
    match node {
        Node::Mul(factors) => {
            matches!(factors.as_slice(), [(false, Node::Num(_)), (false, n)] if is_unknown(n))
        }
        node => is_unknown(node),
    }
}

/// Whether a tree is made of unknowns: `A`, `a + b`, `2\theta`.
fn asks(node: &Node) -> bool {
    match node {
        Node::Mul(factors) => {
            factors.iter().all(|(_, n)| asks(n) || matches!(n, Node::Num(_)))
                && factors.iter().any(|(_, n)| asks(n))
        }
        Node::Add(terms) => terms.iter().all(|(_, n)| asks(n)),
        Node::Group('(', items, ')') if items.len() == 1 => asks(&items[0]),
        node => is_unknown(node) || is_mark(node),
    }
}

/// The same tree with another name for a variable; none where that name is taken.
pub(super) fn renamed(node: &Node, from: &str, to: &str) -> Option<Node> {
    let all = |nodes: &[Node]| {
        nodes
            .iter()
            .map(|n| renamed(n, from, to))
            .collect::<Option<Vec<_>>>()
    };
    let one = |node: &Node| renamed(node, from, to).map(Box::new);
    Some(match node {
        Node::Sym(name) if name == to => return None,
        Node::Sym(name) if name == from => Node::Sym(to.to_owned()),
        Node::Add(terms) => Node::Add(
            terms
                .iter()
                .map(|(sign, n)| Some((*sign, renamed(n, from, to)?)))
                .collect::<Option<_>>()?,
        ),
        Node::Mul(factors) => Node::Mul(
            factors
                .iter()
                .map(|(divided, n)| Some((*divided, renamed(n, from, to)?)))
                .collect::<Option<_>>()?,
        ),
        Node::Pow(a, b) => Node::Pow(one(a)?, one(b)?),
        Node::Call(name, nodes) => Node::Call(name, all(nodes)?),
        Node::Apply(name, nodes) => Node::Apply(name.clone(), all(nodes)?),
        Node::Group(open, nodes, close) => Node::Group(*open, all(nodes)?, *close),
        Node::Degree(inner) => Node::Degree(one(inner)?),
        Node::Unit(inner, unit) => Node::Unit(one(inner)?, unit.clone()),
        Node::Num(_) | Node::Sym(_) | Node::Based(..) | Node::Text(_) => node.clone(),
        Node::Cases(rows) => Node::Cases(rows.iter().map(|row| all(row)).collect::<Option<_>>()?),
        Node::Rel(parts, relations) => Node::Rel(all(parts)?, relations.clone()),
        _ => return None,
    })
}
