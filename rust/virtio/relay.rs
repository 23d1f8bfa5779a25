// SPDX-License-Identifier: GPL-2.0

//! Serving a split ring from an index at which its device cannot start.
//!
//! A virtio function starts every virtqueue at index 0, but a guest that was stopped or migrated goes
//! on where it was. Between them stands a relay: the device works on *shadow* available and used
//! rings, which begin at index 0, and the relay copies entries from one pair of rings to the other.
//! Descriptors and buffers stay where they are: the device reads them from the guest's memory.
//!
//! Indices have 16 bits, so the guest's comes to 0 again sooner or later. If all before that
//! *boundary* is returned, a device that starts anew needs no relay any more: the relay is
//! [`drained`](Relay::is_drained), and the queue can be handed back.
//!
//! Nobody is trusted: the guest writes to its rings what it likes, and the device to the shadow used
//! ring.

use core::ops::DerefMut;

use crate::memory::Memory;
use crate::outstanding::Outstanding;
use crate::queue::Size;
use crate::split::need_event;

mod error;
mod gap;
mod listen;
mod returns;
mod rings;

pub use self::error::RelayError;
pub use self::listen::Left;
pub use self::returns::Returns;
pub use self::rings::Rings;

/// Flag of the available ring: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: the device wants no notifications.
const USED_NO_NOTIFY: u16 = 1;
/// The most elements that are copied at once, by way of the stack.
const RUN: u16 = 32;
/// The same, as the length of an array: `usize::from` is not const.
const RUN_LEN: usize = 32;
/// The most chains that are passed on by one call, for callers who keep a CPU from everything else.
const BATCH: u16 = 256;
// Both have as many bits behind the only one.
const _: () = assert!(RUN.is_power_of_two() && RUN_LEN.is_power_of_two());
const _: () = assert!(RUN.trailing_zeros() == RUN_LEN.trailing_zeros());

/// What came of a look at one of the rings.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Chains that were passed on.
    pub chains: u16,
    /// Whether the other side wants to be told: the device to be notified, or the guest to be
    /// interrupted.
    pub tell: bool,
    /// Whether there are more, which were left for the next time. A guest has nothing of what is returned
    /// before they are there, too.
    pub more: bool,
}

/// A relayed virtqueue.
///
/// Chains are counted as the guest counts those that it makes available. It counts those that were
/// returned to it in the same way, but for a *gap*, which never is: see [`begin`](Self::begin).
///
/// Invariants: `shown`, `next_used`, `seen` and `next_avail` are indices of the guest's in this order, at
/// most `size` apart. `outstanding` holds as many chains as lie between `next_used` and `next_avail`.
/// Between calls, `shown` is `next_used` if that is `seen`.
#[derive(Clone, Debug)]
pub struct Relay<B> {
    size: Size,
    guest: Rings,
    shadow: Rings,
    /// What the guest's index is at index 0 of the device.
    base: u16,
    /// The guest's index of the next chain to pass to the device.
    next_avail: u16,
    /// The guest's index of the next chain to return.
    next_used: u16,
    /// The guest's index up to which it was shown what has come back.
    shown: u16,
    /// The guest's index up to which the device had used chains when that was last looked at.
    seen: u16,
    event_idx: bool,
    returns: Returns,
    outstanding: Outstanding<B>,
    /// Chains that somebody has taken before, and that nobody returns.
    gap: u16,
    /// There may be some.
    skips: bool,
    /// The guest's used ring was looked at.
    begun: bool,
}

impl<B: DerefMut<Target = [u64]>> Relay<B> {
    /// A relay for a virtqueue that goes on at `base`, with nothing in flight. `words`, all 0, are one
    /// for each 64 descriptors. The shadow rings are all 0, and their device has not started.
    ///
    /// Returns [`None`] if there are too few `words`.
    pub fn new(
        size: Size,
        guest: Rings,
        shadow: Rings,
        base: u16,
        event_idx: bool,
        returns: Returns,
        words: B,
    ) -> Option<Self> {
        (words.len() >= size.words()).then_some(Self {
            size,
            guest,
            shadow,
            base,
            next_avail: base,
            next_used: base,
            shown: base,
            seen: base,
            event_idx,
            returns,
            outstanding: Outstanding::new(words),
            gap: 0,
            skips: false,
            begun: false,
        })
    }

