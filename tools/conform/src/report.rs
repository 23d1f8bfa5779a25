// SPDX-License-Identifier: GPL-2.0

//! What came of the cases: for a person, for a harness, for a program.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use console::{Style, Term};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Verdict};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person
    Table,
    /// The kernel's test format
    Ktap,
    /// One array of objects
    Json,
}

/// One case and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The case.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// What the text demands.
    pub demands: String,
    /// Where it says so.
    pub source: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The command that runs it again, if it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

impl Record {
    /// What came of `case`.
    pub fn of(case: &Case, verdict: Verdict) -> Self {
        Self {
            id: case.id.to_owned(),
            title: case.title.to_owned(),
            demands: case.demands.to_owned(),
            source: case.source.to_owned(),
            verdict,
            again: None,
        }
    }

    /// All that there is to say of it, each with what it is.
    fn details(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("demanded", self.demands.clone()),
            ("seen", self.verdict.seen().replace('\n', "; ")),
            ("text", self.source.clone()),
        ];
        all.extend(self.again.iter().map(|again| ("again", again.clone())));
        all
    }
}

/// Prints what came of cases as it comes.
pub struct Report {
    format: Format,
    verbose: bool,
    /// The command that runs a case, but for its name.
    again: String,
    count: usize,
    records: Vec<Record>,
}

impl Report {
    /// A report about `count` cases, each of which the command `again`, with its name, runs again.
    pub fn new(format: Format, verbose: bool, again: String, count: usize) -> Self {
        if format == Format::Ktap {
            println!("KTAP version 1\n1..{count}");
        }
        Self {
            format,
            verbose,
            again,
            count,
            records: Vec::new(),
        }
    }

    /// Adds a case, and shows it.
    pub fn add(&mut self, mut record: Record) {
        if matches!(record.verdict, Verdict::Fail(_)) {
            record.again = Some(format!("{} {}", self.again, record.id));
        }
        match self.format {
            Format::Table => self.print_row(&record),
            Format::Ktap => {
                let number = self.records.len() + 1;
                println!("{}", ktap(number, &record));
            }
            Format::Json => {
                let term = Term::stderr();
                if term.is_term() {
                    let _ = term.clear_line();
                    eprint!("\r{}/{} {}", self.records.len() + 1, self.count, record.id);
                }
            }
        }
        self.records.push(record);
    }

    fn print_row(&self, record: &Record) {
        let (word, style) = match &record.verdict {
            Verdict::Pass(_) => ("PASS", Style::new().green()),
            Verdict::Fail(_) => ("FAIL", Style::new().red().bold()),
            Verdict::Skip(_) => ("SKIP", Style::new().dim()),
        };
        println!(
            "{} {:<12} {}",
            style.apply_to(word),
            record.id,
            record.title
        );
        let failed = matches!(record.verdict, Verdict::Fail(_));
        if failed || self.verbose {
            for (what, text) in record.details() {
                println!("       {:<9} {text}", format!("{what}:"));
            }
        }
    }

    /// Ends the report, which is also written to `file` as JSON; says whether nothing has failed.
    pub fn finish(self, file: Option<&Path>) -> Result<bool> {
        if let Some(file) = file {
            fs::write(file, serde_json::to_string_pretty(&self.records)?)
                .with_context(|| format!("writing {}", file.display()))?;
        }
        let count = |wanted: fn(&Verdict) -> bool| {
            self.records
                .iter()
                .filter(|record| wanted(&record.verdict))
                .count()
        };
        let passed = count(|verdict| matches!(verdict, Verdict::Pass(_)));
        let failed = count(|verdict| matches!(verdict, Verdict::Fail(_)));
        let skipped = count(|verdict| matches!(verdict, Verdict::Skip(_)));
        match self.format {
            Format::Table => println!("{passed} passed, {failed} failed, {skipped} do not apply"),
            Format::Ktap => println!("# {passed} passed, {failed} failed, {skipped} skipped"),
            Format::Json => {
                if Term::stderr().is_term() {
                    eprintln!();
                }
                println!("{}", serde_json::to_string_pretty(&self.records)?);
            }
        }
        Ok(failed == 0)
    }
}

impl Verdict {
    /// What was seen.
    pub fn seen(&self) -> &str {
        match self {
            Self::Pass(seen) | Self::Fail(seen) | Self::Skip(seen) => seen,
        }
    }
}

/// A result line, and behind it what explains a failure. One result is one line: a reader of KTAP takes
/// it line by line.
fn ktap(number: usize, record: &Record) -> String {
    let what = format!("{number} - {} {}", record.id, record.title);
    match &record.verdict {
        Verdict::Pass(_) => format!("ok {what}"),
        Verdict::Fail(_) => {
            let mut lines = format!("not ok {what}");
            for (what, text) in record.details() {
                lines += &format!("\n# {what}: {text}");
            }
            lines
        }
        Verdict::Skip(why) => format!("ok {what} # SKIP {}", why.replace('\n', "; ")),
    }
}

/// Prints the cases.
pub fn list(cases: &[&'static Case], json: bool) -> Result<()> {
    if json {
        let all: Vec<_> = cases
            .iter()
            .map(|case| {
                serde_json::json!({
                    "id": case.id,
                    "title": case.title,
                    "demands": case.demands,
                    "source": case.source,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for case in cases {
        println!("{:<12} {}", case.id, case.title);
        println!("             demanded: {}", case.demands);
        println!("             text:     {}", case.source);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(verdict: Verdict) -> Record {
        Record {
            id: "status-1".to_owned(),
            title: "a title".to_owned(),
            demands: "much".to_owned(),
            source: "somewhere".to_owned(),
            verdict,
            again: None,
        }
    }

    #[test]
    fn a_failure_is_explained_behind_its_line() {
        let mut failed = record(Verdict::Fail("one\ntwo".to_owned()));
        failed.again = Some("vdpa-conform run /dev/vhost-vdpa-0 status-1".to_owned());
        assert_eq!(
            ktap(3, &failed).lines().collect::<Vec<_>>(),
            [
                "not ok 3 - status-1 a title",
                "# demanded: much",
                "# seen: one; two",
                "# text: somewhere",
                "# again: vdpa-conform run /dev/vhost-vdpa-0 status-1",
            ]
        );
    }

    #[test]
    fn only_a_failure_is_run_again() {
        let mut report = Report::new(Format::Ktap, false, "again".to_owned(), 2);
        report.add(record(Verdict::Fail("no".to_owned())));
        report.add(record(Verdict::Pass("yes".to_owned())));
        let again: Vec<_> = report.records.iter().map(|record| &record.again).collect();
        assert_eq!(again, [&Some("again status-1".to_owned()), &None]);
    }

    #[test]
    fn a_result_is_one_line_of_ktap() {
        let line = ktap(2, &record(Verdict::Pass("all".to_owned())));
        assert_eq!(line, "ok 2 - status-1 a title");
        let line = ktap(1, &record(Verdict::Skip("why".to_owned())));
        assert_eq!(line, "ok 1 - status-1 a title # SKIP why");
    }

    #[test]
    fn a_record_survives_json() {
        let before = record(Verdict::Pass("all".to_owned()));
        let text = serde_json::to_string(&before).unwrap();
        assert!(text.contains(r#""verdict":"pass","seen":"all""#), "{text}");
        let after: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(after.verdict, before.verdict);
    }
}
