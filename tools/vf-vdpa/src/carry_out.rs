// SPDX-License-Identifier: GPL-2.0

//! Shows a plan, carries it out, and tells what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::arguments::{print, print_json};
use crate::execute::{Event, OnFailure, run};
use crate::host::Host;
use crate::plan::{Kind, Plan};
use crate::seen::{Interest, Seen};
use crate::table::{BAD, DIM, GOOD, HEAD, WARN, styled};
use crate::tree::Tree;

/// How a plan is carried out.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Only show it.
    pub dry_run: bool,
    /// Show it for programs.
    pub json: bool,
    /// Show how each step is done by hand.
    pub verbose: bool,
    /// What remains if a step fails.
    pub on_failure: OnFailure,
}

/// What came of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was as wanted
    Nothing,
    /// All was done
    Done,
    /// It was only shown
    Shown,
    /// A step failed, or it needs somebody to insist
    Failed,
    /// It cannot be
    Impossible,
}

/// Makes a plan, shows it and, unless that is all, carries it out. The host belongs to this process
/// from before it looks until it is done, so that it cannot plan with what another one changes.
pub fn carry_out(tree: &Tree, how: How, make: impl FnOnce(&Seen) -> Plan) -> Result<Outcome> {
    let host = match how.dry_run {
        true => None,
        false => Some(Host::take(tree)?),
    };
    let interest = Interest {
        all: true,
        queues: false,
    };
    let plan = make(&Seen::read(tree, interest)?);
    if how.json {
        print_json(&plan)?;
    } else {
        problems(&plan);
    }
    if plan.is_impossible() {
        return Ok(Outcome::Impossible);
    }
    if !plan.problems.is_empty() {
        return Ok(Outcome::Failed);
    }
    if how.json {
        return Ok(Outcome::Shown);
    }
    if plan.steps.is_empty() {
        print("nothing to do\n")?;
        return Ok(Outcome::Nothing);
    }
    print(&shown(&plan, how.verbose))?;
    let Some(mut host) = host else {
        return Ok(Outcome::Shown);
    };
    // From here on, a signal ends this where what was begun can be ended or taken back.
    let told_to_stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&told_to_stop)).context("listening for signals")?;
    }
    let stop = || told_to_stop.load(Ordering::Relaxed);
    let mut number = 0_usize;
    let count = plan.steps.len();
    let all = run(
        &plan.steps,
        &mut host,
        how.on_failure,
        &stop,
        &mut |event| {
            if let Event::Done(_) | Event::Failed(..) = event {
                number = number.saturating_add(1);
            }
            tell(&event, number, count, how.on_failure);
        },
    );
    Ok(if all { Outcome::Done } else { Outcome::Failed })
}

/// Says what is in the way, with its cure.
fn problems(plan: &Plan) {
    for problem in &plan.problems {
        let word = match problem.kind {
            Kind::Impossible => styled(BAD, "impossible"),
            Kind::Refused => styled(WARN, "refused"),
        };
        anstream::eprintln!("{word}: {}", problem.what);
        anstream::eprintln!("    {}", problem.cure);
    }
    if !plan.problems.is_empty() {
        anstream::eprintln!("nothing was done");
    }
}

/// The plan for people.
fn shown(plan: &Plan, verbose: bool) -> String {
    let mut text = format!("{}\n", styled(HEAD, "Plan:"));
    for (index, step) in plan.steps.iter().enumerate() {
        text += &format!("{:>3}. {step}\n", index.saturating_add(1));
        if verbose {
            let by_hand = format!("     # {}", step.by_hand());
            text += &format!("{}\n", styled(DIM, &by_hand));
        }
    }
    text
}

fn tell(event: &Event<'_>, number: usize, count: usize, on_failure: OnFailure) {
    match event {
        Event::Done(step) => {
            // Whether somebody reads it makes no difference to what has to be done.
            let _ = print(&format!(
                "{number:>3}/{count} {} {step}\n",
                styled(GOOD, "done")
            ));
        }
        Event::Failed(step, error, after) => {
            anstream::eprintln!("{number:>3}/{count} {} {step}", styled(BAD, "failed"));
            anstream::eprintln!("    {error:#}");
            for step in *after {
                anstream::eprintln!("    not begun: {step}");
            }
            if on_failure == OnFailure::Stop {
                anstream::eprintln!("what was done stays; the same command goes on from there");
            }
        }
        Event::Undone(step) => anstream::eprintln!("    taken back: {step}"),
        Event::Stuck(step, error) => {
            anstream::eprintln!("    {}: {step}", styled(BAD, "cannot be taken back"));
            anstream::eprintln!("        {error:#}");
            anstream::eprintln!("        by hand: {}", step.by_hand());
        }
    }
}
