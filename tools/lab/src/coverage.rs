// SPDX-License-Identifier: GPL-2.0
//! What the tests execute: the modules in the machine, and the pure crate on the host.
//!
//! The modules are built with LLVM's counters and run in the stock kernel. That has no part that would hand
//! the counters out, and the modules get none for it: they are read through `/proc/kcore`
//! (`tools/cases/coverage.sh`) before a module goes. What comes of it is made into the file that LLVM's
//! runtime would have written, and LLVM's own tools do the rest.

mod counters;
mod host;
mod lines;
mod llvm;
mod object;
mod page;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

pub use counters::Counters;
use lines::FileCoverage;
use object::Module;
use page::{Findings, percent};

use crate::case::{Case, Selection};
use crate::command::machine_cases;
use crate::context::{Context, Flavour};
use crate::machine::{Machine, Wanted};
use crate::report::{Origin, Report};
use crate::run::Runner;
use crate::{check, module, source};

/// What the part on the host is called, as in `check`.
const HOST: &str = "host/virtio";
/// What counts in the kernel.
const FOLDERS: [&str; 3] = ["drivers", "samples", "rust"];

/// Runs what `words` select and writes the page to `out`, and all of it to `json`; `false` when a case has
/// failed.
pub fn run(cx: &Context, words: &[&str], out: &Path, json: Option<&Path>) -> Result<bool> {
    ensure!(
        cx.flavour == Flavour::Stock,
        "coverage is of the stock kernel: leave VF_VDPA_KERNEL out"
    );
    let selection = Selection::new(words.iter().copied())?;
    let all = machine_cases(cx)?;
    let mut ids = vec![HOST.to_owned()];
    ids.extend(all.iter().map(Case::id));
    selection.check(&ids)?;
    let cases: Vec<&Case> = all
        .iter()
        .filter(|case| case.is_due(&selection, cx.has()))
        .collect();

    let mut report = Report::new(Origin::new("coverage", "vf_vdpa", words));
    let host = if selection.has(HOST) {
        on_host(cx, &mut report)
    } else {
        None
    };
    let (mut modules, mut silent, mut stopped) = (None, Vec::new(), None);
    if !cases.is_empty() {
        let (files, counters, error) = in_machine(cx, &cases, &mut report)?;
        let ran = report
            .records()
            .iter()
            .filter(|record| record.case != HOST && record.result != "skipped");
        silent.extend(
            ran.filter(|record| !counters.came_from(&record.case))
                .map(|record| record.case.clone()),
        );
        (modules, stopped) = (Some(files), error);
    }
    let findings = Findings {
        report: &report,
        unrun: cases.len() + usize::from(selection.has(HOST)) - report.records().len(),
        silent,
        modules,
        host,
    };
    write(out, findings.page())?;
    if let Some(json) = json {
        write(json, serde_json::to_string_pretty(&findings)? + "\n")?;
    }
    println!("{}", out.display());
    summary("modules", findings.modules.as_deref());
    summary(HOST, findings.host.as_deref());
    println!("{}", report.sum());
    match stopped {
        Some(error) => Err(error.context("not all cases were run")),
        None => Ok(report.good()),
    }
}

/// Runs the tests of the pure crate; nothing if one of them fails.
fn on_host(cx: &Context, report: &mut Report) -> Option<Vec<FileCoverage>> {
    let began = Instant::now();
    let (files, result) = match host::run(cx) {
        Ok(files) => (Some(files), Ok(Vec::new())),
        Err(error) => (None, Err(error)),
    };
    let (verdict, log) = check::judge(result);
    report.add(HOST, began.elapsed(), &verdict, log.as_deref());
    files
}

/// Runs the cases. What they have executed until no machine could be had any more is returned with the error.
fn in_machine(
    cx: &Context,
    cases: &[&Case],
    report: &mut Report,
) -> Result<(Vec<FileCoverage>, Counters, Option<anyhow::Error>)> {
    let mut wanted = Wanted::by("vf_vdpa", cases.iter().copied());
    wanted.counting = true;
    let machine = Machine::prepare(cx, &wanted)?;
    report.origin.kernel = Some(machine.release.clone());
    // Whatever is wrong with the profiles is found now, and not after hours.
    evaluate(cx, &machine, &Counters::default())?;
    let mut runner = Runner::new(&machine, "vf_vdpa");
    runner.counters = Some(Counters::default());
    let ran = cases.iter().try_for_each(|case| runner.run(case, report));
    runner.finish(report);
    println!("logs: {}", runner.logs().display());
    let counters = runner.counters.take().unwrap_or_default();
    let files = evaluate(cx, &machine, &counters)?;
    Ok((files, counters, ran.err()))
}

/// Which lines the modules of `machine` have executed that have counted `counters`.
fn evaluate(cx: &Context, machine: &Machine, counters: &Counters) -> Result<Vec<FileCoverage>> {
    let dir = cx.cache.path(&format!("coverage-{}", cx.checkout_key()));
    fs::create_dir_all(&dir)?;
    let (mut objects, mut profiles) = (Vec::new(), Vec::new());
    // The files that the machine has: the checkout may change meanwhile.
    for entry in fs::read_dir(machine.parts.share.join("modules"))? {
        let object = entry?.path();
        let name = object.file_stem().unwrap_or_default().to_string_lossy();
        let Some(module) = project_module(cx, &object)? else {
            continue;
        };
        // What was never loaded has executed nothing, but its lines count.
        let zeros = vec![0; module.counters()];
        let counts = counters.of(&name).unwrap_or(&zeros);
        let profile = dir.join(format!("{name}.profraw"));
        let bytes = module
            .profile(counts)
            .with_context(|| format!("the counters of {name}"))?;
        write(&profile, &bytes)?;
        profiles.push(profile);
        objects.push(object);
    }
    let lcov = llvm::lcov(cx, &dir, &profiles, &objects)?;
    let (built, sources) = (module::counting_sources(cx), ours(cx, &FOLDERS)?);
    let files = lines::read(&lcov, |path| {
        let name = path.strip_prefix(&built).ok()?;
        sources.contains(name).then(|| name.to_owned())
    })?;
    ensure!(
        !files.is_empty(),
        "llvm-cov knows no file below {}",
        built.display()
    );
    Ok(files)
}

/// The file as a module that counts; nothing if it is one of the kernel's C drivers.
fn project_module(cx: &Context, object: &Path) -> Result<Option<Module>> {
    let name = object.file_name().unwrap_or_default();
    if module::counting_sources(cx).join(name).exists() {
        Module::read(object).map(Some)
    } else {
        Ok(None)
    }
}

/// The project's own files below `folders`, relative to the checkout.
fn ours(cx: &Context, folders: &[&str]) -> Result<BTreeSet<PathBuf>> {
    source::rust_files(&cx.top, folders)?
        .iter()
        .map(|path| Ok(path.strip_prefix(&cx.top)?.to_owned()))
        .collect()
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// One line of how much was executed.
fn summary(what: &str, files: Option<&[FileCoverage]>) {
    let Some(files) = files else { return };
    let lines = files.iter().map(|file| file.lines).sum();
    let covered = files.iter().map(|file| file.covered).sum();
    println!(
        "{what}: {covered} of {lines} lines, {}",
        percent(covered, lines)
    );
}
