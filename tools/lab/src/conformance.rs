// SPDX-License-Identifier: GPL-2.0
//! The table of what each parent driver keeps to, from a run of `vdpa-conform` on all of them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::command::machine_cases;
use crate::context::Context;
use crate::machine::{Machine, Wanted};
use crate::report::{Origin, Report};
use crate::run::Runner;

/// The case that looks at every driver, and the mark of the table's lines in its log.
const CASE: &str = "conform/parents";
const MARK: &str = "# |";

/// Runs the case and writes the table to `out`, relative to the checkout.
pub fn run(cx: &Context, out: &Path) -> Result<bool> {
    let cases = machine_cases(cx)?;
    let case = cases
        .iter()
        .find(|case| case.id() == CASE)
        .with_context(|| format!("there is no case {CASE}"))?;
    let machine = Machine::prepare(cx, &Wanted::by("vf_vdpa", [case]))?;
    let mut runner = Runner::new(&machine, "vf_vdpa");
    let mut report = Report::new(Origin::new("conformance", "vf_vdpa", &[]));
    runner.run(case, &mut report)?;
    runner.finish(&mut report);
    if !report.good() {
        return Ok(false);
    }
    let log = runner
        .logs()
        .join(format!("{}.{}.log", case.group, case.name));
    let text = fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    let table: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .collect();
    ensure!(!table.is_empty(), "{} has no table", log.display());
    let path = cx.top.join(out);
    let commit = report.origin.commit.as_deref().unwrap_or("unknown");
    let heading = format!(
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
         # Who keeps to what\n\n\
         Every parent driver that runs in the lab, looked at by `vdpa-conform` ([testing.md](testing.md)): ours on a\n\
         virtual function and on a disk, the sample, and of the kernel `vp_vdpa`, the simulators, and VDUSE with a disk\n\
         that is a program of QEMU's. A dash: the text\n\
         demands nothing of this device, or it does not offer what the case is about. Written by\n\
         `tools/bootstrap conformance` at commit {commit}, with Linux {}.\n\n",
        machine.release
    );
    fs::write(&path, heading + &table.join("\n") + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(true)
}
