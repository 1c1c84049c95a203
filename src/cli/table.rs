//! Tables on a terminal.

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
