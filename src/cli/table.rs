//! Tables and paragraphs on a terminal.

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Segment};
use tabled::settings::{Alignment, Modify, Padding, Style};

/// A table whose columns from `numbers` on are numbers.
pub(crate) fn drawn(table: Builder, numbers: usize) -> String {
    let mut table = table.build();
    table
        .with(Style::blank())
        .with(Modify::new(Segment::all()).with(Padding::new(0, 1, 0, 0)));
    table.with(Modify::new(Columns::new(numbers..)).with(Alignment::right()));
    table
        .to_string()
        .lines()
        .map(|l| l.trim_end().to_owned() + "\n")
        .collect()
}

/// The same as [`drawn`], in parts where it is wider than a terminal: each part begins with the first `keys`
/// columns.
pub(crate) fn drawn_within(
    rows: &[Vec<String>],
    numbers: usize,
    keys: usize,
    width: Option<usize>,
) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        // a space of padding and one between two columns
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 2
    };
    let first: usize = (0..keys).map(widest).sum();
    let mut parts: Vec<Vec<usize>> = vec![Vec::new()];
    let mut taken = first;
    for column in keys..columns {
        let wide = widest(column);
        let full = width.is_some_and(|width| taken + wide > width + 2);
        if full && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(Vec::new());
            taken = first;
        }
        taken += wide;
        if let Some(part) = parts.last_mut() {
            part.push(column);
        }
    }
    let of_part = |part: &Vec<usize>| {
        let mut builder = Builder::default();
        for row in rows {
            let cells = (0..keys)
                .chain(part.iter().copied())
                .filter_map(|column| row.get(column));
            builder.push_record(cells.cloned());
        }
        // what is text behind the keys is text in the part that holds it
        let texts = part.iter().filter(|column| **column < numbers).count();
        drawn(builder, keys.min(numbers) + texts)
    };
    parts.iter().map(of_part).collect::<Vec<_>>().join("\n")
}

/// A text in lines that are no wider than this, broken between words; all but the first are indented.
pub(crate) fn wrapped(text: &str, width: Option<usize>, indent: usize) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let rest = paragraph.trim_start_matches(' ');
        let mut used = paragraph.len() - rest.len();
        let mut line = " ".repeat(used);
        let mut begun = false;
        // several spaces in a row stand for something
        for word in rest.split(' ') {
            let long = word.chars().count();
            if begun && used + 1 + long > width {
                lines.push(line.trim_end().to_owned());
                line = " ".repeat(indent);
                used = indent;
            } else if begun {
                line.push(' ');
                used += 1;
            }
            begun = true;
            line.push_str(word);
            used += long;
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_is_broken_between_words_and_columns() {
        let text = "one two three four";
        assert_eq!(wrapped(text, None, 2), text);
        assert_eq!(wrapped(text, Some(9), 2), "one two\n  three\n  four");
        assert_eq!(wrapped("unbreakable", Some(4), 2), "unbreakable");
        assert_eq!(wrapped("a  b", Some(40), 2), "a  b");
        assert_eq!(wrapped("    a b", Some(6), 5), "    a\n     b");
        let rows = [["name", "one", "two"], ["alpha", "1", "22"]].map(|row| row.map(str::to_owned).to_vec());
        let whole = drawn_within(&rows, 1, 1, Some(40));
        assert_eq!(whole, "name   one  two\nalpha    1   22\n");
        assert_eq!(
            drawn_within(&rows, 1, 1, Some(11)),
            "name   one\nalpha    1\n\nname   two\nalpha   22\n"
        );
    }
}
