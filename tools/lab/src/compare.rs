// SPDX-License-Identifier: GPL-2.0
//! The table of differences between this driver and the C driver `vp_vdpa`, from a run of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::case::{Case, Selection};
use crate::command::machine_cases;
use crate::context::Context;
use crate::kernel::Packages;
use crate::machine::{Machine, Wanted};
use crate::report::{Record, Report};
use crate::run::Runner;

/// Characters of a failure that the table shows.
const LONGEST: usize = 160;

/// The drivers, ours first.
const DRIVERS: [&str; 2] = ["vf_vdpa", "vp_vdpa"];

/// Runs the selected cases with both drivers and writes the table to `out`, relative to the checkout.
pub fn run(cx: &Context, out: &Path, words: &[String]) -> Result<bool> {
    let selection = Selection::new(words.iter().map(String::as_str))?;
    let cases: Vec<Case> = machine_cases(cx)?
        .into_iter()
        .filter(|case| selection.has(&case.id()))
        .collect();
    let guest = cases
        .iter()
        .any(|case| case.needs.iter().any(|need| need == "guest"));
    let mut reports = Vec::new();
    for driver in DRIVERS {
        println!("# {driver}");
        let machine = Machine::prepare(
            cx,
            &Wanted {
                driver,
                guest,
                project: true,
            },
        )?;
        let mut runner = Runner::new(&machine, driver);
        let mut report = Report::default();
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
    let ours = Report::read_json(&cx.top.join(ours))?;
    let theirs = Report::read_json(&cx.top.join(theirs))?;

    write(cx, out, &ours, &theirs)
}

fn write(cx: &Context, out: &Path, ours: &Report, theirs: &Report) -> Result<bool> {
    let release = Packages::get(cx)?.release;
    let path = cx.top.join(out);
    fs::write(&path, table(&release, ours, theirs))
        .with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(ours.good())
}

fn table(release: &str, ours: &Report, theirs: &Report) -> String {
    let mut text = format!(
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
         # vf_vdpa and vp_vdpa compared\n\n\
         Written by `make compare`: every case of the machine, run with this driver and with the C driver\n\
         `vp_vdpa` of Linux {release}, on the same virtual functions. A case that is not for a driver tests\n\
         something only the other one promises.\n\n\
         vf_vdpa: {}. vp_vdpa: {}.\n\n\
         | Case | vf_vdpa | vp_vdpa | First failure |\n\
         |---|---|---|---|\n",
        ours.sum(),
        theirs.sum()
    );
    let other: BTreeMap<&str, &Record> = theirs
        .records()
        .iter()
        .map(|record| (record.case.as_str(), record))
        .collect();
    for record in ours.records() {
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
        let text = table("7.3.4", &ours, &theirs);
        assert!(
            text.contains("| a/b | passed | failed | kernel: WARNING: x\\|y |"),
            "{text}"
        );
        assert!(text.contains("| a/c | no mq | not run |  |"), "{text}");
        assert_eq!(plain(&"x".repeat(200)), format!("{} …", "x".repeat(160)));
    }
}
