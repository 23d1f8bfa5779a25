// SPDX-License-Identifier: GPL-2.0
//! Runs cases in the machine, one after the other, and reboots it whenever one has failed.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::agent::Ended;
use crate::case::Case;
use crate::console::bad;
use crate::context::Context;
use crate::ktap::{Verdict, verdict};
use crate::machine::Machine;
use crate::report::Report;
use crate::vm::Vm;

/// Time that the kernel's log may lag behind the channel.
const SETTLE: Duration = Duration::from_secs(10);
/// Time that a single command or the demonstration may take.
const COMMAND: Duration = Duration::from_secs(1800);
/// Bad kernel lines that a report repeats; the log has them all.
const SHOWN: usize = 6;

/// Runs cases on one machine.
pub struct Runner<'a> {
    machine: &'a Machine,
    driver: &'a str,
    vm: Option<Vm>,
    boots: u32,
    /// Whether output is shown while it comes.
    pub live: bool,
}

impl<'a> Runner<'a> {
    /// A runner that boots when the first case needs it.
    pub fn new(machine: &'a Machine, driver: &'a str) -> Self {
        Self {
            machine,
            driver,
            vm: None,
            boots: 0,
            live: false,
        }
    }

    /// The running machine, booted when there is none.
    pub fn vm(&mut self) -> Result<&mut Vm> {
        let vm = match self.vm.take() {
            Some(vm) => vm,
            None => {
                self.boots += 1;
                Vm::boot(&self.machine.parts, self.boots)?
            }
        };
        Ok(self.vm.insert(vm))
    }

    /// Runs `case` and adds what came of it to `report`. An error means that no machine can be had.
    pub fn run(&mut self, case: &Case, report: &mut Report) -> Result<()> {
        if !case.applies_to(self.driver) {
            let why = format!("not for {}", self.driver);
            report.add(&case.id(), Duration::ZERO, &Verdict::Skipped(why), None);
            return Ok(());
        }
        // The boot is not the case's own time.
        self.vm()?;
        let began = Instant::now();
        let (result, log) = self.attempt(case)?;
        report.add(&case.id(), began.elapsed(), &result, Some(&log));
        if matches!(result, Verdict::Failed(_)) {
            self.vm = None;
        }
        Ok(())
    }

    fn attempt(&mut self, case: &Case) -> Result<(Verdict, PathBuf)> {
        let (driver, live, logs) = (self.driver, self.live, self.machine.parts.logs.clone());
        let vm = self.vm()?;
        let log = logs.join(format!("{}.{}.log", case.group, case.name));
        let nonce = vm.agent.nonce();
        let command = format!(
            "DRIVER={driver} bash /lab/cases/lib.sh {} {}",
            case.group, case.name
        );
        let mut output = Vec::new();
        let mut refused = Vec::new();
        let limit = case.limit * Context::slowness();
        let (agent, control) = vm.split();
        let ended = agent.run(
            &nonce,
            &case.id(),
            &command,
            limit,
            |line| {
                if live {
                    println!("{line}");
                }
                output.push(line.to_owned());
            },
            |request| {
                if let Err(error) = Vm::request(control, request) {
                    refused.push(format!("the host could not `{request}`: {error:#}"));
                }
            },
        );
        if !matches!(ended, Ended::TimedOut) {
            vm.console.settle(
                &nonce,
                if ended == Ended::Died {
                    Duration::ZERO
                } else {
                    SETTLE
                },
            );
        }
        let kernel = vm.console.during(&nonce);
        let console = vm.console.path().display().to_string();
        let last = vm.console.last_line();
        let incomplete = vm.is_incomplete();

        let mut file = File::create(&log)?;
        for line in &output {
            writeln!(file, "{line}")?;
        }
        writeln!(file, "---- kernel log ----")?;
        for line in &kernel {
            writeln!(file, "{line}")?;
        }

        let mut why = refused;
        let mut result = Verdict::Passed;
        match ended {
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
            }
            Ended::Died => why.push(format!(
                "the machine died; its last line: {last}; console: {console}"
            )),
        }
        let lines = bad(&kernel, &case.allowed);
        why.extend(
            lines
                .iter()
                .take(SHOWN)
                .map(|line| format!("kernel: {}", line.trim())),
        );
        if lines.len() > SHOWN {
            why.push(format!("kernel: … {} more such lines", lines.len() - SHOWN));
        }
        if incomplete {
            self.vm = None;
        }
        Ok((
            if why.is_empty() {
                result
            } else {
                Verdict::Failed(why)
            },
            log,
        ))
    }

    /// Judges the boot itself: `boot/console` fails when the kernel complained before any case.
    pub fn boot(&mut self, report: &mut Report) -> Result<()> {
        let began = Instant::now();
        let vm = self.vm()?;
        let lines = vm.console.boot();
        let bad: Vec<String> = bad(&lines, &[])
            .iter()
            .map(|line| format!("kernel: {}", line.trim()))
            .collect();
        let log = vm.console.path().to_owned();
        let result = if bad.is_empty() {
            Verdict::Passed
        } else {
            Verdict::Failed(bad)
        };
        report.add("boot/console", began.elapsed(), &result, Some(&log));
        Ok(())
    }

    /// Runs one command and shows its output; whether it ended well.
    pub fn command(&mut self, command: &str) -> Result<bool> {
        let vm = self.vm()?;
        let nonce = vm.agent.nonce();
        let (agent, control) = vm.split();
        let ended = agent.run(
            &nonce,
            "lab/command",
            command,
            COMMAND * Context::slowness(),
            |line| println!("{line}"),
            |request| {
                if let Err(error) = Vm::request(control, request) {
                    eprintln!("the host could not `{request}`: {error:#}");
                }
            },
        );
        match ended {
            Ended::Status(status) => return Ok(status == 0),
            Ended::TimedOut => eprintln!(
                "it did not end within {} s",
                (COMMAND * Context::slowness()).as_secs()
            ),
            Ended::Died => eprintln!("the machine died: {}", vm.console.last_line()),
        }
        eprintln!("console: {}", vm.console.path().display());
        self.vm = None;
        Ok(false)
    }

    /// Where the logs of this run are.
    pub fn logs(&self) -> &std::path::Path {
        &self.machine.parts.logs
    }
}
