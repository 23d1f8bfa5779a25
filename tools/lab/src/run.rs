// SPDX-License-Identifier: GPL-2.0
//! Runs cases in the machine, one after the other, and reboots it whenever one has failed.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::agent::{Ended, Request};
use crate::case::Case;
use crate::console::bad;
use crate::context::Context;
use crate::coverage::Counters;
use crate::ktap::{Verdict, verdict};
use crate::machine::Machine;
use crate::report::Report;
use crate::stacks;
use crate::step;
use crate::vm::Vm;

/// Time that the kernel's log may lag behind the channel.
const SETTLE: Duration = Duration::from_secs(10);
/// Time that a single command or the demonstration may take.
const COMMAND: Duration = Duration::from_secs(1800);
/// Time that a machine may take to answer when the last case is over.
const ANSWER: Duration = Duration::from_secs(60);
/// Bad kernel lines that a report repeats; the log has them all.
const SHOWN: usize = 6;
/// Characters of a request that a report repeats.
const SHORT: usize = 60;

/// What judges the boot itself.
pub const BOOT: &str = "boot/console";

/// Runs cases on one machine.
pub struct Runner<'a> {
    machine: &'a Machine,
    driver: &'a str,
    vm: Option<Vm>,
    /// Whether the machine is not fit for another case. It lives on until there is one: somebody may
    /// want to look at it.
    spent: bool,
    /// The case that ran last.
    last: Option<String>,
    boots: u32,
    /// Whether output is shown while it comes.
    pub live: bool,
    /// What the kernel of a machine is told besides in which a shell or a command runs.
    pub words: Vec<String>,
    /// What modules have counted, in a run that is about coverage.
    pub counters: Option<Counters>,
}

/// What came of a command in the machine.
struct Seen {
    ended: Ended,
    /// The kernel's lines between the end of the command before it and its own begin.
    before: Vec<String>,
    /// The kernel's lines while it ran.
    during: Vec<String>,
}

impl<'a> Runner<'a> {
    /// A runner that boots when the first case needs it.
    pub fn new(machine: &'a Machine, driver: &'a str) -> Self {
        Self {
            machine,
            driver,
            vm: None,
            spent: false,
            last: None,
            boots: 0,
            live: false,
            words: Vec::new(),
            counters: None,
        }
    }

    /// A machine whose kernel was given `words` besides, booted when there is none.
    fn vm(&mut self, words: &[String]) -> Result<&mut Vm> {
        if std::mem::take(&mut self.spent) {
            self.vm = None;
        }
        let vm = match self.vm.take() {
            Some(vm) if vm.has_words(words) => vm,
            other => {
                // Its ports and its memory are free before there is another one.
                drop(other);
                self.boots += 1;
                Vm::boot(&self.machine.parts, self.boots, words)?
            }
        };
        Ok(self.vm.insert(vm))
    }

    /// A shell in the machine: in the one that the last case left behind, whatever its state.
    pub fn shell(&mut self) -> Result<UnixStream> {
        match &self.vm {
            Some(vm) => vm.shell(),
            None => self.vm(&self.words.clone())?.shell(),
        }
    }

    /// Variables that everything in the machine sees.
    fn environment(&self) -> String {
        format!(
            "DRIVER={} VF_VDPA_SLOW={} VF_VDPA_LONG={} VF_VDPA_COVERAGE={} VF_VDPA_SOAK={}",
            self.driver,
            Context::slowness(),
            u8::from(Context::is_long()),
            u8::from(self.counters.is_some()),
            Context::soak().map_or_else(String::new, |seconds| seconds.to_string())
        )
    }

    /// Runs `case` and adds what came of it to `report`. An error means that no machine can be had.
    pub fn run(&mut self, case: &Case, report: &mut Report) -> Result<()> {
        if !case.applies_to(self.driver) {
            let why = format!("not for {}", self.driver);
            report.add(&case.id(), Duration::ZERO, &Verdict::Skipped(why), None);
            return Ok(());
        }
        // The boot is not the case's own time.
        self.vm(&case.boot)?;
        let began = Instant::now();
        let (result, log) = self.attempt(case)?;
        report.add(&case.id(), began.elapsed(), &result, Some(&log));
        self.last = Some(case.id());
        if matches!(result, Verdict::Failed(_)) {
            self.spent = true;
        }
        Ok(())
    }

