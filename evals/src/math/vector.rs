//! Sums and multiples of vectors and matrices, and determinants.

use super::build::Builder;
use super::form::Form;
use super::is_constant;
use super::parse::Node;
use super::sum::{Result, Sum, TooMuch, int};

/// Larger determinants are not computed.
const MAX_DETERMINANT: usize = 6;

/// A number, or rows of numbers: those of a tuple or of a matrix.
enum Value {
    Scalar(Sum),
    Tuple(Vec<Sum>),
    Matrix(Vec<Vec<Sum>>),
}

/// Whether a tree is a tuple or a matrix, or computed from some.
pub(super) fn is_vector(node: &Node) -> bool {
    match node {
        Node::Matrix(_) => true,
        Node::Group('(', items, ')') => items.len() > 1 || items.first().is_some_and(is_vector),
        Node::Add(terms) => terms.iter().any(|(_, n)| is_vector(n)),
        Node::Mul(factors) => factors.iter().any(|(_, n)| is_vector(n)),
        _ => false,
    }
}

impl Builder {
    /// The value of a sum or product with vectors in it.
    pub(super) fn vectors(&mut self, node: &Node) -> Result<Form> {
        Ok(match self.vector(node, false)? {
            Value::Scalar(sum) => Form::Expr(sum),
            Value::Tuple(items) => Form::Tuple(items.into_iter().map(Form::Expr).collect()),
            Value::Matrix(rows) => Form::Matrix(
                rows.into_iter()
                    .map(|row| row.into_iter().map(Form::Expr).collect())
                    .collect(),
            ),
        })
    }

    /// `symbols` says whether a variable may stand before a tuple: in a sum, not where it may be its name.
    fn vector(&mut self, node: &Node, symbols: bool) -> Result<Value> {
        match node {
            Node::Matrix(rows) => Ok(Value::Matrix(self.rows(rows)?)),
            Node::Group('(', items, ')') if items.len() > 1 => Ok(Value::Tuple(
                items.iter().map(|n| self.sum(n)).collect::<Result<_>>()?,
            )),
            Node::Group('(', items, ')') if items.first().is_some_and(is_vector) => {
                self.vector(&items[0], symbols)
            }
            Node::Add(terms) => {
                let several = terms.len() > 1;
                let mut total: Option<Value> = None;
                for (sign, term) in terms {
                    let minus = match sign {
                        '-' => true,
                        '±' => !self.upper,
                        '∓' => self.upper,
                        _ => false,
                    };
                    let term = self.vector(term, several)?;
                    let term = self.scaled(term, &Sum::rational(int(if minus { -1 } else { 1 })))?;
                    total = Some(match total {
                        None => term,
                        Some(total) => self.plus(total, term)?,
                    });
                }
                total.ok_or(TooMuch)
            }
            Node::Mul(factors) if is_vector(node) => {
                if factors
                    .iter()
                    .any(|(_, n)| matches!(n, Node::Text(_) | Node::Unit(..)))
                {
                    return Err(TooMuch);
                }
                let mut product: Option<Value> = None;
                for (divided, factor) in factors {
                    let mut factor = self.vector(factor, symbols)?;
                    if *divided {
                        let Value::Scalar(sum) = factor else {
                            return Err(TooMuch);
                        };
                        factor = Value::Scalar(sum.pow(&int(-1), &mut self.budget)?);
                    }
                    product = Some(match product {
                        None => factor,
                        Some(product) => self.times(product, factor, symbols)?,
                    });
                }
                product.ok_or(TooMuch)
            }
            node => Ok(Value::Scalar(self.sum(node)?)),
        }
    }

    fn rows(&mut self, rows: &[Vec<Node>]) -> Result<Vec<Vec<Sum>>> {
        rows.iter()
            .map(|row| row.iter().map(|cell| self.sum(cell)).collect())
            .collect()
    }

