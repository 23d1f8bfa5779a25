// SPDX-License-Identifier: GPL-2.0

//! A relayed virtqueue: what a look at its rings leaves to do.
//!
//! Its rings are looked at where a kick or an interrupt is noticed, and by a *worker*, for which such a
//! look has something left: more than was passed on at once, rings whose place has to be looked up
//! first, a queue that can be handed back, an error to be told of. Looks are made one at a time.
//!
//! The guest may take its rings away while nothing is to be done in them, and put them elsewhere. So it
//! is remembered whether they are *needed*: if they are, and are not there, the queue is broken.

use core::fmt;
use core::ops::DerefMut;

use crate::boundary::Boundary;
use crate::boundary::Sight;
use crate::memory::Memory;
use crate::pace::Pace;
use crate::relay::Moved;
use crate::relay::Relay;
use crate::relay::RelayError;
use crate::relay::Rings;

/// On whose behalf the rings are looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The guest's, which kicks: nothing is returned to it, as it cannot be interrupted from there.
    Kick,
    /// The device's, which interrupts.
    Interrupt,
    /// Nobody's: the worker's own.
    Work,
    /// The same, after it has [rested](Relayed::rests).
    Rested,
}

/// What came of a look at the rings.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What was returned to the guest, which is to be interrupted if that says so.
    pub back: Moved,
    /// What was passed to the device, which has been notified if that says so.
    pub forth: Moved,
    /// There may be more to pass on, or an error: for the worker.
    pub more: bool,
    /// There has to be another look soon, even if nobody asks for one.
    pub watch: bool,
    /// The same, after a rest: a [`Pace`] is set, and nobody was asked to tell of anything.
    pub paced: bool,
    /// The device has returned all before the boundary: the worker can [hand the queue
    /// back](Relayed::leave).
    pub drained: bool,
}

impl Passed {
    /// True if the worker has something to do.
    #[must_use]
    pub const fn has_left_something(&self) -> bool {
        self.more || self.watch || self.paced || self.drained
    }
}

/// Why nobody knows where a queue stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unclear<G, S> {
    /// What is in the rings makes no sense, or they cannot be reached.
    Rings(RelayError<G, S>),
    /// The device has not kept the order, and has chains left.
    Order,
}

impl<G: fmt::Display, S: fmt::Display> fmt::Display for Unclear<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rings(error) => error.fmt(f),
            Self::Order => f.write_str("the device has not kept the order"),
        }
    }
}

impl<G, S> From<RelayError<G, S>> for Unclear<G, S> {
    fn from(error: RelayError<G, S>) -> Self {
        Self::Rings(error)
    }
}

/// One time from which on the guest's rings have to be there. Another time is another need.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Need(u32);

/// A virtqueue whose rings the device does not see. `G` is what goes wrong with the guest's memory, `S`
/// with that of the shadow rings.
#[derive(Clone, Debug)]
pub struct Relayed<B, G, S> {
    relay: Relay<B>,
    boundary: Boundary,
    pace: Pace,
    /// Kicks or interrupts may go past the kernel.
    polls: bool,
    /// There is something to do in the guest's rings, or may be: they have to be there.
    need: Option<Need>,
    /// How often that has begun.
    needs: u32,
    /// The queue is being handed back: its rings are not looked at.
    leaves: bool,
    /// It could have been handed back, but for somebody else who has to be waited for.
    blocked: bool,
    /// Why it cannot go on.
    broken: Option<RelayError<G, S>>,
}

impl<B: DerefMut<Target = [u64]>, G: Copy, S: Copy> Relayed<B, G, S> {
    /// A queue of which `relay` has passed on nothing yet, with something to do in its rings. It is
    /// looked at all the time if it `polls`.
    #[must_use]
    pub fn new(relay: Relay<B>, boundary: Boundary, polls: bool) -> Self {
        Self {
            relay,
            boundary,
            pace: Pace::default(),
            polls,
            need: Some(Need(0)),
            needs: 0,
            leaves: false,
            blocked: false,
            broken: None,
        }
    }

