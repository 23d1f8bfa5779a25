// SPDX-License-Identifier: GPL-2.0

//! What a relay asks both sides to tell it of before it sleeps.

use core::ops::DerefMut;

use crate::memory::Memory;

use super::Relay;
use super::RelayError;
use super::Returns;

/// How far off an event is that does not happen: a ring has no more elements.
const NEVER: u16 = 0x8000;

/// What there is when a relay is about to sleep.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Something to pass on that nobody tells of: the relay must not sleep.
    pub more: bool,
    /// Chains that are held back at the boundary. Nobody tells of them again.
    pub held: bool,
}

impl<B: DerefMut<Target = [u64]>> Relay<B> {
    /// True if the device need not tell of each chain, and can be asked not to.
    pub(crate) fn has_patience(&self) -> bool {
        self.event_idx && self.returns == Returns::Together
    }

    /// Returns how many chains the device may use before it tells of them: those before the one that
    /// the driver asked to be told of, and three quarters of what is in flight at most. The last one is
    /// always told of.
    fn untold<G: Memory>(&self, guest: &G) -> Result<u16, G::Error> {
        if !self.has_patience() {
            return Ok(0);
        }
        let event = guest.read_index(self.guest.used_event(self.size))?;
        let wanted = event.wrapping_sub(self.guest_used(self.next_used));
        let most = self
            .in_flight()
            .saturating_sub(self.in_flight().div_ceil(4));
        Ok(wanted.min(most))
    }

    /// Asks both sides to tell of what comes next, before the relay goes to sleep, and returns what has
    /// come already. What lies behind the boundary is held back if `hold`. The device tells of what it
    /// has used as soon as the driver has to have it back.
    ///
    /// If the relay is `paced`, it will look soon by itself: nobody need tell of anything before the device
    /// has plenty.
    pub fn listen<G: Memory, S: Memory>(
        &self,
        guest: &G,
        shadow: &S,
        hold: bool,
        paced: bool,
    ) -> Result<Left, RelayError<G::Error, S::Error>> {
        let used = self.listen_to_device(guest, shadow, paced)?;
        let left = self
            .listen_to_driver(guest, hold, paced)
            .map_err(RelayError::Guest)?;
        Ok(Left {
            more: left.more || used,
            ..left
        })
    }

    /// As [`listen`](Self::listen), by a caller who returns nothing to the driver. If the device tells
    /// of each chain, it has been asked to, and tells of what has come already, too.
    pub fn listen_forward<G: Memory, S: Memory>(
        &self,
        guest: &G,
        shadow: &S,
        hold: bool,
        paced: bool,
    ) -> Result<Left, RelayError<G::Error, S::Error>> {
        if self.has_patience() {
            return self.listen(guest, shadow, hold, paced);
        }
        self.listen_to_driver(guest, hold, paced)
            .map_err(RelayError::Guest)
    }

    /// Chains that keep a device busy while some more wait.
    const fn plenty(&self) -> u16 {
        self.size.get().div_ceil(8)
    }

    /// True if the driver need not tell of a few more chains: the device has plenty, and tells when it is
    /// done with them at the latest.
    fn is_busy(&self) -> bool {
        self.has_patience() && self.in_flight() >= self.plenty()
    }

    /// Asks the driver to tell of what it makes available next, if that is not found soon anyhow.
    fn listen_to_driver<G: Memory>(
        &self,
        guest: &G,
        hold: bool,
        paced: bool,
    ) -> Result<Left, G::Error> {
        let holds = hold && self.is_at_boundary();
        let busy = (self.is_busy() || paced) && !holds;
        if self.event_idx {
            let event = if busy {
                self.next_avail.wrapping_add(NEVER)
            } else {
                self.next_avail
            };
            guest.write_index(self.guest.avail_event(self.size), event)?;
        } else {
            guest.write_index(self.guest.device, 0)?;
        }
        // The driver stores an index, then loads what was stored here.
        guest.full_barrier();
        let available = guest
            .read_index(self.guest.avail_index())?
            .wrapping_sub(self.next_avail);
        let few = if busy { self.plenty() } else { 1 };
        let held = available != 0 && holds;
        Ok(Left {
            more: available >= few && !held,
            held,
        })
    }

    /// Returns true if the device has used something that the driver has not got back.
    pub fn is_due<S: Memory>(&self, shadow: &S) -> Result<bool, S::Error> {
        let used = shadow.read_index(self.shadow.used_index())?;
        Ok(used != self.shadow_index(self.next_used))
    }

    /// Asks the device to tell of what it uses next. Returns true if there is something to return.
    fn listen_to_device<G: Memory, S: Memory>(
        &self,
        guest: &G,
        shadow: &S,
        paced: bool,
    ) -> Result<bool, RelayError<G::Error, S::Error>> {
        let untold = if paced && !self.is_busy() {
            // As many as can be in flight.
            self.size.get()
        } else {
            self.untold(guest).map_err(RelayError::Guest)?
        };
        if self.event_idx {
            let event = self.shadow_index(self.next_used).wrapping_add(untold);
            shadow
                .write_index(self.shadow.used_event(self.size), event)
                .map_err(RelayError::Shadow)?;
        }
        // The device stores an index, then loads what was stored here.
        shadow.full_barrier();
        let used = shadow
            .read_index(self.shadow.used_index())
            .map_err(RelayError::Shadow)?;
        Ok(used.wrapping_sub(self.shadow_index(self.next_used)) > untold)
    }
}
