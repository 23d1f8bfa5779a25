// SPDX-License-Identifier: GPL-2.0
//! What a user can ask of the lab.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser};

use crate::beside::Beside;
use crate::case::{self, Case, Selection};
use crate::check::When;
use crate::context::Context;
use crate::kernel::Kernel;
use crate::ktap::Verdict;
use crate::machine::{Machine, Wanted};
use crate::report::{Origin, Report};
use crate::run::{BOOT, Runner};
use crate::{check, compare, conformance, consumers, coverage, module, selftest, shell, step};

/// Builds vf_vdpa against the stock kernel and tests it in a virtual machine.
#[derive(Parser)]
#[command(name = "tools/bootstrap", version)]
pub enum Command {
    /// Run the tests: host, build, and the cases in the machine
    Check(Check),
    /// Watch the driver at work, with every command and its output
    Demo,
    /// Build the modules and say where they are
    Build,
    /// Boot the machine and give a shell in it
    Shell(Shell),
    /// Run clippy with the kernel's lints
    Clippy,
    /// Format the sources
    Fmt,
    /// Prepare the kernel tree and print its path, for use as KDIR
    Kernel,
    /// Build the documentation of the modules' crates
    Doc,
    /// Write rust-project.json for editors
    RustAnalyzer,
    /// Run the cases with both drivers and write the table of differences
    Compare(Compare),
    /// Run vdpa-conform on every parent driver and write the table of what each keeps to
    Conformance {
        /// File for the table
        #[arg(long, default_value = "Documentation/conformance.md")]
        out: PathBuf,
    },
    /// Say which lines of the modules, and of the pure crate, the tests execute
    Coverage(Coverage),
    /// Test the lab itself: cases that fail, hang and crash on purpose
    Selftest,
    /// Remove everything the lab has cached, except its sysroot
    CleanCache,
}

/// Options of `check`.
#[derive(Args)]
pub struct Check {
    /// Cases: `group`, `group/name` or a pattern like `mgmt/add*`
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// The same, as one string
    #[arg(long, env = "CASES", default_value = "", hide_env = true)]
    select: String,
    /// Driver under test: vf_vdpa, or the C driver vp_vdpa
    #[arg(long, env = "DRIVER", default_value = "vf_vdpa", value_parser = ["vf_vdpa", "vp_vdpa"])]
    driver: String,
    /// Give a shell in the machine afterwards
    #[arg(long, env = "KEEP", value_parser = clap::builder::FalseyValueParser::new())]
    keep: bool,
    /// Write the results to this file, too
    #[arg(long, env = "JSON")]
    json: Option<PathBuf>,
    /// Show the output of cases while it comes
    #[arg(long)]
    live: bool,
    /// Only name the selected cases
    #[arg(long)]
    list: bool,
}

/// Options of `shell`.
#[derive(Args)]
pub struct Shell {
    /// Run this command instead, and end with its status
    command: Vec<String>,
    /// Driver to put into /lab/modules
    #[arg(long, env = "DRIVER", default_value = "vf_vdpa", value_parser = ["vf_vdpa", "vp_vdpa"])]
    driver: String,
    /// Make the guest that runs inside the machine, too
    #[arg(long)]
    guest: bool,
    /// Have those who use devices in it, too: tools/lab/consumers
    #[arg(long)]
    consumers: bool,
    /// What to tell its kernel besides, as `hugepages=192`
    #[arg(long, value_name = "WORD")]
    boot: Vec<String>,
}

/// Options of `compare`.
#[derive(Args)]
pub struct Compare {
    /// File for the table
    #[arg(long, default_value = "Documentation/comparison.md")]
    out: PathBuf,
    /// Take the results from two files that `check --json` wrote, ours first, and run nothing
    #[arg(long, num_args = 2, value_names = ["OURS", "THEIRS"], conflicts_with = "cases")]
    results: Vec<PathBuf>,
    /// Cases, as for `check`
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
}

/// Options of `coverage`.
#[derive(Args)]
pub struct Coverage {
    /// Cases, as for `check`: those of the machine, and host/virtio
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// The same, as one string
    #[arg(long, env = "CASES", default_value = "", hide_env = true)]
    select: String,
    /// File for the table
    #[arg(long, default_value = "Documentation/coverage.md")]
    out: PathBuf,
    /// Write everything to this file, too
    #[arg(long, env = "JSON")]
    json: Option<PathBuf>,
}

