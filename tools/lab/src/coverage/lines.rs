// SPDX-License-Identifier: GPL-2.0
//! Which lines were executed, out of what `llvm-cov export --format=lcov` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Lines of a file, in order: whether each was executed. Those that hold no code are left out.
type Lines = BTreeMap<u32, bool>;

/// A file of the project.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FileCoverage {
    /// Relative to the checkout.
    pub file: PathBuf,
    /// Lines that hold code.
    pub lines: usize,
    /// Those that were executed.
    pub covered: usize,
    /// The others: first and last lines of stretches.
    pub uncovered: Vec<(u32, u32)>,
}

impl FileCoverage {
    fn new(file: &Path, lines: &Lines) -> Self {
        Self {
            file: file.to_owned(),
            lines: lines.len(),
            covered: lines.values().filter(|executed| **executed).count(),
            uncovered: stretches(lines),
        }
    }

    /// The stretches, for people.
    pub fn ranges(&self) -> String {
        let mut text = String::new();
        for (first, last) in &self.uncovered {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = match first == last {
                true => write!(text, "{comma}{first}"),
                false => write!(text, "{comma}{first}–{last}"),
            };
        }
        text
    }
}

/// Stretches without a line that was executed. Lines without code, between two that were not, belong to them.
fn stretches(lines: &Lines) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut open = None;
    for (line, executed) in lines {
        open = match (open, executed) {
            (Some(stretch), true) => {
                found.push(stretch);
                None
            }
            (None, true) => None,
            (Some((first, _)), false) => Some((first, *line)),
            (None, false) => Some((*line, *line)),
        };
    }
    found.extend(open);
    found
}

/// Reads `lcov`; `name` says what a file is called, and is silent about those that do not count.
pub fn read(lcov: &str, name: impl Fn(&Path) -> Option<PathBuf>) -> Result<Vec<FileCoverage>> {
    let mut files: BTreeMap<PathBuf, Lines> = BTreeMap::new();
    let mut current = None;
    for record in lcov.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            current = name(Path::new(path));
        } else if let (Some(data), Some(file)) = (record.strip_prefix("DA:"), &current) {
            let (line, executed) =
                line(data).with_context(|| format!("llvm-cov printed `{record}`"))?;
            let lines = files.entry(file.clone()).or_default();
            *lines.entry(line).or_default() |= executed;
        }
    }
    Ok(files
        .iter()
        .map(|(file, lines)| FileCoverage::new(file, lines))
        .collect())
}

fn line(data: &str) -> Option<(u32, bool)> {
    let mut fields = data.split(',');
    let line = fields.next()?.parse().ok()?;
    let count: u64 = fields.next()?.parse().ok()?;
    Some((line, count != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LCOV: &str = "SF:/top/a.rs\nFN:1,x\nDA:1,5\nDA:2,0\nDA:4,0\nDA:5,1\nDA:7,0\nend_of_record\n\
                        SF:/core/b.rs\nDA:1,0\nend_of_record\nSF:/top/c.rs\nDA:3,0\nDA:4,18446744073709551615\n";

    #[test]
    fn uncovered_lines_of_our_files_are_named() {
        let ours = |path: &Path| path.strip_prefix("/top").ok().map(Path::to_owned);
        let files = read(LCOV, ours).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file.as_path()).collect();
        assert_eq!(names, [Path::new("a.rs"), Path::new("c.rs")]);
        assert_eq!((files[0].lines, files[0].covered), (5, 2));
        assert_eq!(files[0].uncovered, [(2, 4), (7, 7)]);
        assert_eq!(files[0].ranges(), "2–4, 7");
        assert_eq!((files[1].covered, files[1].ranges()), (1, "3".into()));
        assert!(read("SF:/top/a.rs\nDA:1\n", ours).is_err());
    }

    #[test]
    fn a_line_counts_wherever_it_was_executed() {
        let twice = "SF:a\nDA:1,0\nDA:2,0\nSF:a\nDA:1,3\nDA:2,0\nSF:a\nDA:1,0\n";
        let files = read(twice, |path| Some(path.to_owned())).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].uncovered, [(2, 2)]);
    }
}