    fn attempt(&mut self, case: &Case) -> Result<(Verdict, PathBuf)> {
        let (live, environment) = (self.live, self.environment());
        let name = format!("{}.{}.log", case.group, case.name);
        let log = self.logs().join(name);
        let limit = case.limit * Context::slowness();
        let command = format!(
            "{environment} bash /lab/cases/lib.sh {} {}",
            case.group, case.name
        );
        let mut counters = self.counters.take();
        let vm = self.vm(&case.boot)?;
        let (mut output, mut why) = (Vec::new(), Vec::new());
        let seen = observe(
            vm,
            &case.id(),
            &command,
            limit,
            |line| {
                if live {
                    step::aloud(|| println!("{line}"));
                }
                output.push(line.to_owned());
            },
            |request| match (&mut counters, request.strip_prefix("coverage ")) {
                (Some(counters), Some(line)) => Some(counters.add(&case.id(), line)),
                _ => None,
            },
            |refusal| why.push(refusal),
        );
        let console = vm.console.path().display().to_string();
        let mut stacks = Vec::new();
        let mut result = Verdict::Passed;
        match seen.ended {
            Ended::Died if !case.ends.is_empty() => {
                if let Verdict::Failed(more) = verdict(&output, 0) {
                    why.extend(more);
                }
                why.extend(missing(&case.ends, &seen.during));
            }
            Ended::Status(_) if !case.ends.is_empty() => {
                why.push("the machine did not go down".to_owned());
            }
            Ended::Status(status) => match verdict(&output, status) {
                Verdict::Failed(more) => why.extend(more),
                other => result = other,
            },
            Ended::TimedOut => {
                let said = output
                    .iter()
                    .rev()
                    .find(|line| !line.trim().is_empty())
                    .map_or("(nothing)", String::as_str);
                why.push(format!(
                    "timed out after {} s; last line: {said}; console: {console}",
                    limit.as_secs()
                ));
                match stacks::take(vm) {
                    Ok(lines) => stacks = lines,
                    Err(error) => why.push(format!("its stacks cannot be had: {error:#}")),
                }
                why.extend(stacks::blocked(&stacks));
            }
            // First of all: tables show one line.
            Ended::Died => why.insert(
                0,
                format!(
                    "the machine died: {}; console: {console}",
                    vm.console.last_words(&seen.during, &case.allowed)
                ),
            ),
        }
        why.extend(complaints(&[
            ("kernel, before it began", &seen.before, &[]),
            ("kernel", &seen.during, &case.allowed),
        ]));
        let incomplete = vm.is_incomplete();
        write_log(&log, &output, &seen, &stacks)?;
        if seen.ended == Ended::Died {
            self.vm = None;
        }
        self.spent |= incomplete;
        self.counters = counters;
        if !why.is_empty() {
            result = Verdict::Failed(why);
        }
        Ok((result, log))
    }

    /// Judges what the kernel says after the last case, and whether the machine still answers.
    pub fn finish(&mut self, report: &mut Report) {
        let (Some(vm), Some(last), false) = (&mut self.vm, &self.last, self.spent) else {
            return;
        };
        let limit = ANSWER * Context::slowness();
        let seen = observe(vm, "lab/end", "sleep 1", limit, |_| {}, |_| None, |_| {});
        let mut why = complaints(&[
            ("kernel, after it ended", &seen.before, &[]),
            ("kernel, after it ended", &seen.during, &[]),
        ]);
        if seen.ended != Ended::Status(0) {
            why.push(format!(
                "the machine does not answer after it: {}; console: {}",
                vm.console.last_words(&seen.during, &[]),
                vm.console.path().display()
            ));
        }
        if !why.is_empty() {
            report.blame(last, why);
        }
    }

    /// Judges the boot itself: [`BOOT`] fails when the kernel complained before any case.
    pub fn boot(&mut self, report: &mut Report) -> Result<()> {
        let began = Instant::now();
        let vm = self.vm(&[])?;
        let why = complaints(&[("kernel", &vm.console.boot(), &[])]);
        let log = vm.console.path().to_owned();
        let result = if why.is_empty() {
            Verdict::Passed
        } else {
            Verdict::Failed(why)
        };
        report.add(BOOT, began.elapsed(), &result, Some(&log));
        self.last = Some(BOOT.to_owned());
        Ok(())
    }