impl Command {
    /// Does what was asked; `false` means that it was done and something had failed.
    pub fn run(self) -> Result<bool> {
        let cx = Context::new()?;
        match self {
            Self::Check(options) => options.run(&cx),
            Self::Demo => demo(&cx),
            Self::Build => {
                for file in module::build(&cx, &Kernel::get(&cx)?.tree)? {
                    println!("{}", file.display());
                }
                Ok(true)
            }
            Self::Shell(options) => options.run(&cx),
            Self::Clippy => module::clippy(&cx, &Kernel::get(&cx)?.tree).map(|()| true),
            Self::Fmt => check::format(&cx, false).map(|()| true),
            Self::Kernel => {
                println!("{}", Kernel::get(&cx)?.tree.display());
                Ok(true)
            }
            Self::Doc => module::doc(&cx, &Kernel::get(&cx)?.tree).map(|dir| {
                println!("{}", dir.display());
                true
            }),
            Self::RustAnalyzer => {
                module::rust_analyzer(&cx, &Kernel::get(&cx)?.tree).map(|()| true)
            }
            Self::Compare(options) => match options.results.as_slice() {
                [ours, theirs] => compare::from_results(&cx, &options.out, ours, theirs),
                _ => compare::run(&cx, &options.out, &options.cases),
            },
            Self::Conformance { out } => conformance::run(&cx, &out),
            Self::Coverage(options) => options.run(&cx),
            Self::Selftest => selftest::run(&cx),
            Self::CleanCache => cx.cache.clean().map(|()| true),
        }
    }
}

/// Cases of the machine; those of the lab's own test are not among them.
pub fn machine_cases(cx: &Context) -> Result<Vec<Case>> {
    let all = case::all(&cx.top.join("tools/cases"))?;
    Ok(all
        .into_iter()
        .filter(|case| case.group != "selftest")
        .collect())
}

/// All cases that were asked for, in both ways.
fn words<'a>(cases: &'a [String], select: &'a str) -> Vec<&'a str> {
    cases
        .iter()
        .map(String::as_str)
        .chain(select.split_whitespace())
        .collect()
}

/// A file of the checkout: nothing else of the host is visible from the sysroot.
fn inside(cx: &Context, path: &Path) -> Result<PathBuf> {
    let path = cx.top.join(path);
    anyhow::ensure!(
        path.starts_with(&cx.top),
        "{} is outside the checkout: give a path inside it",
        path.display()
    );
    Ok(path)
}

impl Coverage {
    fn run(&self, cx: &Context) -> Result<bool> {
        let words = words(&self.cases, &self.select);
        let out = inside(cx, &self.out)?;
        let json = self
            .json
            .as_ref()
            .map(|path| inside(cx, path))
            .transpose()?;
        coverage::run(cx, &words, &out, json.as_deref())
    }
}

impl Check {
    fn run(&self, cx: &Context) -> Result<bool> {
        let words = words(&self.cases, &self.select);
        let selection = Selection::new(words.iter().copied())?;
        let cases = machine_cases(cx)?;
        let mut ids = check::names();
        ids.push(BOOT.to_owned());
        ids.extend(cases.iter().map(Case::id));
        selection.check(&ids)?;
        let has = cx.has();
        if self.list {
            for id in ids.iter().filter(|id| selection.has(id)) {
                let case = cases.iter().find(|case| case.id() == *id);
                let late = case.is_some_and(|case| !case.is_due(&selection, has));
                let why = match case {
                    Some(case) if late && case.needs("debug") => " (make check-debug)",
                    Some(case) if late && case.needs("time") => {
                        " (make check-long, make check-debug)"
                    }
                    Some(_) if late => " (make check-long)",
                    None if check::is_late(id, &selection) => " (make check-long)",
                    _ => "",
                };
                println!("{id}{why}");
            }
            return Ok(true);
        }
        let json = self
            .json
            .as_ref()
            .map(|path| inside(cx, path))
            .transpose()?;
        let mut report = Report::new(Origin::new("check", &self.driver, &words));
        let selected: Vec<&Case> = cases
            .iter()
            .filter(|case| case.is_due(&selection, has))
            .collect();
        let late = cases
            .iter()
            .filter(|case| selection.has(&case.id()))
            .count()
            - selected.len();
        if late != 0 {
            println!(
                "{late} cases take long, or need a kernel that looks for mistakes: left to make check-long and make check-debug, or to their full names"
            );
        }
        let wants_machine = !selected.is_empty() || selection.has(BOOT) || self.keep;
        // What can wait is done beside it.
        let due = wants_machine.then_some(When::Before);
        check::run(cx, &selection, due, |name, took, verdict, log| {
            report.add(name, took, &verdict, log.as_deref());
        });
        let done = if wants_machine {
            in_machine(cx, self, &selection, &selected, &mut report)
        } else {
            Ok(())
        };
        if let Some(path) = &json {
            report.write_json(path)?;
        }
        if let Err(error) = done {
            println!("{}", report.sum());
            return Err(error.context(format!(
                "{} cases were selected for the machine and not all were run",
                selected.len()
            )));
        }
        println!("{}", report.sum());
        Ok(report.good())
    }
}

