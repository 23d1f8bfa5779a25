// SPDX-License-Identifier: GPL-2.0

//! Text in columns, for people.

use anstyle::{AnsiColor, Style};

/// What is bad.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What is good.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What wants attention.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What is there to be looked for.
pub const HEAD: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();

/// `text` in that style; `anstream` takes the style away again where nobody wants it.
pub fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A line of a table.
pub enum Row {
    /// A cell for each column, and how to show them
    Cells(Vec<String>, Style),
    /// Text below a line, indented
    Note(String),
}

/// Puts rows below each other, each column as wide as its widest cell.
pub fn render(rows: &[Row]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        let Row::Cells(cells, _) = row else { continue };
        widths.resize(widths.len().max(cells.len()), 0);
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        match row {
            Row::Cells(cells, style) => {
                let padded: Vec<String> = widths
                    .iter()
                    .zip(cells)
                    .map(|(width, cell)| format!("{cell:width$}"))
                    .collect();
                let line = padded.join("  ");
                text.push_str(&styled(*style, line.trim_end()));
            }
            Row::Note(note) => {
                text.push_str("    ");
                text.push_str(note);
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let row = |cells: [&str; 3]| Row::Cells(cells.map(str::to_owned).to_vec(), Style::new());
        let rows = [
            row(["A", "B", "C"]),
            row(["├ long", "x", ""]),
            Row::Note("why".to_owned()),
        ];
        assert_eq!(render(&rows), "A       B  C\n├ long  x\n    why\n");
    }
}
