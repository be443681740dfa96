//! A report before it has a format: blocks that Markdown and HTML render alike.

/// A piece of a report.
#[derive(Debug, Clone)]
pub(super) enum Block {
    /// A title; 1 is the largest.
    Heading(u8, String),
    /// A paragraph.
    Text(String),
    /// Items.
    List(Vec<String>),
    /// Numbers.
    Table(Table),
    /// A plot.
    Figure(Figure),
    /// A command line.
    Code(String),
    /// A long text, such as a configuration, that few readers want: left out of Markdown.
    Details(String, String),
}

/// A plot and what it shows.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// Name of its file without the ending.
    pub name: String,
    /// The picture, complete with its style.
    pub svg: String,
    /// What it shows.
    pub caption: String,
}

/// Rows of equal length; the first is the header.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// Cells.
    pub rows: Vec<Vec<Cell>>,
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    /// What it says.
    pub text: String,
    /// Something that should not be.
    pub alarm: bool,
}

/// What stands for an unknown number.
pub(super) const NONE: &str = "—";

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, alarm: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or_else(|| NONE.into(), Into::into)
    }
}

/// Markdown, with tables that line up in plain text too.
pub(super) fn markdown(blocks: &[Block]) -> String {
    let parts = blocks.iter().filter_map(|block| match block {
        Block::Heading(level, text) => Some(format!("{} {text}\n", "#".repeat(usize::from(*level)))),
        Block::Text(text) => Some(format!("{text}\n")),
        Block::List(items) => Some(items.iter().map(|item| format!("* {item}\n")).collect()),
        Block::Table(table) => Some(aligned(table)),
        Block::Figure(figure) => Some(format!("![{}](figures/{}.svg)\n", figure.caption, figure.name)),
        Block::Code(text) => Some(format!("```sh\n{text}\n```\n")),
        Block::Details(..) => None,
    });
    parts.collect::<Vec<String>>().join("\n")
}

fn aligned(table: &Table) -> String {
    let written: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(written).collect()).collect();
    let columns = written.first().map_or(0, Vec::len);
    let width = |column: usize| written.iter().map(|row| visible(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in written.iter().enumerate() {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - visible(cell))));
        text.push_str(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")));
        if index == 0 {
            let rule = widths.iter().map(|width| "-".repeat(*width));
            text.push_str(&format!("| {} |\n", rule.collect::<Vec<_>>().join(" | ")));
        }
    }
    text
}

/// The bars of absolute values would end a cell.
fn written(cell: &Cell) -> String {
    let text = cell.text.replace('|', "\\|");
    if cell.alarm { format!("**{text}**") } else { text }
}

/// Columns a text takes, with combining marks on top of their letters.
fn visible(text: &str) -> usize {
    text.chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).count()
}

#[cfg(test)]
mod tests {
    use super::{Block, Cell, Table, markdown};

    #[test]
    fn tables_line_up_and_keep_their_bars() {
        let rows = vec![
            vec!["".into(), "paper".into(), "z".into()],
            vec!["⟨|ψ̄ψ|⟩".into(), "0.0159(1)".into(), Cell { text: "+3.5".into(), alarm: true }],
        ];
        let text = markdown(&[Block::Table(Table { rows })]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| ⟨\\|ψ̄ψ\\|⟩ | 0.0159(1) | **+3.5** |");
        assert_eq!(lines[0], "|          | paper     | z        |");
    }
}
