// SPDX-License-Identifier: GPL-2.0

//! Where a split ring stands, once its device has stopped (virtio 1.3, 2.7).
//!
//! A plain virtio device does not tell. But a device that returns chains in the order in which they
//! were made available has finished all before the index of the used ring, and nothing from there on:
//! that index is where another device can go on. Whether it does keep the order is looked up in the
//! rings, as far as they go back. Those that are out have to be different ones: a chain that was returned
//! before its turn, and made available again, is there twice. A ring from which everything was returned
//! needs no order.

use core::fmt;

use crate::memory::Memory;
use crate::outstanding::Outstanding;
use crate::queue::Addresses;
use crate::queue::Size;
use crate::relay::Rings;

/// Why a ring has no place at which another device could go on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StandingError<E> {
    /// The rings cannot be reached.
    Memory(E),
    /// The indices are further apart than the ring is long.
    Indices {
        /// Index of the available ring.
        avail: u16,
        /// Index of the used ring.
        used: u16,
    },
    /// The device has returned another chain than that which was due; or the driver has written several
    /// chains ahead of its index, over those that were returned, and does not show them yet: to be looked at
    /// again, as long as the driver runs.
    Order {
        /// Where in the used ring.
        index: u16,
    },
    /// A chain that is out begins at a descriptor that is not there, or was returned before its turn: it
    /// is out twice.
    Twice {
        /// Where in the available ring.
        index: u16,
    },
}

impl<E: fmt::Debug> fmt::Display for StandingError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "rings cannot be reached: {error:?}"),
            Self::Indices { avail, used } => write!(
                f,
                "available index {avail} and used index {used} contradict each other"
            ),
            Self::Order { index } => {
                write!(
                    f,
                    "chain {index} was not returned in its turn, and some are still out"
                )
            }
            Self::Twice { index } => {
                write!(f, "chain {index} is out twice, or begins nowhere")
            }
        }
    }
}

/// Where a ring stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The index at which a device can go on.
    pub index: u16,
    /// How many chains are out: they will be done again, or for the first time.
    pub out: u16,
}

/// The index up to which the driver has made chains available in the ring at `addresses`.
pub fn available<M: Memory>(mem: &M, addresses: Addresses) -> Result<u16, M::Error> {
    mem.read_index(Rings::from(addresses).avail_index())
}

/// True if the used ring at `addresses` ends less than a ring's length before index 0, or as much: a queue that goes on
/// at index 0 there has chains that somebody has taken and not returned.
pub fn is_behind_start<M: Memory>(
    mem: &M,
    size: Size,
    addresses: Addresses,
) -> Result<bool, M::Error> {
    let used = mem.read_index(Rings::from(addresses).used_index())?;
    Ok((1..=size.get()).contains(&used.wrapping_neg()))
}

/// True if the device has returned as many chains as were available when [`available`] was `aim`.
pub fn has_returned<M: Memory>(mem: &M, addresses: Addresses, aim: u16) -> Result<bool, M::Error> {
    let used = mem.read_index(Rings::from(addresses).used_index())?;
    // Never more than a ring's length apart, which is half of what an index can tell at most.
    Ok(aim.wrapping_sub(used) > 1 << 15 || aim == used)
}

/// Finds out where the ring of `size` at `addresses` stands, whose device began at index `began` and
/// has stopped. The driver may be running. `words`, all 0, are one for each 64 descriptors.
///
/// A device that has stopped returning in order long ago, and has begun again since, is not found out:
/// the rings forget.
pub fn find<M: Memory>(
    mem: &M,
    size: Size,
    addresses: Addresses,
    began: u16,
    words: &mut [u64],
) -> Result<Standing, StandingError<M::Error>> {
    let rings = Rings::from(addresses);
    let index = |at| mem.read_index(at).map_err(StandingError::Memory);
    let used = index(rings.used_index())?;
    let avail = index(rings.avail_index())?;
    let out = avail.wrapping_sub(used);
    let Some(kept) = size.get().checked_sub(out) else {
        return Err(StandingError::Indices { avail, used });
    };
    if out == 0 {
        return Ok(Standing { index: used, out });
    }

    let head = |index| {
        rings
            .available(mem, size, index)
            .map_err(StandingError::Memory)
    };
    // Those returned of which the available ring still has the head, the last one first.
    for distance in 1..=kept.min(used.wrapping_sub(began)) {
        let turn = used.wrapping_sub(distance);
        let id = rings
            .returned(mem, size, turn)
            .map_err(StandingError::Memory)?;
        if id != u32::from(head(turn)?) {
            // The driver may have made more available meanwhile: where it writes next, it may have
            // written already, before it shows the index. A device that has left out the oldest one is not
            // told from that; for more of them it would have to be believed too much.
            mem.full_barrier();
            let avail = index(rings.avail_index())?;
            let Some(kept) = size.get().checked_sub(avail.wrapping_sub(used)) else {
                return Err(StandingError::Indices { avail, used });
            };
            if distance >= kept {
                break;
            }
            return Err(StandingError::Order { index: turn });
        }
    }
    let mut chains = Outstanding::new(words);
    for distance in 0..out {
        let turn = used.wrapping_add(distance);
        let head = head(turn)?;
        if head >= size.get() || !chains.insert(head) {
            return Err(StandingError::Twice { index: turn });
        }
    }
    Ok(Standing { index: used, out })
}
