// SPDX-License-Identifier: GPL-2.0
//! The table of differences between this driver and the C driver `vp_vdpa`, from a run of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::case::{Case, Selection};
use crate::check;
use crate::command::machine_cases;
use crate::context::Context;
use crate::machine::{Machine, Wanted};
use crate::report::{Origin, Record, Report};
use crate::run::Runner;

/// Characters of a failure that the table shows.
const LONGEST: usize = 160;

/// The drivers, ours first.
const DRIVERS: [&str; 2] = ["vf_vdpa", "vp_vdpa"];

/// Runs the selected cases with both drivers and writes the table to `out`, relative to the checkout.
pub fn run(cx: &Context, out: &Path, words: &[String]) -> Result<bool> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let selection = Selection::new(words.iter().copied())?;
    let cases: Vec<Case> = machine_cases(cx)?
        .into_iter()
        .filter(|case| case.is_due(&selection, cx.has()))
        .collect();
    let mut reports = Vec::new();
    for driver in DRIVERS {
        println!("# {driver}");
        let machine = Machine::prepare(cx, &Wanted::by(driver, &cases))?;
        let mut runner = Runner::new(&machine, driver);
        let mut report = Report::new(Origin::new("compare", driver, &words));
        report.origin.kernel = Some(machine.release.clone());
        for case in &cases {
            runner.run(case, &mut report)?;
        }
        runner.finish(&mut report);
        println!("{driver}: {}", report.sum());
        reports.push(report);
    }
    let [ours, theirs] = reports.as_slice() else {
        unreachable!("one report per driver")
    };
    write(cx, out, ours, theirs)
}

/// Writes the table from what two runs of `check` with `--json` have found; paths are relative to the
/// checkout.
pub fn from_results(cx: &Context, out: &Path, ours: &Path, theirs: &Path) -> Result<bool> {
    let [ours, theirs] = [(ours, DRIVERS[0]), (theirs, DRIVERS[1])].map(|(path, driver)| {
        let mut report = Report::read_json(&cx.top.join(path))?;
        let found = &report.origin.driver;
        ensure!(
            found == driver,
            "{} is from a run with {found}: name the results of vf_vdpa first, then those of vp_vdpa",
            path.display()
        );
        // What needs no machine does not depend on the driver.
        let checks = check::names();
        report.retain(|case| !checks.iter().any(|check| check == case));
        Ok(report)
    });
    write(cx, out, &ours?, &theirs?)
}

fn write(cx: &Context, out: &Path, ours: &Report, theirs: &Report) -> Result<bool> {
    let path = cx.top.join(out);
    fs::write(&path, table(ours, theirs)).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(ours.good())
}

fn table(ours: &Report, theirs: &Report) -> String {
    let mut text = heading(ours, theirs);
    let other: BTreeMap<&str, &Record> = theirs
        .records()
        .iter()
        .map(|record| (record.case.as_str(), record))
        .collect();
    let mut records: Vec<&Record> = ours.records().iter().collect();
    // Within a group in the order of its file.
    records.sort_by_key(|record| record.case.split('/').next());
    for record in records {
        let theirs = other.get(record.case.as_str()).copied();
        let failure = [Some(record), theirs]
            .into_iter()
            .flatten()
            .find(|record| record.result == "failed")
            .and_then(|record| record.details.first())
            .map(|line| plain(line))
            .unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {failure} |",
            record.case,
            cell(Some(record)),
            cell(theirs)
        );
    }
    text
}