    /// Where the shadow rings are.
    #[must_use]
    pub const fn shadow(&self) -> Rings {
        self.relay.shadow()
    }

    /// The relay: for tests.
    #[must_use]
    pub const fn relay(&self) -> &Relay<B> {
        &self.relay
    }

    /// Chains that somebody has taken before, and that nobody returns: it is not handed back while there are any.
    #[must_use]
    pub const fn gap(&self) -> u16 {
        self.relay.gap()
    }

    /// Passes on what there is, or a good part of it, at `now`, in milliseconds. `guest` is [`None`] if it
    /// has to be looked up where its rings are. `notify` notifies the device.
    pub fn pass(
        &mut self,
        guest: Option<&impl Memory<Error = G>>,
        shadow: &impl Memory<Error = S>,
        pass: Pass,
        now: u64,
        notify: impl FnOnce(),
    ) -> Passed {
        let mut passed = Passed::default();
        if self.leaves {
            return passed;
        }
        if self.broken.is_none() {
            let result = match guest {
                Some(guest) => self.look(guest, shadow, pass, now, notify, &mut passed),
                None => self.look_past(shadow, pass, &mut passed),
            };
            self.broken = result.err();
        }
        if self.broken.is_some() {
            // The worker tells of it, if it has not done so.
            passed.more = true;
            passed.watch = false;
            passed.drained = false;
        }
        passed
    }

    fn look(
        &mut self,
        guest: &impl Memory<Error = G>,
        shadow: &impl Memory<Error = S>,
        pass: Pass,
        now: u64,
        notify: impl FnOnce(),
        passed: &mut Passed,
    ) -> Result<(), RelayError<G, S>> {
        if !self.relay.has_begun() && !self.begins(guest, pass, passed)? {
            return Ok(());
        }
        let hold = self.boundary.holds();
        if pass == Pass::Kick {
            passed.back.more = self.relay.is_giving_back();
        } else {
            passed.back = self.relay.give_back(guest, shadow)?;
        }
        passed.forth = self.relay.forward(guest, shadow, hold)?;
        if passed.forth.tell {
            notify();
        }
        self.set_pace(pass, passed.forth);
        passed.paced = self.is_paced();
        let left = match pass {
            Pass::Kick => self
                .relay
                .listen_forward(guest, shadow, hold, passed.paced)?,
            Pass::Interrupt | Pass::Work | Pass::Rested => {
                self.relay.listen(guest, shadow, hold, passed.paced)?
            }
        };
        passed.more = passed.back.more || passed.forth.more || left.more;
        passed.drained = self.is_drained();
        self.blocked &= passed.drained;
        let sight = Sight {
            there: self.relay.is_at_boundary(),
            more: left.held,
            in_flight: self.relay.in_flight(),
            progress: passed.back.chains != 0 || passed.forth.chains != 0,
            blocked: self.blocked,
        };
        passed.more |= self.boundary.look(sight, now);
        passed.watch = self.watches();
        // Nobody tells again of what is left. With nothing held back, whoever makes the first chain behind
        // the boundary available does. What is held back while the device has chains waits for those.
        self.set_needed(passed.more || (passed.drained && left.held));
        Ok(())
    }

    /// Looks for the first time. Returns whether there is nothing to do before the next look.
    fn begins(
        &mut self,
        guest: &impl Memory<Error = G>,
        pass: Pass,
        passed: &mut Passed,
    ) -> Result<bool, RelayError<G, S>> {
        if pass != Pass::Kick {
            passed.back = self.relay.begin(guest)?;
            if self.relay.gap() != 0 {
                self.boundary = Boundary::never();
            }
        }
        // For the worker, as something may have to be returned.
        passed.more = pass == Pass::Kick || passed.back.chains != 0;
        if passed.more {
            self.set_needed(true);
            passed.watch = self.watches();
        }
        Ok(!passed.more)
    }

