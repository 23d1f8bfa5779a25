// SPDX-License-Identifier: GPL-2.0

//! The results of several devices side by side.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use crate::case::{Case, Verdict};
use crate::report::Record;

/// What came of one device.
pub struct Column {
    title: String,
    verdicts: HashMap<String, Verdict>,
}

impl Column {
    /// Reads `TITLE=FILE`.
    pub fn read(text: &str) -> Result<Self> {
        let (title, file) = text
            .split_once('=')
            .with_context(|| format!("`{text}` is not TITLE=FILE"))?;
        let json = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let records: Vec<Record> =
            serde_json::from_str(&json).with_context(|| format!("{file} has no results"))?;
        Ok(Self::new(title, records))
    }

    fn new(title: &str, records: Vec<Record>) -> Self {
        Self {
            title: title.to_owned(),
            verdicts: records
                .into_iter()
                .map(|record| (record.id, record.verdict))
                .collect(),
        }
    }
}

/// A table of all cases, and what was seen wherever one failed.
pub fn markdown(cases: &[&'static Case], columns: &[Column]) -> String {
    let mut text = String::from("| Case | What it is about |");
    for column in columns {
        let _ = write!(text, " {} |", column.title);
    }
    text += "\n|---|---|";
    text += &"---|".repeat(columns.len());
    text += "\n";
    for case in cases {
        let _ = write!(text, "| {} | {} |", case.id, case.title);
        for column in columns {
            let word = match column.verdicts.get(case.id) {
                Some(Verdict::Pass(_)) => "pass",
                Some(Verdict::Fail(_)) => "**fail**",
                Some(Verdict::Skip(_)) => "–",
                None => "not run",
            };
            let _ = write!(text, " {word} |");
        }
        text += "\n";
    }
    for column in columns {
        let failed: Vec<_> = cases
            .iter()
            .filter_map(|case| match column.verdicts.get(case.id) {
                Some(Verdict::Fail(seen)) => Some((case, seen)),
                _ => None,
            })
            .collect();
        if failed.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## What {} fails\n", column.title);
        for (case, seen) in failed {
            let _ = write!(
                text,
                "\n**{}, {}.** Demanded: {} ({}). Seen: `{}`.\n",
                case.id,
                case.title,
                case.demands,
                case.source,
                seen.replace('`', "'").replace('\n', "; ")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_below_the_table() {
        let all = crate::cases::all();
        let case = all[0];
        let failed = Column::new(
            "ours",
            vec![Record::of(case, Verdict::Fail("nothing".to_owned()))],
        );
        let text = markdown(&all, &[failed]);
        assert!(text.contains("| **fail** |"), "{text}");
        assert!(text.contains("## What ours fails"), "{text}");
        assert!(text.contains("Seen: `nothing`"), "{text}");
        assert!(text.contains("| not run |"), "{text}");
    }
}