    /// The guest's index of the next chain to pass on.
    #[must_use]
    pub const fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// The guest's index of the next chain to return.
    #[must_use]
    pub const fn next_used(&self) -> u16 {
        self.next_used
    }

    /// Where the shadow rings are.
    #[must_use]
    pub const fn shadow(&self) -> Rings {
        self.shadow
    }

    /// True if the chains that the device has are the last ones that were passed on: it has returned
    /// all before them. For a relay that has stopped: a guest that changes its ring meanwhile is found
    /// out only when the ring is relayed again.
    pub fn is_in_order<G: Memory>(&mut self, guest: &G) -> Result<bool, G::Error> {
        let mut end = self.next_used;
        let mut result = Ok(true);
        // The driver may use a head again, so that it is there twice: each counts once.
        while end != self.next_avail {
            result = self
                .head(guest, end)
                .map(|head| self.outstanding.remove(head));
            if !matches!(result, Ok(true)) {
                break;
            }
            end = end.wrapping_add(1);
        }
        let mut index = self.next_used;
        while index != end {
            let head = self.head(guest, index)?;
            if head < self.size.get() {
                self.outstanding.insert(head);
            }
            index = index.wrapping_add(1);
        }
        result
    }

    /// The head that the guest's available ring has at `index`.
    fn head<G: Memory>(&self, guest: &G, index: u16) -> Result<u16, G::Error> {
        self.guest.available(guest, self.size, index)
    }

    /// True if what the device has shown together was not returned as a whole yet.
    pub(crate) const fn is_giving_back(&self) -> bool {
        self.next_used != self.seen
    }