    /// Finds out whether the guest's rings are needed, which are not there.
    fn look_past(
        &mut self,
        shadow: &impl Memory<Error = S>,
        pass: Pass,
        passed: &mut Passed,
    ) -> Result<(), RelayError<G, S>> {
        let due = self.relay.is_due(shadow).map_err(RelayError::Shadow)?;
        if pass == Pass::Kick || due {
            self.set_needed(true);
        }
        passed.more = self.need.is_some();
        passed.watch = self.watches();
        passed.paced = self.is_paced();
        Ok(())
    }

    /// Notes a look that has passed on so much, for those of which a few can be told together.
    fn set_pace(&mut self, pass: Pass, forth: Moved) {
        if !self.relay.has_patience() || self.polls {
            return;
        }
        match pass {
            Pass::Kick => self.pace.kick(forth.chains),
            // What they have found says nothing of what a rest brings.
            Pass::Interrupt | Pass::Work => {}
            Pass::Rested => self.pace.look(forth.chains),
        }
    }

    /// True if the worker is to look soon, as nobody was asked to tell of anything.
    #[must_use]
    pub const fn is_paced(&self) -> bool {
        self.pace.is_set()
    }

    /// True if there is time until then: nothing is known that is to be done.
    #[must_use]
    pub const fn rests(&self) -> bool {
        self.pace.is_set() && self.need.is_none() && self.broken.is_none() && !self.is_drained()
    }

    /// True if the queue can be handed back, once nobody looks at its rings.
    const fn is_drained(&self) -> bool {
        self.boundary.holds() && self.relay.is_drained()
    }

    fn set_needed(&mut self, needed: bool) {
        self.need = match self.need {
            _ if !needed => None,
            Some(need) => Some(need),
            None => {
                self.needs = self.needs.wrapping_add(1);
                Some(Need(self.needs))
            }
        };
    }

    /// Notes that there may be something to do in the guest's rings, which the worker is about to see.
    pub fn need(&mut self) {
        self.set_needed(true);
    }

    /// Since when the guest's rings have to be there, if they have to.
    #[must_use]
    pub const fn needed(&self) -> Option<Need> {
        self.need
    }

    /// Notes that the guest's rings were not there, and why. The queue is broken if they had to be: now as
    /// well as [before](Self::needed) they were looked for, without a moment between at which they had not.
    pub fn miss(&mut self, before: Option<Need>, fault: G) {
        if before.is_some() && self.need == before && self.broken.is_none() {
            self.broken = Some(RelayError::Guest(fault));
        }
    }

    /// True if there has to be another look soon, even if nobody asks for one.
    #[must_use]
    pub const fn watches(&self) -> bool {
        self.polls || self.boundary.watches()
    }

    /// Why it cannot go on, if it cannot.
    #[must_use]
    pub const fn broken(&self) -> Option<RelayError<G, S>> {
        self.broken
    }

    /// Has the rings not looked at any more, if the queue can be handed back. Returns whether it can.
    pub fn leave(&mut self) -> bool {
        self.leaves = self.broken.is_none() && self.is_drained();
        self.leaves
    }

    /// Has the rings looked at again, after the queue could not be handed back, because somebody else has
    /// to be waited for if it is `blocked`.
    pub fn stay(&mut self, blocked: bool) {
        self.leaves = false;
        self.blocked = blocked;
    }

    /// Returns all that a device has used which has stopped, and the index from which another one would go
    /// on. `count` counts what is returned.
    pub fn stand(
        &mut self,
        guest: &impl Memory<Error = G>,
        shadow: &impl Memory<Error = S>,
        mut count: impl FnMut(Moved),
    ) -> Result<u16, Unclear<G, S>> {
        // Nobody may have been told yet of what a kick or an interrupt has found.
        if let Some(broken) = self.broken {
            return Err(Unclear::Rings(broken));
        }
        count(self.relay.begin(guest)?);
        loop {
            let back = self.relay.give_back(guest, shadow)?;
            count(back);
            // What was used since the look of which this was the rest is there, too.
            if back.chains == 0 {
                break;
            }
        }
        if self.relay.is_in_order(guest).map_err(RelayError::Guest)? {
            Ok(self.relay.next_used())
        } else {
            Err(Unclear::Order)
        }
    }
}
