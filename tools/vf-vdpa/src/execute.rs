// SPDX-License-Identifier: GPL-2.0

//! Doing one step after the other, and what happens when one fails.

use anyhow::{Error, Result, anyhow};

use crate::step::Step;

/// Somebody who can change a host.
pub trait Perform {
    /// Does a step, or says why it cannot be done. A step that fails leaves things as
    /// they were, as far as it can.
    fn perform(&mut self, step: &Step) -> Result<()>;
}

/// What is told while steps are done.
pub enum Event<'s> {
    /// A step was done
    Done(&'s Step),
    /// A step failed; the steps after it were not begun
    Failed(&'s Step, &'s Error, &'s [Step]),
    /// A step that had been done was taken back
    Undone(&'s Step),
    /// A step could not be taken back
    Stuck(&'s Step, &'s Error),
}

/// What remains when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// What was done, so that the next run goes on from there
    Stop,
    /// Nothing, as far as it can be taken back
    Undo,
}

/// Does the steps in order. Whether all of them were done. A step that is begun is ended: `stop` is
/// asked before each whether somebody wants no more of them, which is a failure as any other.
pub fn run(
    steps: &[Step],
    performer: &mut dyn Perform,
    on_failure: OnFailure,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Event<'_>),
) -> bool {
    let mut done: Vec<&Step> = Vec::new();
    let mut rest = steps;
    while let [step, after @ ..] = rest {
        let result = match stop() {
            true => Err(anyhow!("told to stop by a signal")),
            false => performer.perform(step),
        };
        if let Err(error) = result {
            tell(Event::Failed(step, &error, after));
            if on_failure == OnFailure::Undo {
                undo(&done, performer, tell);
            }
            return false;
        }
        tell(Event::Done(step));
        done.push(step);
        rest = after;
    }
    true
}

/// Takes back what was done, the last first.
fn undo(done: &[&Step], performer: &mut dyn Perform, tell: &mut dyn FnMut(Event<'_>)) {
    for back in done.iter().rev().filter_map(|step| step.undo()) {
        match performer.perform(&back) {
            Ok(()) => tell(Event::Undone(&back)),
            // The others may work all the same.
            Err(error) => tell(Event::Stuck(&back, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::bus::Bus;
    use crate::desired::{Desired, Target, Wanted};
    use crate::plan::{Plan, Policy};
    use crate::seen::tests::Host;

    /// Somebody who fails at one step.
    struct Clumsy {
        fails_at: &'static str,
        did: Vec<String>,
    }

    impl Perform for Clumsy {
        fn perform(&mut self, step: &Step) -> Result<()> {
            let text = step.to_string();
            if text.contains(self.fails_at) {
                bail!("no luck");
            }
            self.did.push(text);
            Ok(())
        }
    }

    /// A new device on a function that virtio-pci has.
    fn steps() -> Vec<Step> {
        let host = Host::with_vfs();
        let at = "sys/devices/pci0/0000:01:00.3";
        host.link(&format!("{at}/driver"), "sys/bus/pci/drivers/virtio-pci");
        let wanted = Wanted {
            at: Target::Function("01:00.3".parse().unwrap()),
            name: "new".parse().unwrap(),
            bus: Bus::Vhost,
            mac: None,
            mtu: None,
            max_vqp: None,
            features: None,
        };
        let desired = Desired {
            devices: vec![wanted],
            ..Desired::default()
        };
        Plan::new(&desired, &host.seen(), Policy::Keep).steps
    }

    fn run_until(fails_at: &'static str, on_failure: OnFailure) -> (Vec<String>, Vec<String>) {
        run_unless(fails_at, on_failure, &|| false)
    }

    fn run_unless(
        fails_at: &'static str,
        on_failure: OnFailure,
        stop: &dyn Fn() -> bool,
    ) -> (Vec<String>, Vec<String>) {
        let mut performer = Clumsy {
            fails_at,
            did: Vec::new(),
        };
        let mut told = Vec::new();
        let done = run(&steps(), &mut performer, on_failure, stop, &mut |event| {
            told.push(match event {
                Event::Done(_) => "done".to_owned(),
                Event::Failed(_, error, after) => format!("{error}, {} left", after.len()),
                Event::Undone(_) => "undone".to_owned(),
                Event::Stuck(_, error) => format!("stuck: {error}"),
            });
        });
        assert_eq!(done, fails_at == "nothing" && !stop());
        (performer.did, told)
    }

    #[test]
    fn all_is_done_in_order() {
        let (did, told) = run_until("nothing", OnFailure::Undo);
        let expected = [
            "load the module vf_vdpa",
            "load the module vhost_vdpa",
            "take 0000:01:00.3 from virtio-pci",
            "let no driver but vf_vdpa have 0000:01:00.3",
            "bind 0000:01:00.3 to vf_vdpa",
            "make the device new of 0000:01:00.3",
            "give new to vhost_vdpa",
        ];
        assert_eq!(did, expected);
        assert_eq!(told, ["done"; 7]);
    }

    #[test]
    fn what_was_done_is_taken_back_in_reverse() {
        let (did, told) = run_until("give new to", OnFailure::Undo);
        let expected = [
            "delete the device new",
            "take 0000:01:00.3 from vf_vdpa",
            "let any driver have 0000:01:00.3",
            "give 0000:01:00.3 back to virtio-pci",
        ];
        assert_eq!(did[6..], expected);
        assert_eq!(told[6], "no luck, 0 left");
        assert_eq!(told[7..], ["undone"; 4]);
    }

    #[test]
    fn one_that_cannot_be_taken_back_does_not_keep_the_others() {
        let (_, told) = run_until("new", OnFailure::Undo);
        assert_eq!(told[5..], ["no luck, 1 left", "undone", "undone", "undone"]);
        let (_, told) = run_until("virtio-pci", OnFailure::Undo);
        assert_eq!(told[2..], ["no luck, 4 left"]);
        let (_, told) = run_until("let ", OnFailure::Undo);
        assert_eq!(told[3..], ["no luck, 3 left", "undone"]);
    }

    #[test]
    fn a_signal_is_heard_between_two_steps() {
        let asked = std::cell::Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 5
        };
        let (did, told) = run_unless("nothing", OnFailure::Undo, &stop);
        assert_eq!(did.len(), 5 + 3);
        assert_eq!(did[5], "take 0000:01:00.3 from vf_vdpa");
        assert_eq!(told[5], "told to stop by a signal, 1 left");
        asked.set(0);
        let (did, _) = run_unless("nothing", OnFailure::Stop, &stop);
        assert_eq!(did.len(), 5);
    }

    #[test]
    fn what_was_done_stays_if_that_is_wanted() {
        let (did, told) = run_until("make the", OnFailure::Stop);
        assert_eq!(did.len(), 5);
        assert_eq!(told.last().unwrap(), "no luck, 1 left");
    }
}