    fn scaled(&mut self, value: Value, scale: &Sum) -> Result<Value> {
        let budget = &mut self.budget;
        let mut each = |items: Vec<Sum>| {
            items
                .iter()
                .map(|x| x.mul(scale, budget))
                .collect::<Result<Vec<_>>>()
        };
        Ok(match value {
            Value::Scalar(sum) => Value::Scalar(each(vec![sum])?.pop().ok_or(TooMuch)?),
            Value::Tuple(items) => Value::Tuple(each(items)?),
            Value::Matrix(rows) => Value::Matrix(rows.into_iter().map(each).collect::<Result<_>>()?),
        })
    }

    fn plus(&mut self, a: Value, b: Value) -> Result<Value> {
        let budget = &mut self.budget;
        let mut each = |a: Vec<Sum>, b: Vec<Sum>| {
            if a.len() != b.len() {
                return Err(TooMuch);
            }
            a.into_iter()
                .zip(&b)
                .map(|(a, b)| a.add(b, budget))
                .collect::<Result<Vec<_>>>()
        };
        match (a, b) {
            (Value::Scalar(a), Value::Scalar(b)) => {
                Ok(Value::Scalar(each(vec![a], vec![b])?.pop().ok_or(TooMuch)?))
            }
            (Value::Tuple(a), Value::Tuple(b)) => Ok(Value::Tuple(each(a, b)?)),
            (Value::Matrix(a), Value::Matrix(b)) if a.len() == b.len() => Ok(Value::Matrix(
                a.into_iter()
                    .zip(b)
                    .map(|(a, b)| each(a, b))
                    .collect::<Result<_>>()?,
            )),
            _ => Err(TooMuch),
        }
    }

    fn times(&mut self, a: Value, b: Value, symbols: bool) -> Result<Value> {
        match (a, b) {
            (Value::Scalar(a), Value::Scalar(b)) => Ok(Value::Scalar(a.mul(&b, &mut self.budget)?)),
            (Value::Scalar(scale), tuple @ Value::Tuple(_))
            | (tuple @ Value::Tuple(_), Value::Scalar(scale)) => {
                if symbols || is_constant(&scale) {
                    self.scaled(tuple, &scale)
                } else {
                    Err(TooMuch)
                }
            }
            (Value::Scalar(scale), matrix) | (matrix, Value::Scalar(scale)) => self.scaled(matrix, &scale),
            (Value::Matrix(a), Value::Matrix(b)) if a.iter().all(|row| row.len() == b.len()) => {
                let width = b.first().map_or(0, Vec::len);
                let mut rows = Vec::new();
                for row in &a {
                    let mut products = Vec::new();
                    for column in 0..width {
                        let mut total = Sum::default();
                        for (x, other) in row.iter().zip(&b) {
                            let product = x.mul(&other[column], &mut self.budget)?;
                            total = total.add(&product, &mut self.budget)?;
                        }
                        products.push(total);
                    }
                    rows.push(products);
                }
                Ok(Value::Matrix(rows))
            }
            _ => Err(TooMuch),
        }
    }

    /// The determinant of what is a square matrix.
    pub(super) fn determinant(&mut self, node: &Node) -> Result<Sum> {
        let Value::Matrix(rows) = self.vector(node, true)? else {
            return Err(TooMuch);
        };
        if rows.len() > MAX_DETERMINANT || rows.iter().any(|row| row.len() != rows.len()) {
            return Err(TooMuch);
        }
        let columns: Vec<usize> = (0..rows.len()).collect();
        self.minor(&rows, &columns)
    }

    /// By expansion along the first row.
    fn minor(&mut self, rows: &[Vec<Sum>], columns: &[usize]) -> Result<Sum> {
        let Some((row, below)) = rows.split_first() else {
            return Ok(Sum::rational(int(1)));
        };
        let mut total = Sum::default();
        for (n, &column) in columns.iter().enumerate() {
            if row[column].0.is_empty() {
                continue;
            }
            let rest: Vec<usize> = columns.iter().copied().filter(|c| *c != column).collect();
            let product = row[column].mul(&self.minor(below, &rest)?, &mut self.budget)?;
            let signed = product.scale(&int(if n % 2 == 0 { 1 } else { -1 }), &mut self.budget)?;
            total = total.add(&signed, &mut self.budget)?;
        }
        Ok(total)
    }
}
