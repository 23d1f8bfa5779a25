// SPDX-License-Identifier: GPL-2.0

//! The result lines a run prints, in the kernel's test format (KTAP).

use std::fmt::Display;

use anyhow::Result;

/// Counts and prints results. The process fails when one of them failed or none was printed.
#[derive(Default)]
pub struct Report {
    number: u32,
    failed: u32,
}

impl Report {
    /// Prints a passed result.
    pub fn ok(&mut self, what: impl Display) {
        self.number += 1;
        println!("ok {} - {what}", self.number);
    }

    /// Prints a failed result with what was seen.
    pub fn fail(&mut self, what: impl Display, detail: impl Display) {
        self.number += 1;
        self.failed += 1;
        // One result is one line: a reader of KTAP takes it line by line.
        let detail = detail.to_string().replace('\n', "; ");
        println!("not ok {} - {what} # {detail}", self.number);
    }

    /// Prints a result that does not apply to this device.
    pub fn skip(&mut self, what: impl Display, why: impl Display) {
        self.number += 1;
        println!("ok {} - {what} # SKIP {why}", self.number);
    }

    /// Prints a line that is no result.
    pub fn note(&self, text: impl Display) {
        println!("# {text}");
    }

    /// Passes or fails by `condition`.
    pub fn check(&mut self, condition: bool, what: impl Display, detail: impl Display) -> bool {
        if condition {
            self.ok(what);
        } else {
            self.fail(what, detail);
        }
        condition
    }

    /// Passes or fails by whether `result` is a success; gives the value of a success.
    pub fn step<T>(&mut self, what: impl Display, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(what);
                Some(value)
            }
            Err(error) => {
                self.fail(what, format!("{error:#}"));
                None
            }
        }
    }

    /// Prints the plan line and says whether the run as a whole passed.
    pub fn finish(self) -> bool {
        println!("1..{}", self.number);
        self.failed == 0 && self.number > 0
    }
}