    /// Chains that the device has.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.next_avail.wrapping_sub(self.next_used)
    }

    /// True at the boundary: all before it was passed on.
    #[must_use]
    pub const fn is_at_boundary(&self) -> bool {
        self.next_avail == 0
    }

    /// True at the boundary with nothing in flight: a device that starts at index 0 can have the
    /// guest's rings.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.next_avail == 0 && self.shown == 0 && self.gap == 0
    }

    /// The number of elements from `index` on, and before `end`, that follow each other in the rings of
    /// both sides, where the guest's begin at `guest`, or 0 if there are none. At most [`RUN`].
    fn run(&self, index: u16, end: u16, guest: u16) -> u16 {
        let size = self.size.get();
        let mask = size.wrapping_sub(1);
        // Slots are less than the size.
        let left = |index: u16| size.wrapping_sub(index & mask);

        end.wrapping_sub(index)
            .min(left(guest))
            .min(left(self.shadow_index(index)))
            .min(RUN)
    }

    /// The device's index for one of the guest's.
    const fn shadow_index(&self, index: u16) -> u16 {
        index.wrapping_sub(self.base)
    }

    /// The index in the guest's used ring for one of the chains that it has made available.
    const fn guest_used(&self, index: u16) -> u16 {
        index.wrapping_sub(self.gap)
    }

    /// Passes to the device what the guest has made available: at most [`BATCH`] chains at once, and
    /// those up to the next boundary only, if `hold`.
    pub fn forward<G: Memory, S: Memory>(
        &mut self,
        guest: &G,
        shadow: &S,
        hold: bool,
    ) -> Result<Moved, RelayError<G::Error, S::Error>> {
        let index = guest
            .read_index(self.guest.avail_index())
            .map_err(RelayError::Guest)?;
        // A chain has a descriptor at least, and those that the guest has not got back have theirs, too.
        if index.wrapping_sub(self.shown) > self.size.get()
            || index.wrapping_sub(self.next_avail) > self.size.get()
        {
            return Err(RelayError::AvailIndex {
                index,
                taken: self.next_avail,
            });
        }
        let old = self.next_avail;
        let end = if hold && (old == 0 || index < old) {
            0
        } else {
            index
        };
        let count = end.wrapping_sub(old);
        let end = old.wrapping_add(count.min(BATCH));
        while self.next_avail != end {
            let count = self.run(self.next_avail, end, self.next_avail);
            let mut raw = [[0; 2]; RUN_LEN];
            let heads = raw.get_mut(..usize::from(count)).unwrap_or_default();
            let at = self.guest.avail(self.size, self.next_avail);
            guest
                .read(at, heads.as_flattened_mut())
                .map_err(RelayError::Guest)?;
            for head in heads.iter().copied().map(u16::from_le_bytes) {
                if head >= self.size.get() {
                    return Err(RelayError::Head(head));
                }
                if !self.outstanding.insert(head) {
                    return Err(RelayError::Twice(head));
                }
            }
            let at = self
                .shadow
                .avail(self.size, self.shadow_index(self.next_avail));
            shadow
                .write(at, heads.as_flattened())
                .map_err(RelayError::Shadow)?;
            self.next_avail = self.next_avail.wrapping_add(count);
        }
        let chains = self.next_avail.wrapping_sub(old);
        if chains == 0 {
            return Ok(Moved::default());
        }
        let new = self.shadow_index(self.next_avail);
        shadow
            .write_index(self.shadow.avail_index(), new)
            .map_err(RelayError::Shadow)?;
        // The device stores what it waits for, then loads the index that was stored here.
        shadow.full_barrier();
        let tell = if self.event_idx {
            let event = shadow
                .read_index(self.shadow.avail_event(self.size))
                .map_err(RelayError::Shadow)?;
            need_event(event, new, self.shadow_index(old))
        } else {
            let flags = shadow
                .read_index(self.shadow.device)
                .map_err(RelayError::Shadow)?;
            flags & USED_NO_NOTIFY == 0
        };
        Ok(Moved {
            chains,
            tell,
            more: count > BATCH,
        })
    }

    /// Returns to the guest what the device has used: at most [`BATCH`] chains at once.
    ///
    /// What the device has shown together is shown together, however many calls that takes: a frame may
    /// be in several chains (`MRG_RXBUF`, virtio 1.3, 5.1.6.4), of which a driver that finds the first one
    /// expects the others to be there.
    pub fn give_back<G: Memory, S: Memory>(
        &mut self,
        guest: &G,
        shadow: &S,
    ) -> Result<Moved, RelayError<G::Error, S::Error>> {
        let old = self.next_used;
        if self.seen == old {
            let index = shadow
                .read_index(self.shadow.used_index())
                .map_err(RelayError::Shadow)?;
            let count = index.wrapping_sub(self.shadow_index(old));
            if count > self.in_flight() {
                return Err(RelayError::UsedIndex {
                    index,
                    returned: self.shadow_index(old),
                });
            }
            self.seen = old.wrapping_add(count);
        }
        let end = old.wrapping_add(self.seen.wrapping_sub(old).min(BATCH));
        while self.next_used != end {
            let used = self.guest_used(self.next_used);
            let count = self.run(self.next_used, end, used);
            let mut raw = [[0; 8]; RUN_LEN];
            let chains = raw.get_mut(..usize::from(count)).unwrap_or_default();
            let at = self
                .shadow
                .used(self.size, self.shadow_index(self.next_used));
            shadow
                .read(at, chains.as_flattened_mut())
                .map_err(RelayError::Shadow)?;
            for &[h0, h1, h2, h3, ..] in &*chains {
                let id = u32::from_le_bytes([h0, h1, h2, h3]);
                let known = u16::try_from(id).is_ok_and(|head| self.outstanding.remove(head));
                if !known {
                    return Err(RelayError::Unknown(id));
                }
            }
            let at = self.guest.used(self.size, used);
            guest
                .write(at, chains.as_flattened())
                .map_err(RelayError::Guest)?;
            self.next_used = self.next_used.wrapping_add(count);
        }
        let chains = self.next_used.wrapping_sub(old);
        if chains == 0 || self.next_used != self.seen {
            return Ok(Moved {
                chains,
                tell: false,
                more: chains != 0,
            });
        }
        let (old, new) = (self.guest_used(self.shown), self.guest_used(self.next_used));
        self.shown = self.next_used;
        guest
            .write_index(self.guest.used_index(), new)
            .map_err(RelayError::Guest)?;
        // The guest stores what it wants, then loads the index that was stored here.
        guest.full_barrier();
        let tell = if self.event_idx {
            let event = guest
                .read_index(self.guest.used_event(self.size))
                .map_err(RelayError::Guest)?;
            need_event(event, new, old)
        } else {
            let flags = guest
                .read_index(self.guest.driver)
                .map_err(RelayError::Guest)?;
            flags & AVAIL_NO_INTERRUPT == 0
        };
        Ok(Moved {
            chains,
            tell,
            more: false,
        })
    }
}
