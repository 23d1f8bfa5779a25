// SPDX-License-Identifier: GPL-2.0
//! The lab's own test on a real machine: each kind of failure must be seen, and the next case must pass.

use anyhow::Result;

use crate::case;
use crate::context::Context;
use crate::machine::{Machine, Wanted};
use crate::report::Report;
use crate::run::Runner;

/// Case of `tools/cases/selftest.sh`, its result, and what its details must contain.
const EXPECTED: [(&str, &str, &str); 13] = [
    ("passes", "passed", ""),
    ("skips", "skipped", "because it can"),
    ("fails", "failed", "got: 1"),
    ("is_silent", "failed", "printed no result"),
    ("ends_badly", "failed", "status 3"),
    ("hangs", "failed", "timed out after"),
    (
        "hangs_in_the_kernel",
        "failed",
        "blocked in the kernel: python3",
    ),
    ("warns", "failed", "WARNING: injected"),
    ("is_allowed_to_warn", "passed", ""),
    // The crash itself, not what the kernel prints after it.
    ("crashes", "failed", "sysrq triggered crash; console"),
    ("asks_the_host", "passed", ""),
    ("starts_clean", "passed", ""),
    ("warns_afterwards", "failed", "it ended: "),
];

/// Runs the cases and compares what came of them; `true` when the lab judged all of them right.
pub fn run(cx: &Context) -> Result<bool> {
    let cases = case::all(&cx.top.join("tools/cases"))?;
    let machine = Machine::prepare(
        cx,
        &Wanted {
            guest: false,
            parents: false,
            consumers: false,
            project: false,
            counting: false,
        },
    )?;
    let mut runner = Runner::new(&machine, "vf_vdpa");
    let mut report = Report::default();
    for case in cases.iter().filter(|case| case.group == "selftest") {
        runner.run(case, &mut report)?;
    }
    runner.finish(&mut report);
    let mut wrong = 0;
    println!("---- the lab's judgement ----");
    for (name, result, text) in EXPECTED {
        let id = format!("selftest/{name}");
        let record = report.records().iter().find(|record| record.case == id);
        let good = record.is_some_and(|record| {
            record.result == result
                && (text.is_empty() || record.details.iter().any(|line| line.contains(text)))
        });
        if !good {
            wrong += 1;
        }
        println!(
            "{} {id} is {result}{}{text}",
            if good { "ok  " } else { "FAIL" },
            if text.is_empty() { "" } else { ": " }
        );
    }
    wrong += report.records().len().abs_diff(EXPECTED.len());
    println!(
        "{} judged right, {wrong} wrong",
        EXPECTED.len().saturating_sub(wrong)
    );
    Ok(wrong == 0)
}
