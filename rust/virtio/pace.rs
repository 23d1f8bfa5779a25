// SPDX-License-Identifier: GPL-2.0

//! When a relay looks at a ring again by itself, instead of being kicked.
//!
//! A driver that sends one chain at a time kicks for each, and the device tells of each: where kicks and
//! interrupts are dear, as for a guest, they cost more than the chain. So a kick for few chains may *set a
//! pace*: the driver is asked not to kick, the device not to interrupt, and a worker looks a little later. As long
//! as it finds enough then to be worth it, it looks again after the same time.
//!
//! A driver that sends one chain and waits for the answer has it served later by this, for nothing. It looks like
//! the other one until it was tried. So what was tried in vain is tried again only after twice as many
//! kicks as the time before. Several that wait at the same time are taken for one that goes on sending.

/// How many chains a kick, or a look without one, has to find to be worth it.
const ENOUGH: u16 = 4;

/// The most kicks that pass before a pace is tried again.
const SELDOM: u16 = 1023;

/// The pace of a relayed virtqueue.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    set: bool,
    /// How many kicks have to pass before the next try.
    wait: u16,
    /// How many had to before the last one.
    waited: u16,
}

impl Pace {
    /// True if there is to be a look soon, of which nobody tells.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.set
    }

    /// Notes a kick, which has found so many chains: few may set a pace.
    pub fn kick(&mut self, chains: u16) {
        if chains >= ENOUGH {
            return;
        }
        match self.wait.checked_sub(1) {
            Some(wait) => self.wait = wait,
            None => self.set = true,
        }
    }

    /// Notes a look after a rest, which has found so many chains.
    pub fn look(&mut self, chains: u16) {
        if !self.set {
            return;
        }
        if chains >= ENOUGH {
            self.waited = 0;
        } else {
            self.set = false;
            self.waited = self.waited.saturating_mul(2).saturating_add(1).min(SELDOM);
            self.wait = self.waited;
        }
    }
}