/// What the table is about, and what it takes to make each side of it again.
fn heading(ours: &Report, theirs: &Report) -> String {
    let mut text = "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
         # vf_vdpa and vp_vdpa compared\n\n\
         The cases of the machine, run with this driver and with the kernel's C driver `vp_vdpa`, on the same\n\
         virtual functions. A case that is not for a driver tests something only the other one promises.\n\
         Written by `tools/bootstrap compare`: see [testing.md](testing.md).\n\n\
         | | vf_vdpa | vp_vdpa |\n\
         |---|---|---|\n"
        .to_owned();
    let unknown = || "unknown".to_owned();
    let column = |side: &Report| {
        [
            format!("`{}`", side.origin.command),
            side.origin.commit.clone().unwrap_or_else(unknown),
            side.origin.kernel.clone().unwrap_or_else(unknown),
            side.sum(),
        ]
    };
    let rows = ["Command", "Commit", "Kernel", "Result"].iter();
    for ((name, ours), theirs) in rows.zip(column(ours)).zip(column(theirs)) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {ours} | {theirs} |");
    }
    if ours.origin.commit != theirs.origin.commit {
        text.push_str(
            "\nThe two sides are from different commits: a case may have changed in between.\n",
        );
    }
    text + "\n| Case | vf_vdpa | vp_vdpa | First failure |\n|---|---|---|---|\n"
}

fn cell(record: Option<&Record>) -> String {
    let Some(record) = record else {
        return "not run".to_owned();
    };
    match (record.result.as_str(), record.details.first()) {
        ("skipped", Some(why)) => plain(why),
        (result, _) => result.to_owned(),
    }
}

/// A line that fits a cell: no column separator, no path that only this run knew.
fn plain(line: &str) -> String {
    let line = line.split("; console: ").next().unwrap_or(line);
    // The kernel's time stamps differ from run to run.
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        let (inside, behind) = after.split_once(']').unwrap_or((after, ""));
        text.push_str(before);
        if !inside
            .trim()
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.')
        {
            let _ = write!(text, "[{inside}]");
        }
        rest = behind;
    }
    text.push_str(rest);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(LONGEST).collect();
    let more = if short.len() < text.len() { " …" } else { "" };
    format!("{short}{more}").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ktap::Verdict;

    #[test]
    fn a_row_shows_both_results_and_the_first_failure() {
        let (mut ours, mut theirs) = (Report::default(), Report::default());
        ours.add("a/b", Duration::ZERO, &Verdict::Passed, None);
        theirs.add(
            "a/b",
            Duration::ZERO,
            &Verdict::Failed(vec!["kernel: [   12.5] WARNING: x|y".into()]),
            None,
        );
        ours.add(
            "a/c",
            Duration::ZERO,
            &Verdict::Skipped("no mq".into()),
            None,
        );
        let text = table(&ours, &theirs);
        assert!(
            text.contains("| a/b | passed | failed | kernel: WARNING: x\\|y |"),
            "{text}"
        );
        assert!(text.contains("| a/c | no mq | not run |  |"), "{text}");
        assert!(!text.contains("different commits"), "{text}");
        assert_eq!(plain(&"x".repeat(200)), format!("{} …", "x".repeat(160)));
    }
    #[test]
    fn the_heading_says_where_each_side_comes_from() {
        let side = |driver: &str, commit: &str| {
            let mut report = Report::new(Origin {
                command: format!("run {driver}"),
                commit: Some(commit.to_owned()),
                kernel: Some("7.3.4".to_owned()),
                ..Origin::default()
            });
            for case in ["b/z", "a/z", "b/a"] {
                report.add(case, Duration::ZERO, &Verdict::Passed, None);
            }
            report
        };
        let text = table(&side("ours", "abc"), &side("theirs", "def-dirty"));
        assert!(
            text.contains("| Command | `run ours` | `run theirs` |\n| Commit | abc | def-dirty |"),
            "{text}"
        );
        assert!(text.contains("| Kernel | 7.3.4 | 7.3.4 |"), "{text}");
        assert!(text.contains("different commits"), "{text}");
        let rows: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split_once(" | passed"))
            .map(|(case, _)| case)
            .collect();
        assert_eq!(rows, ["a/z", "b/z", "b/a"], "by group, else as they were");
    }
}
