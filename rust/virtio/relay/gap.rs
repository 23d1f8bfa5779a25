// SPDX-License-Identifier: GPL-2.0

//! Going on where whoever had the queue before has taken chains that the driver has not got back.

use core::ops::DerefMut;

use crate::memory::Memory;

use super::Moved;
use super::Relay;
use super::RelayError;
use super::BATCH;

/// How many lost chains are looked for at most: interrupts are off meanwhile.
const MOST: u16 = 16;
/// How many chains before the lost ones have to be known to have come back in their turn, and four for each of those.
const SURE: u16 = 16;

impl<B: DerefMut<Target = [u64]>> Relay<B> {
    /// As it is, but that it `skips` what somebody has taken before, or refuses to: see
    /// [`begin`](Self::begin).
    #[must_use]
    pub fn skipping(mut self, skips: bool) -> Self {
        self.skips = skips;
        self
    }

    /// True if it has looked where what the driver has got back ends.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Chains that somebody has taken before, and that nobody returns.
    #[must_use]
    pub const fn gap(&self) -> u16 {
        self.gap
    }

    /// Looks whether what the driver has got back ends where the queue is to go on, before anything is
    /// passed on. It does so once.
    ///
    /// Whoever had the queue before may have taken chains and lost track of them. They are his, and are not
    /// done again. A relay that [skips](Self::skipping) them returns them, as if nothing was written into them, if
    /// the rings tell which they are; then the driver is to be told. If not, they are a gap for as long as the
    /// relay is there: the driver's used ring stays behind by so many, and its device cannot have the queue back.
    ///
    /// # Errors
    ///
    /// [`RelayError::Start`] if the rings contradict the place in any other way.
    pub fn begin<G: Memory, S>(&mut self, guest: &G) -> Result<Moved, RelayError<G::Error, S>> {
        if self.begun {
            return Ok(Moved::default());
        }
        let used = guest
            .read_index(self.guest.used_index())
            .map_err(RelayError::Guest)?;
        let taken = self.base.wrapping_sub(used);
        let most = if self.skips { self.size.get() } else { 0 };
        if taken > most {
            return Err(RelayError::Start {
                index: self.base,
                used,
            });
        }
        let known = taken != 0
            && self
                .return_lost(guest, used, taken)
                .map_err(RelayError::Guest)?;
        let chains = if known { taken } else { 0 };
        self.gap = taken.wrapping_sub(chains);
        self.begun = true;
        Ok(Moved {
            chains,
            tell: known,
            more: false,
        })
    }

    /// Returns the `taken` chains before the place at which the queue is to go on that were not returned, if the
    /// rings tell which they are, and whether they do. The used ring ends at `used`.
    ///
    /// What is believed is that a driver makes no chain available that it has not got back. Then each head is in the
    /// available ring as often as in the used one, or once more if it is out: in whatever order they came back,
    /// from where both rings had the same chains on. One that was returned in fact must not be returned again: see
    /// [`is_sure`](Self::is_sure).
    fn return_lost<G: Memory>(
        &mut self,
        guest: &G,
        used: u16,
        taken: u16,
    ) -> Result<bool, G::Error> {
        if taken > MOST {
            return Ok(false);
        }
        let size = self.size.get();
        // What a driver makes available from now on it writes over what is oldest.
        let quarter = size >> 2;
        let depth = size
            .saturating_sub(quarter)
            .saturating_sub(self.ahead(guest)?)
            .min(BATCH);
        let known = self.is_sure(guest, depth, taken)?
            && self.mark_lost(guest, depth, taken)?
            && self.write_lost(guest, depth, used)? == taken;
        self.outstanding.clear();
        guest.full_barrier();
        // It may have written some more than it shows.
        let overwritten = self.ahead(guest)?.saturating_add(quarter >> 1);
        if !known || overwritten.saturating_add(depth) > size {
            return Ok(false);
        }
        guest.write_index(self.guest.used_index(), self.base)?;
        Ok(true)
    }

    /// How many chains the driver has made available behind the place at which the queue is to go on.
    fn ahead<G: Memory>(&self, guest: &G) -> Result<u16, G::Error> {
        let index = guest.read_index(self.guest.avail_index())?;
        Ok(index.wrapping_sub(self.base))
    }

    /// True if enough of the last `depth` chains before the place at which the queue is to go on, from the oldest
    /// on, have come back in their turn, and all before them have, too.
    ///
    /// If a chain that was made available before the oldest was lost, and another one came back in its place, all
    /// from there to that one were out together: no head is there twice. If it was left out, those behind it came
    /// back a turn early: each is the same as the one before it.
    fn is_sure<G: Memory>(&mut self, guest: &G, depth: u16, taken: u16) -> Result<bool, G::Error> {
        let start = self.base.wrapping_sub(depth);
        let (mut count, mut is_twice) = (0_u16, false);
        while count < depth.saturating_sub(taken) {
            let index = start.wrapping_add(count);
            let head = self.head(guest, index)?;
            if self.guest.returned(guest, self.size, index)? != u32::from(head) {
                break;
            }
            is_twice |= !self.outstanding.insert(head);
            count = count.wrapping_add(1);
        }
        self.outstanding.clear();
        if !is_twice || count < taken.saturating_mul(4).saturating_add(SURE) {
            return Ok(false);
        }
        for lost in 1..=taken {
            if self.is_periodic(guest, start, count, lost)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True if of `count` chains from `start` on each has the head of the one that comes `period` later.
    fn is_periodic<G: Memory>(
        &self,
        guest: &G,
        start: u16,
        count: u16,
        period: u16,
    ) -> Result<bool, G::Error> {
        for offset in 0..count.saturating_sub(period) {
            let index = start.wrapping_add(offset);
            if self.head(guest, index)? != self.head(guest, index.wrapping_add(period))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Marks as outstanding those of the last `depth` chains before the place at which the queue is to go on that
    /// were not returned. Returns whether they are `taken` ones.
    fn mark_lost<G: Memory>(
        &mut self,
        guest: &G,
        depth: u16,
        taken: u16,
    ) -> Result<bool, G::Error> {
        let mut lost = 0_u16;
        for distance in 1..=depth {
            let index = self.base.wrapping_sub(distance);
            let available = Some(u32::from(self.head(guest, index)?));
            let returned = if distance > taken {
                Some(self.guest.returned(guest, self.size, index)?)
            } else {
                None
            };
            for head in available.into_iter().chain(returned) {
                let head = u16::try_from(head).ok();
                match head.and_then(|head| self.outstanding.toggle(head)) {
                    Some(true) => lost = lost.wrapping_add(1),
                    Some(false) => lost = lost.wrapping_sub(1),
                    None => return Ok(false),
                }
            }
        }
        Ok(lost == taken)
    }

    /// Writes those that are marked into the used ring, from `used` on, where the driver does not see them yet.
    /// Returns how many they are.
    fn write_lost<G: Memory>(&mut self, guest: &G, depth: u16, used: u16) -> Result<u16, G::Error> {
        let mut lost = 0;
        for distance in 1..=depth {
            let head = self.head(guest, self.base.wrapping_sub(distance))?;
            if self.outstanding.remove(head) {
                let at = self.guest.used(self.size, used.wrapping_add(lost));
                let [h0, h1] = head.to_le_bytes();
                guest.write(at, &[h0, h1, 0, 0, 0, 0, 0, 0])?;
                lost = lost.wrapping_add(1);
            }
        }
        Ok(lost)
    }
}
