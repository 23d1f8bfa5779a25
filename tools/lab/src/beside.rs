// SPDX-License-Identifier: GPL-2.0
//! What is made and checked while a machine runs, whose cases wait for something much of the time.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::process::nice;

use crate::case::Selection;
use crate::check::{self, When};
use crate::context::Context;
use crate::guest;
use crate::ktap::Verdict;
use crate::packages::Packages;
use crate::report::Report;
use crate::step::{self, Progress};

/// How much it stands back: what runs in the machine has limits.
const NICENESS: i32 = 10;

/// How often somebody who waits says so.
const LOOK: Duration = Duration::from_millis(100);

/// A check that was run: its name, the time it took, what came of it, and its log.
type Done = (&'static str, Duration, Verdict, Option<PathBuf>);

/// The kernel of the guest.
enum Guest {
    /// Nobody waits for it, or no longer.
    Settled,
    /// It is being made.
    Coming(Receiver<Result<PathBuf>>),
    /// It could not be made.
    Failed(String),
}

/// Work that goes on in another thread.
pub struct Beside<'scope> {
    guest: Guest,
    checks: Receiver<Done>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Beside<'scope> {
    /// Begins with the guest's kernel, if a case needs a `guest`, and goes on with the selected checks
    /// that were not run before.
    pub fn begin(
        scope: &'scope Scope<'scope, '_>,
        cx: &'scope Context,
        selection: &'scope Selection,
        guest: bool,
    ) -> Self {
        Self::spawn(scope, guest, move |kernel, checks| {
            step::whisper();
            // Of this thread, and of what it starts. It is a favour, not a need.
            let _ = nice(NICENESS);
            // Whoever does not listen any more needs nothing.
            if guest {
                let made = Packages::get(cx).and_then(|packages| guest::kernel(cx, &packages));
                let _ = kernel.send(made);
            }
            let when = Some(When::Beside);
            check::run(cx, selection, when, |name, took, verdict, log| {
                let _ = checks.send((name, took, verdict, log));
            });
        })
    }

    fn spawn(
        scope: &'scope Scope<'scope, '_>,
        guest: bool,
        work: impl FnOnce(Sender<Result<PathBuf>>, Sender<Done>) + Send + 'scope,
    ) -> Self {
        let (kernel, made) = mpsc::channel();
        let (done, checks) = mpsc::channel();
        Self {
            guest: if guest {
                Guest::Coming(made)
            } else {
                Guest::Settled
            },
            checks,
            thread: Some(scope.spawn(move || work(kernel, done))),
        }
    }

    /// The guest's kernel as soon as it is made, and nothing when it was had before. Why there is none,
    /// if it could not be made.
    pub fn guest(&mut self) -> Result<Option<PathBuf>, String> {
        let made = match std::mem::replace(&mut self.guest, Guest::Settled) {
            Guest::Settled => return Ok(None),
            Guest::Coming(made) => wait(&made),
            Guest::Failed(why) => Err(anyhow!(why)),
        };
        made.map(Some).map_err(|error| {
            let why = format!("{error:#}");
            self.guest = Guest::Failed(why.clone());
            why
        })
    }

    /// Reports the checks that are over by now.
    pub fn report(&self, report: &mut Report) {
        self.checks.try_iter().for_each(|done| add(done, report));
    }

    /// Waits for the rest, and reports it. An error means that some were not run.
    pub fn finish(&mut self, report: &mut Report) -> Result<()> {
        let mut progress = Progress::new("waiting for the checks on the host");
        loop {
            match self.checks.recv_timeout(LOOK) {
                Ok(done) => add(done, report),
                Err(RecvTimeoutError::Timeout) => progress.tick(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match self.thread.take().map(ScopedJoinHandle::join) {
            Some(Err(_)) => Err(anyhow!("the lab has failed beside the machine")),
            _ => Ok(()),
        }
    }
}

fn wait(made: &Receiver<Result<PathBuf>>) -> Result<PathBuf> {
    let mut progress = Progress::new("waiting for the guest's kernel");
    loop {
        match made.recv_timeout(LOOK) {
            Ok(kernel) => return kernel,
            Err(RecvTimeoutError::Timeout) => progress.tick(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the lab has failed beside the machine"));
            }
        }
    }
}

fn add((name, took, verdict, log): Done, report: &mut Report) {
    report.add(name, took, &verdict, log.as_deref());
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::report::Origin;

    fn passed(name: &'static str) -> Done {
        (name, Duration::ZERO, Verdict::Passed, None)
    }

    fn names(report: &Report) -> Vec<&str> {
        report
            .records()
            .iter()
            .map(|record| record.case.as_str())
            .collect()
    }

    #[test]
    fn what_is_over_is_reported_and_the_rest_waited_for() {
        let (go, gone) = mpsc::channel();
        let (said, heard) = mpsc::channel();
        let mut report = Report::new(Origin::default());
        thread::scope(|scope| {
            let mut beside = Beside::spawn(scope, true, move |kernel, checks| {
                checks.send(passed("first")).unwrap();
                said.send(()).unwrap();
                gone.recv().unwrap();
                kernel.send(Ok(PathBuf::from("vmlinux"))).unwrap();
                // Longer than anybody waits without a look at the time.
                thread::sleep(3 * LOOK);
                checks.send(passed("second")).unwrap();
            });
            // Dropped if anything below fails, so that nobody waits for it.
            let go: Sender<()> = go;
            heard.recv().unwrap();
            beside.report(&mut report);
            assert_eq!(names(&report), ["first"]);
            go.send(()).unwrap();
            // It is had once.
            assert_eq!(beside.guest(), Ok(Some(PathBuf::from("vmlinux"))));
            assert_eq!(beside.guest(), Ok(None));
            beside.finish(&mut report).unwrap();
            assert_eq!(names(&report), ["first", "second"]);
            // There is nothing to wait for any more.
            beside.finish(&mut report).unwrap();
        });
        assert!(report.good());
    }

    #[test]
    fn a_guest_that_cannot_be_made_is_missed_each_time() {
        let mut report = Report::new(Origin::default());
        thread::scope(|scope| {
            let mut beside = Beside::spawn(scope, true, |kernel, checks| {
                kernel.send(Err(anyhow!("no space"))).unwrap();
                checks.send(passed("later")).unwrap();
            });
            for _ in 0..2 {
                assert_eq!(beside.guest(), Err("no space".to_owned()));
            }
            beside.finish(&mut report).unwrap();
        });
        assert_eq!(names(&report), ["later"]);
    }

    #[test]
    fn a_thread_that_fails_is_no_success() {
        let mut report = Report::new(Origin::default());
        thread::scope(|scope| {
            let mut beside = Beside::spawn(scope, true, |_, _| panic!("on purpose"));
            assert!(beside.guest().is_err());
            assert!(beside.finish(&mut report).is_err());
        });
        assert!(!report.good());
    }
}
