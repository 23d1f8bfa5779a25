// SPDX-License-Identifier: GPL-2.0
//! One long command with a log, progress with elapsed time, and a clear end.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::context::Context as Lab;

/// Steps may run at the same time, so their progress lines share one owner.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

thread_local! {
    /// Whether steps of this thread say only that they are done, unless there is a terminal.
    static WHISPERS: Cell<bool> = const { Cell::new(false) };
}

/// From now on, steps of this thread go on beside others: without a terminal, they say only that they
/// are done.
pub fn whisper() {
    WHISPERS.set(true);
}

/// Prints what is no progress: on a terminal, the lines that tell of progress stay below it.
pub fn aloud(print: impl FnOnce()) {
    BARS.suspend(print);
}

/// Shorter steps are not worth a line.
const WORTH_SAYING: Duration = Duration::from_secs(2);
/// How often a step without a terminal says that it is alive.
const REMINDER: Duration = Duration::from_secs(20);
/// Time that a step may take: none comes near it unless it hangs.
const LIMIT: Duration = Duration::from_secs(1800);
/// How much longer one may take that takes half an hour on two processors which do nothing else.
const LONG: u32 = 3;
/// How much longer it may take in a thread that whispers, and has less right to the processor.
const PATIENCE: u32 = 4;
/// Lines of the log that a failed step shows.
const TAIL: usize = 15;

/// Shows that something is going on, until it is dropped.
pub struct Progress {
    text: String,
    bar: Option<ProgressBar>,
    began: Instant,
    said: Option<Instant>,
}

impl Progress {
    /// Progress called `text`; nothing is printed before it has lasted a while.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            bar: None,
            began: Instant::now(),
            said: None,
        }
    }

    /// To be called a few times a second.
    pub fn tick(&mut self) {
        let elapsed = self.began.elapsed();
        if elapsed < WORTH_SAYING {
            return;
        }
        if std::io::stderr().is_terminal() {
            let text = &self.text;
            let bar = self.bar.get_or_insert_with(|| {
                let bar = BARS.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                    bar.set_style(style);
                }
                bar
            });
            bar.set_message(format!("{text} ({} s)", elapsed.as_secs()));
            bar.tick();
        } else if !WHISPERS.get() && self.said.is_none_or(|said| said.elapsed() >= REMINDER) {
            eprintln!("{} ({} s)", self.text, elapsed.as_secs());
            self.said = Some(Instant::now());
        }
    }

    /// Ends the progress with a line that tells how long it took.
    pub fn done(mut self) -> Duration {
        let elapsed = self.began.elapsed();
        self.clear();
        if elapsed >= WORTH_SAYING {
            let line = format!("{}: done in {} s", self.text, elapsed.as_secs());
            if BARS.println(&line).is_err() || !std::io::stderr().is_terminal() {
                eprintln!("{line}");
            }
        }
        elapsed
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            BARS.remove(&bar);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A command that failed, with the end of its log.
#[derive(Debug)]
pub struct Failed {
    /// What was being done.
    pub text: String,
    /// Last lines of the log.
    pub tail: String,
    /// The whole log.
    pub log: PathBuf,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n{} failed; full log: {}",
            self.tail,
            self.text,
            self.log.display()
        )
    }
}

impl std::error::Error for Failed {}

/// Runs `command` with its output in `log`; `text` says what it does.
pub fn run(text: &str, log: &Path, command: &mut Command) -> Result<Duration> {
    let patience = if WHISPERS.get() { PATIENCE } else { 1 };
    run_within(LIMIT * Lab::slowness() * patience, text, log, command)
}

/// The same, for a kernel.
pub fn run_long(text: &str, log: &Path, command: &mut Command) -> Result<Duration> {
    run_within(LIMIT * Lab::slowness() * LONG, text, log, command)
}

fn run_within(limit: Duration, text: &str, log: &Path, command: &mut Command) -> Result<Duration> {
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    writeln!(file, "$ {command:?}")?;
    let mut progress = Progress::new(text);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        // What it has started ends with it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("{text}: starting {:?}", command.get_program()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if progress.began.elapsed() >= limit {
            kill(&mut child)?;
            writeln!(
                file,
                "did not end within {} s (VF_VDPA_SLOW stretches this limit)",
                limit.as_secs()
            )?;
            break child.wait()?;
        }
        progress.tick();
        sleep(Duration::from_millis(50));
    };
    if !status.success() {
        progress.clear();
        bail!(Failed {
            text: text.to_owned(),
            tail: tail(log, TAIL),
            log: log.to_owned()
        });
    }
    Ok(progress.done())
}

fn kill(child: &mut Child) -> Result<()> {
    match i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        Some(group) => Ok(kill_process_group(group, Signal::KILL)?),
        None => Ok(child.kill()?),
    }
}

/// Runs a short command and returns what it printed; what it complained about is in `log`.
pub fn output(text: &str, log: &Path, command: &mut Command) -> Result<String> {
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    writeln!(file, "$ {command:?}")?;
    let done = command
        .stdin(Stdio::null())
        .stderr(file)
        .output()
        .with_context(|| format!("{text}: starting {:?}", command.get_program()))?;
    if !done.status.success() {
        bail!(Failed {
            text: text.to_owned(),
            tail: tail(log, TAIL),
            log: log.to_owned()
        });
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The last `count` lines of a file; empty when it cannot be read.
pub fn tail(path: &Path, count: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step that starts another process and hangs: what came of it, and the number of the process
    /// unless the limit was too short for it to begin.
    fn hang(limit: Duration) -> (Failed, Option<u32>) {
        let log = std::env::temp_dir().join(format!("step-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let error = run_within(limit, "waiting", &log, &mut command).unwrap_err();
        fs::remove_file(&log).unwrap();
        let failed = error.downcast::<Failed>().unwrap();
        let number = failed.tail.lines().find_map(|line| line.parse().ok());
        (failed, number)
    }

    #[test]
    fn a_short_command_that_fails_names_its_log() {
        let log = std::env::temp_dir().join(format!("output-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo why >&2"]);
        assert_eq!(output("asking", &log, &mut command).unwrap(), "out\n");
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo why >&2; exit 1"]);
        let error = output("asking", &log, &mut command).unwrap_err();
        fs::remove_file(&log).unwrap();
        let failed = error.downcast::<Failed>().unwrap();
        assert!(failed.tail.ends_with("why"), "{failed}");
        assert!(
            failed
                .to_string()
                .ends_with(&format!("asking failed; full log: {}", log.display()))
        );
    }

    #[test]
    fn a_step_that_hangs_ends_with_all_that_it_started() {
        let (failed, process) = (7..16)
            .map(|power| hang(Duration::from_millis(1 << power)))
            .find(|(_, process)| process.is_some())
            .unwrap();
        assert!(failed.tail.contains("did not end within"), "{failed}");
        let stat = format!("/proc/{}/stat", process.unwrap());
        let began = Instant::now();
        let lives = || {
            // Nobody may have reaped it yet.
            fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "))
        };
        while lives() && began.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(10));
        }
        assert!(!lives());
    }
}
