// SPDX-License-Identifier: GPL-2.0

//! Takes any vDPA device that vhost-vdpa serves, whoever has written its driver, and says case by
//! case whether it keeps to the virtio specification and to the kernel's interfaces.

mod bench;
mod case;
mod cases;
mod class;
mod report;
mod run;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::case::Target;
use crate::report::{Format, Record};
use crate::run::Limits;

/// Says of any vDPA device where it keeps to the specification and where not.
///
/// The device is reset many times, and its data are left alone: frames are sent that nobody is asked
/// to answer, and the first sector of a disk is read. Nobody else may use it meanwhile.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at a device
    Run(Run),
    /// Show every case: what it demands, and where that is written
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make one table of the results of several devices, in Markdown
    Table {
        /// Files that `run --json` has written, each as TITLE=FILE
        #[arg(required = true, value_name = "TITLE=FILE")]
        results: Vec<String>,
    },
    /// Run one case in this process: what `run` starts
    #[command(hide = true)]
    One {
        #[command(flatten)]
        device: Device,
        /// Its name
        id: String,
    },
    /// Try to use an open device that belongs to another process: what owner-6 starts
    #[command(hide = true)]
    Stranger,
    /// Use a device until the end: what owner-7 starts
    #[command(hide = true)]
    Victim {
        #[command(flatten)]
        device: Device,
    },
}

#[derive(Args, Clone)]
struct Device {
    /// The device, for example /dev/vhost-vdpa-0
    device: PathBuf,
    /// Its name on the vDPA bus: look at what the `vdpa` tool shows, too
    #[arg(long)]
    name: Option<String>,
}

impl Device {
    fn target(&self) -> Target {
        Target {
            path: self.device.clone(),
            name: self.name.clone(),
        }
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    device: Device,
    /// Cases (`status-1`), groups (`status`) or patterns (`s*`); all if none is given
    cases: Vec<String>,
    /// How to print what came of it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also write the results as JSON to this file, for `table`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Say of each case what is demanded and what was seen, not only of those that fail
    #[arg(long, short)]
    verbose: bool,
    /// Seconds that a case may take
    #[arg(long, default_value_t = LIMIT)]
    limit: u64,
}

/// Seconds that a case may take, if nobody says otherwise.
const LIMIT: u64 = 60;

impl Run {
    /// The command that runs one case as this one does, but for its name.
    fn again(&self) -> String {
        let mut words = vec!["vdpa-conform run".to_owned()];
        words.push(quoted(&self.device.device.to_string_lossy()));
        if let Some(name) = &self.device.name {
            words.push(format!("--name {}", quoted(name)));
        }
        if self.limit != LIMIT {
            words.push(format!("--limit {}", self.limit));
        }
        words.join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vdpa-conform: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Command {
    /// Whether nothing has failed.
    fn run(self) -> Result<bool> {
        let all = cases::all();
        match self {
            Self::Run(run) => {
                let chosen = case::select(&all, &run.cases)?;
                let limits = Limits {
                    case: Duration::from_secs(run.limit),
                };
                let target = run.device.target();
                let mut report =
                    report::Report::new(run.format, run.verbose, run.again(), chosen.len());
                run::all(&target, &chosen, &limits, |record| report.add(record))?;
                report.finish(run.json.as_deref())
            }
            Self::List { json } => {
                report::list(&all, json)?;
                Ok(true)
            }
            Self::Table { results } => {
                let columns = results
                    .iter()
                    .map(|text| table::Column::read(text))
                    .collect::<Result<Vec<_>>>()?;
                print!("{}", table::markdown(&all, &columns));
                Ok(true)
            }
            Self::One { device, id } => {
                let chosen = case::select(&all, &[id])?;
                for case in chosen {
                    let record = Record::of(case, run::here(case, &device.target()));
                    println!("{}", serde_json::to_string(&record)?);
                }
                Ok(true)
            }
            Self::Stranger => {
                for line in cases::owner::as_stranger()? {
                    println!("{line}");
                }
                Ok(true)
            }
            Self::Victim { device } => {
                cases::owner::to_be_killed(&device.target())?;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Run {
        let words = ["vdpa-conform", "run"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Run(run) => run,
            _ => panic!("that is no run"),
        }
    }

    #[test]
    fn what_repeats_a_case_selects_it() {
        let first = run(&["/dev/vhost-vdpa-0", "--name", "it's", "--limit", "9", "s*"]);
        let again = first.again();
        assert_eq!(
            again,
            r"vdpa-conform run /dev/vhost-vdpa-0 --name 'it'\''s' --limit 9"
        );
        let plain = run(&["/dev/vhost-vdpa-0"]);
        assert_eq!(plain.again(), "vdpa-conform run /dev/vhost-vdpa-0");
        // As a report has it: the name of the case comes last.
        let once = run(&["/dev/vhost-vdpa-0", "--name", "a", "status-1"]);
        let chosen = case::select(&cases::all(), &once.cases).unwrap();
        assert_eq!(chosen.len(), 1);
    }
}
