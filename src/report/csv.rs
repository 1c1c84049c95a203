//! The report's tables as CSV, with full precision.

use serde::Serialize;
use serde_json::Value;

use super::results::Report;

/// A table to be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// One row for each strategy, number of slots and budget.
    Strategies,
    /// Strategies against the baseline.
    Comparisons,
    /// One row for each trace score: how well it tells right from wrong.
    Scores,
    /// One row for each k: pass@k and its tokens.
    PassAtK,
    /// One row for each problem.
    Problems,
    /// One row for each trace of the problem that the timeline shows.
    Traces,
}

impl TableKind {
    /// All of them with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("strategies", Self::Strategies),
        ("comparisons", Self::Comparisons),
        ("scores", Self::Scores),
        ("pass-at-k", Self::PassAtK),
        ("problems", Self::Problems),
        ("traces", Self::Traces),
    ];
}

impl Report {
    /// A table as CSV with full precision, quoted as RFC 4180 has it.
    pub fn csv(&self, kind: TableKind) -> String {
        fn values<T: Serialize>(rows: &[T]) -> Vec<Value> {
            rows.iter()
                .map(|r| serde_json::to_value(r).unwrap_or(Value::Null))
                .collect()
        }
        let rows = match kind {
            TableKind::Strategies => values(&self.arms),
            TableKind::Comparisons => values(&self.comparisons),
            TableKind::Scores => values(&self.scores),
            TableKind::PassAtK => values(&self.pass_at),
            TableKind::Problems => values(&self.problems),
            TableKind::Traces => self
                .timeline
                .as_ref()
                .map(|t| values(&t.lanes))
                .unwrap_or_default(),
        };
        csv(&rows)
    }
}

/// Columns that say what a line is about.
const LEADING: [&str; 10] = [
    "id", "trace", "score", "k", "a", "b", "series", "strategy", "slots", "budget",
];

/// Objects as lines; a field of a field is named by its path. Lists of (name, value) become columns, other
/// lists are left out.
fn csv(rows: &[Value]) -> String {
    let mut columns: Vec<String> = Vec::new();
    let flat: Vec<Vec<(String, String)>> = rows
        .iter()
        .map(|row| {
            let mut cells = Vec::new();
            flatten("", row, &mut cells);
            for (name, _) in &cells {
                if !columns.contains(name) {
                    columns.push(name.clone());
                }
            }
            cells
        })
        .collect();
    // an interval that one row lacks is not also a column of its own
    let prefixes: Vec<String> = columns
        .iter()
        .filter(|c| columns.iter().any(|o| o.starts_with(&format!("{c}."))))
        .cloned()
        .collect();
    columns.retain(|c| !prefixes.contains(c));
    columns.sort();
    columns.sort_by_key(|c| LEADING.iter().position(|l| l == c).unwrap_or(LEADING.len()));
    let mut out = columns.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(",") + "\r\n";
    for cells in &flat {
        let of = |name: &String| {
            cells
                .iter()
                .find(|(n, _)| n == name)
                .map_or_else(String::new, |(_, v)| quoted(v))
        };
        out.push_str(&columns.iter().map(of).collect::<Vec<_>>().join(","));
        out.push_str("\r\n");
    }
    out
}

fn flatten(path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Object(object) => object
            .iter()
            .for_each(|(key, value)| flatten(&below(key), value, out)),
        Value::Array(items) => {
            for item in items {
                if let Some([Value::String(name), value]) = item.as_array().map(Vec::as_slice) {
                    flatten(&below(name), value, out);
                }
            }
        }
        Value::Null => out.push((path.to_owned(), String::new())),
        Value::String(text) => out.push((path.to_owned(), text.clone())),
        other => out.push((path.to_owned(), other.to_string())),
    }
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