    /// Runs one command and shows its output; whether it ended well, and without a complaint of the
    /// kernel's.
    pub fn command(&mut self, command: &str) -> Result<bool> {
        let command = format!("export {}; {command}", self.environment());
        let limit = COMMAND * Context::slowness();
        let vm = self.vm(&self.words.clone())?;
        let seen = observe(
            vm,
            "lab/command",
            &command,
            limit,
            |line| println!("{line}"),
            |_| None,
            |refusal| eprintln!("{refusal}"),
        );
        let complaints = complaints(&[("kernel", &seen.during, &[])]);
        complaints.iter().for_each(|line| eprintln!("{line}"));
        match seen.ended {
            Ended::Status(0) if complaints.is_empty() => return Ok(true),
            Ended::Status(_) if complaints.is_empty() => return Ok(false),
            Ended::Status(_) => {}
            Ended::TimedOut => eprintln!("it did not end within {} s", limit.as_secs()),
            Ended::Died => eprintln!(
                "the machine died: {}",
                vm.console.last_words(&seen.during, &[])
            ),
        }
        eprintln!("console: {}", vm.console.path().display());
        Ok(false)
    }

    /// Where the logs of this run are.
    pub fn logs(&self) -> &Path {
        &self.machine.parts.logs
    }
}

/// Runs a command; `on_line` sees its output, `on_request` what it asks of the host, which the machine does
/// unless that has an answer, and `on_refusal` what the host could not do for it.
fn observe(
    vm: &mut Vm,
    name: &str,
    command: &str,
    limit: Duration,
    on_line: impl FnMut(&str),
    mut on_request: impl FnMut(&str) -> Option<Result<()>>,
    mut on_refusal: impl FnMut(String),
) -> Seen {
    let nonce = vm.agent.nonce();
    let (agent, mut host) = vm.split();
    let ended = agent.run(&nonce, name, command, limit, on_line, |request| {
        let (Request::Do(text) | Request::Answer(text)) = request;
        let done = match on_request(text) {
            Some(done) => done.map(|()| "ok".to_owned()),
            None => host.request(text),
        };
        let error = match done {
            Ok(answer) => return answer,
            Err(error) => {
                let short: String = text.chars().take(SHORT).collect();
                format!("the host could not `{short}`: {error:#}")
            }
        };
        // Who waits for the answer judges it.
        if matches!(request, Request::Do(_)) {
            on_refusal(error.clone());
        }
        format!("error: {error}")
    });
    if matches!(ended, Ended::Status(_)) {
        vm.console.settle(&nonce, SETTLE);
    }
    Seen {
        ended,
        before: vm.console.before(&nonce),
        during: vm.console.during(&nonce),
    }
}

/// The lines that the kernel should have said and has not.
fn missing(wanted: &[String], lines: &[String]) -> Vec<String> {
    wanted
        .iter()
        .filter(|wanted| !lines.iter().any(|line| line.contains(wanted.as_str())))
        .map(|wanted| format!("the kernel did not say `{wanted}`"))
        .collect()
}

/// What to report of the kernel's lines: each item says when they came, and what is allowed in them.
fn complaints(parts: &[(&str, &Vec<String>, &[String])]) -> Vec<String> {
    let mut why: Vec<String> = parts
        .iter()
        .flat_map(|(when, lines, allowed)| {
            bad(lines, allowed)
                .into_iter()
                .map(move |line| format!("{when}: {}", line.trim()))
        })
        .collect();
    let more = why.len().saturating_sub(SHOWN);
    if more > 0 {
        why.truncate(SHOWN);
        why.push(format!("kernel: … {more} more such lines"));
    }
    why
}

fn write_log(path: &Path, output: &[String], seen: &Seen, stacks: &[String]) -> Result<()> {
    let mut file = File::create(path)?;
    let mut part = |title: &str, lines: &[String]| -> Result<()> {
        if !title.is_empty() {
            writeln!(file, "---- {title} ----")?;
        }
        for line in lines {
            writeln!(file, "{line}")?;
        }
        Ok(())
    };
    part("", output)?;
    part("kernel log, before the case", &seen.before)?;
    part("kernel log", &seen.during)?;
    part("stacks", stacks)
}