fn in_machine(
    cx: &Context,
    options: &Check,
    selection: &Selection,
    cases: &[&Case],
    report: &mut Report,
) -> Result<()> {
    let boot = selection.has(BOOT);
    let wanted = Wanted::by(&options.driver, cases.iter().copied());
    // The guest's kernel is made while cases run that do without.
    let late = wanted.guest && (boot || cases.iter().any(|case| !case.needs("guest")));
    let machine = Machine::prepare(
        cx,
        &Wanted {
            guest: wanted.guest && !late,
            ..wanted
        },
    );
    thread::scope(|scope| {
        let mut beside = Beside::begin(scope, cx, selection, late && machine.is_ok());
        let ran = machine.and_then(|machine| {
            let mut runner = Runner::new(&machine, &options.driver);
            runner.live = options.live;
            report.origin.kernel = Some(machine.release.clone());
            if boot {
                runner.boot(report)?;
            }
            for case in cases {
                run_case(case, options, &machine, &mut runner, &mut beside, report)?;
            }
            runner.finish(report);
            step::aloud(|| println!("logs: {}", runner.logs().display()));
            if options.keep {
                // Nobody else writes where there is a shell.
                beside.finish(report)?;
                shell::join(runner.shell()?)?;
            }
            Ok(())
        });
        if let Err(error) = &ran {
            step::aloud(|| eprintln!("no machine: {error:#}; the checks on the host go on"));
        }
        ran.and(beside.finish(report))
    })
}

/// Runs one case, with a guest if it needs one, and reports what is over beside it.
fn run_case(
    case: &Case,
    options: &Check,
    machine: &Machine,
    runner: &mut Runner<'_>,
    beside: &mut Beside<'_>,
    report: &mut Report,
) -> Result<()> {
    if case.needs("guest") && case.applies_to(&options.driver) {
        match beside.guest() {
            Ok(None) => {}
            Ok(Some(kernel)) => machine.add_guest(&kernel)?,
            Err(why) => {
                let why = why.lines().map(str::to_owned).collect();
                report.add(&case.id(), Duration::ZERO, &Verdict::Failed(why), None);
                return Ok(());
            }
        }
    }
    runner.run(case, report)?;
    beside.report(report);
    Ok(())
}

impl Shell {
    fn run(&self, cx: &Context) -> Result<bool> {
        let machine = Machine::prepare(
            cx,
            &Wanted {
                guest: self.guest,
                parents: self.driver != "vf_vdpa",
                consumers: self.consumers,
                project: true,
                counting: false,
            },
        )?;
        let mut runner = Runner::new(&machine, &self.driver);
        runner.words = self.boot.clone();
        if self.consumers {
            runner.words.push(consumers::WORD.to_owned());
        }
        if self.command.is_empty() {
            shell::join(runner.shell()?)?;
            return Ok(true);
        }
        runner.command(&self.command.join(" "))
    }
}

fn demo(cx: &Context) -> Result<bool> {
    let machine = Machine::prepare(
        cx,
        &Wanted {
            guest: true,
            parents: false,
            consumers: false,
            project: true,
            counting: false,
        },
    )?;
    let mut runner = Runner::new(&machine, "vf_vdpa");
    let good = runner.command(". /lab/cases/lib.sh; . /lab/cases/demo.sh; demo")?;
    if !good {
        eprintln!("{}", step::tail(&runner.logs().join("console-1.log"), 20));
    }
    Ok(good)
}
