// SPDX-License-Identifier: GPL-2.0
//! What a run found: one line a case while it runs, the sum at the end.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::context::Context as Lab;
use crate::ktap::Verdict;
use crate::step;

/// Where results come from: what it takes to get them again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What was typed, with the variables that change results.
    pub command: String,
    /// The commit of the checkout, with `-dirty` when it was changed; nothing without git.
    pub commit: Option<String>,
    /// Driver under test.
    pub driver: String,
    /// Factor on the time limits.
    pub slow: u32,
    /// The kernel of the machine; nothing when no case needed one.
    pub kernel: Option<String>,
}

impl Origin {
    /// A run of `goal` with the cases that `words` select.
    pub fn new(goal: &str, driver: &str, words: &[&str]) -> Self {
        let mut parts = Vec::new();
        if goal == "check" && driver != "vf_vdpa" {
            parts.push(format!("DRIVER={driver}"));
        }
        for name in [
            "VF_VDPA_SLOW",
            "VF_VDPA_LONG",
            "VF_VDPA_SOAK",
            "VF_VDPA_ACCEL",
        ] {
            parts.extend(env::var(name).map(|value| format!("{name}={value}")));
        }
        parts.push(format!("tools/bootstrap {goal}"));
        parts.extend(words.iter().map(|word| quoted(word)));
        Self {
            command: parts.join(" "),
            commit: env::var("VF_VDPA_COMMIT").ok(),
            driver: driver.to_owned(),
            slow: Lab::slowness(),
            kernel: None,
        }
    }
}

/// A word as a shell has to be given it: cases may be patterns.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// Lines of a log that are worth showing where nobody can open it.
const END: usize = 60;

/// The last lines of a log, as they are shown below what failed.
fn end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(END);
    let mut shown = String::new();
    for line in lines.iter().skip(from) {
        shown += "       | ";
        shown += line;
        shown.push('\n');
    }
    shown
}

/// Prints what came of a case.
fn show(case: &str, word: &str, seconds: f64, verdict: &Verdict, log: Option<&Path>) {
    let details = match verdict {
        Verdict::Skipped(why) => return println!("{word} {case} ({why})"),
        Verdict::Passed => &[][..],
        Verdict::Failed(why) => why,
    };
    println!("{word} {case} ({seconds:.1} s)");
    for detail in details {
        println!("       {detail}");
    }
    if let (Verdict::Failed(_), Some(log)) = (verdict, log) {
        println!("       log: {}", log.display());
        // Nobody can look into the logs of a machine that is gone.
        if env::var_os("CI").is_some_and(|ci| ci == "true") {
            match fs::read(log) {
                Ok(bytes) => print!("{}", end(&String::from_utf8_lossy(&bytes))),
                Err(error) => println!("       which cannot be read: {error}"),
            }
        }
    }
}

/// One finished case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// `group/name`.
    pub case: String,
    /// `passed`, `failed` or `skipped`.
    pub result: String,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub details: Vec<String>,
    /// Where its whole output is.
    pub log: Option<PathBuf>,
}

/// All finished cases.
#[derive(Default, Serialize, Deserialize)]
pub struct Report {
    /// Where they come from.
    pub origin: Origin,
    records: Vec<Record>,
}

impl Report {
    /// A report without cases.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            records: Vec::new(),
        }
    }

    /// Leaves out the cases whose names are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.records.retain(|record| wanted(&record.case));
    }

    /// Adds a case and prints its line.
    pub fn add(&mut self, case: &str, took: Duration, verdict: &Verdict, log: Option<&Path>) {
        let (word, result, details) = match verdict {
            Verdict::Passed => ("ok  ", "passed", Vec::new()),
            Verdict::Failed(why) => ("FAIL", "failed", why.clone()),
            Verdict::Skipped(why) => ("skip", "skipped", vec![why.clone()]),
        };
        let seconds = took.as_secs_f64();
        step::aloud(|| show(case, word, seconds, verdict, log));
        let log = log.map(Path::to_owned);
        self.records.push(Record {
            case: case.to_owned(),
            result: result.to_owned(),
            seconds,
            details,
            log,
        });
    }

    /// Makes the last record of `case` a failure: something came of it after it had ended.
    pub fn blame(&mut self, case: &str, why: Vec<String>) {
        step::aloud(|| {
            println!("FAIL {case}");
            for detail in &why {
                println!("       {detail}");
            }
        });
        let record = self
            .records
            .iter_mut()
            .rev()
            .find(|record| record.case == case);
        if let Some(record) = record {
            record.result = "failed".to_owned();
            record.details.extend(why);
        }
    }

    fn count(&self, result: &str) -> usize {
        self.records
            .iter()
            .filter(|record| record.result == result)
            .count()
    }

    /// Whether nothing failed and something was run.
    pub fn good(&self) -> bool {
        self.count("failed") == 0 && !self.records.is_empty()
    }

    /// The last line of a run.
    pub fn sum(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.count("passed"),
            self.count("failed"),
            self.count("skipped")
        )
    }

    /// The records, for tables.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Reads what [`Report::write_json`] wrote.
    pub fn read_json(path: &Path) -> Result<Self> {
        let context = || format!("reading {}", path.display());
        let text = fs::read_to_string(path).with_context(context)?;
        serde_json::from_str(&text).with_context(context)
    }

    /// Writes the records and their origin as JSON.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let file = std::env::temp_dir().join(format!("report-{}.json", std::process::id()));
        let mut report = Report::new(Origin::new("check", "vp_vdpa", &["a", "b/c*"]));
        report.add("a/b", Duration::ZERO, &Verdict::Passed, None);
        report.add(
            "a/c",
            Duration::ZERO,
            &Verdict::Failed(vec!["x".into()]),
            None,
        );
        report.write_json(&file).unwrap();
        let read = Report::read_json(&file).unwrap();
        fs::write(&file, "no JSON").unwrap();
        assert!(Report::read_json(&file).is_err());
        fs::remove_file(&file).unwrap();
        assert_eq!(read.sum(), report.sum());
        assert_eq!(read.records()[1].details, ["x"]);
        assert_eq!(read.origin, report.origin);
        let command = &read.origin.command;
        assert!(command.starts_with("DRIVER=vp_vdpa "), "{command}");
        assert!(
            command.ends_with("tools/bootstrap check a 'b/c*'"),
            "{command}"
        );
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let lines: Vec<String> = (1..=100).map(|line| format!("line {line}")).collect();
        let shown = end(&lines.join("\n"));
        assert_eq!(shown.lines().count(), END);
        assert!(shown.starts_with("       | line 41\n"), "{shown}");
        assert!(shown.ends_with("       | line 100\n"), "{shown}");
        assert_eq!(end("one"), "       | one\n");
        assert_eq!(end(""), "");
    }

    #[test]
    fn a_run_without_cases_is_no_success() {
        let mut report = Report::default();
        assert!(!report.good());
        report.add("a/b", Duration::ZERO, &Verdict::Passed, None);
        report.add("a/c", Duration::ZERO, &Verdict::Skipped("why".into()), None);
        assert!(report.good());
        report.add(
            "a/d",
            Duration::ZERO,
            &Verdict::Failed(vec!["x".into()]),
            None,
        );
        assert!(!report.good());
        assert_eq!(report.sum(), "1 passed, 1 failed, 1 skipped");
        report.blame("a/b", vec!["y".into()]);
        assert_eq!(report.sum(), "0 passed, 2 failed, 1 skipped");
    }
}
