// SPDX-License-Identifier: GPL-2.0

//! Runs cases, each in a process of its own: one that hangs or dies says so, and the next one finds
//! the device closed.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::Undrivable;
use crate::case::{Case, Target, Verdict};
use crate::report::Record;

/// How long things may take.
pub struct Limits {
    /// One case.
    pub case: Duration,
}

/// How long a process that was killed may take to go: it waits in the kernel for as long as a request
/// of it does.
const BURIAL: Duration = Duration::from_secs(10);

/// Runs a case in this process. What it could not do is a failure of the device, but for what nobody
/// could.
pub fn here(case: &Case, target: &Target) -> Verdict {
    (case.run)(target).unwrap_or_else(|error| {
        let text = format!("{error:#}");
        if error.is::<Undrivable>() {
            Verdict::Skip(text)
        } else {
            Verdict::Fail(text)
        }
    })
}

/// Runs cases one after the other, and tells what came of each.
pub fn all(
    target: &Target,
    cases: &[&'static Case],
    limits: &Limits,
    mut tell: impl FnMut(Record),
) -> Result<()> {
    // Whatever cannot be opened is not worth a hundred failures.
    drop(target.open()?);
    let mut stuck = None;
    for case in cases {
        let verdict = match stuck {
            Some(id) => Verdict::Skip(format!("the process of {id} still has the device")),
            None => {
                let (verdict, gone) = one(target, case, limits)?;
                if !gone {
                    stuck = Some(case.id);
                }
                verdict
            }
        };
        tell(Record::of(case, verdict));
    }
    Ok(())
}

/// What came of a case, and whether its process has gone.
fn one(target: &Target, case: &Case, limits: &Limits) -> Result<(Verdict, bool)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("one").arg(&target.path).arg(case.id);
    if let Some(name) = &target.name {
        command.args(["--name", name]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the process of a case")?;
    let status = wait(&mut child, limits.case)?;
    let Some(status) = status else {
        child.kill()?;
        let gone = wait(&mut child, BURIAL)?.is_some();
        let seconds = limits.case.as_secs();
        let ghost = if gone {
            ""
        } else {
            ", and cannot be killed: a request of it does not come back"
        };
        return Ok((
            Verdict::Fail(format!("it did not end within {seconds} s{ghost}")),
            gone,
        ));
    };
    let mut text = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut text)?;
    }
    let record = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Record>(line).ok());
    Ok((
        record.map_or_else(
            || Verdict::Fail(format!("its process ended with {status} and said nothing")),
            |record| record.verdict,
        ),
        true,
    ))
}

/// Waits until the process ends, or `limit` has passed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            return Ok(None);
        }
        sleep(Duration::from_millis(5));
    }
}
