// SPDX-License-Identifier: GPL-2.0

//! `vf-vdpa doctor`: what a host needs, whether it is there, and how to get it.

use anyhow::Result;
use serde::Serialize;

use crate::seen::{Interest, Seen};
use crate::table::{BAD, DIM, GOOD, WARN, styled};
use crate::tree::Tree;

mod driver;
mod iommu;
mod kernel;
mod limits;
mod machine;

use machine::Machine;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; stays the same from version to version.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// What to do, if there is something to do.
    pub cure: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it has to be
    Ok,
    /// It works, or works for some
    Warning,
    /// It does not work so
    Problem,
    /// It could not be seen
    Unknown,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Ok,
            what: what.into(),
            why: String::new(),
            cure: None,
        }
    }

    fn new(check: &'static str, state: State, what: impl Into<String>) -> Self {
        Self {
            state,
            ..Self::ok(check, what)
        }
    }

    fn why(mut self, why: &str) -> Self {
        why.clone_into(&mut self.why);
        self
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

/// Looks at everything. With `unit`, also at the limits of that systemd unit.
pub fn examine(tree: &Tree, unit: Option<&str>) -> Result<Vec<Finding>> {
    let machine = Machine::read(tree, unit)?;
    let seen = Seen::read(tree, Interest::default())?;
    Ok(all(tree, &machine, &seen))
}

fn all(tree: &Tree, machine: &Machine, seen: &Seen) -> Vec<Finding> {
    let mut findings = kernel::examine(tree, machine, seen);
    findings.extend(driver::examine(tree, machine, seen));
    findings.extend(iommu::examine(tree, machine, seen));
    findings.extend(limits::examine(tree, machine));
    let unseen = seen
        .unseen
        .iter()
        .map(|text| Finding::new("view", State::Unknown, text.clone()));
    findings.extend(unseen);
    findings
}

/// Whether nothing is wrong.
pub fn is_healthy(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.state != State::Problem)
}

/// The findings for people.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (style, word) = match finding.state {
            State::Ok => (GOOD, "ok"),
            State::Warning => (WARN, "warning"),
            State::Problem => (BAD, "problem"),
            State::Unknown => (DIM, "unknown"),
        };
        let word = styled(style, &format!("{word:<8}"));
        text += &format!("{word} {:<16} {}\n", finding.check, finding.what);
        if !finding.why.is_empty() {
            text += &format!("{:26}{}\n", "", finding.why);
        }
        if let Some(cure) = &finding.cure {
            text += &format!("{:26}cure: {cure}\n", "");
        }
    }
    text
}

#[cfg(test)]
mod tests;
