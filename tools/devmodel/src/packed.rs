// SPDX-License-Identifier: GPL-2.0

//! One packed ring, as the device works on it (virtio 1.3, 2.8).

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Address, Bytes, GuestAddress};

use crate::memory::Reach;
use crate::misbehaviour::{Behaviour, Misbehaviour};
use crate::registers::QueueRegisters;
use crate::ring::{Chain, Part};

/// The longest ring that there is.
const LONGEST: u16 = 32768;
/// Bytes of a descriptor.
const DESCRIPTOR_LEN: u32 = 16;

/// Flags of a descriptor.
mod flag {
    pub const NEXT: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const INDIRECT: u16 = 4;
    pub const AVAIL: u16 = 1 << 7;
    pub const USED: u16 = 1 << 15;
}

/// What a driver says of interrupts.
mod event {
    pub const DISABLE: u16 = 1;
    pub const DESCRIPTOR: u16 = 2;
}

/// A place in the ring together with its wrap counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    const START: Self = Self {
        index: 0,
        wrap: true,
    };

    /// So many descriptors further, fewer than the ring has twice.
    fn after(self, by: u16, size: u16) -> Self {
        let index = u32::from(self.index) + u32::from(by);
        let turns = index / u32::from(size);
        Self {
            index: u16::try_from(index % u32::from(size)).unwrap_or(0),
            wrap: self.wrap ^ (turns % 2 == 1),
        }
    }

    /// How far `other` is ahead of it, if that is less than a turn.
    fn distance(self, other: Self, size: u16) -> u16 {
        if self.wrap == other.wrap {
            other.index.wrapping_sub(self.index)
        } else {
            (size - self.index).wrapping_add(other.index)
        }
    }
}

/// A descriptor.
#[derive(Clone, Copy)]
struct Descriptor {
    part: Part,
    id: u16,
    flags: u16,
}

impl Descriptor {
    fn read(memory: &Reach, at: GuestAddress) -> Option<Self> {
        let address: u64 = memory.read_obj(at).ok()?;
        let len: u32 = memory.read_obj(at.unchecked_add(8)).ok()?;
        let [id, flags]: [u16; 2] = memory.read_obj(at.unchecked_add(12)).ok()?;
        let flags = u16::from_le(flags);
        Some(Self {
            part: Part {
                address: GuestAddress(u64::from_le(address)),
                len: u32::from_le(len),
                writable: flags & flag::WRITE != 0,
            },
            id: u16::from_le(id),
            flags,
        })
    }
}

/// A packed ring that is enabled.
pub struct Packed {
    size: u16,
    descriptors: GuestAddress,
    /// What the driver says of interrupts.
    driver: GuestAddress,
    /// Where the next chain is.
    next: Place,
    /// Where the next one is returned.
    used: Place,
    /// Where it was when the driver was asked last whether it wants an interrupt.
    told: Place,
}

impl Packed {
    /// The ring that the registers describe; `None` if there is none like it.
    pub fn new(registers: &QueueRegisters) -> Option<Self> {
        (1..=LONGEST).contains(&registers.size).then_some(Self {
            size: registers.size,
            descriptors: GuestAddress(registers.desc),
            driver: GuestAddress(registers.driver),
            next: Place::START,
            used: Place::START,
            told: Place::START,
        })
    }

    fn at(&self, place: Place) -> GuestAddress {
        let offset = u64::from(place.index) * u64::from(DESCRIPTOR_LEN);
        GuestAddress(self.descriptors.0.wrapping_add(offset))
    }

    /// Whether the driver has made the next descriptor available.
    fn is_available(&self, memory: &Reach) -> bool {
        let place = self.at(self.next);
        let flags: Option<u16> = place
            .checked_add(14)
            .and_then(|place| memory.load(place, Ordering::Acquire).ok());
        flags.is_some_and(|flags| {
            let flags = u16::from_le(flags);
            let (avail, used) = (flags & flag::AVAIL != 0, flags & flag::USED != 0);
            avail == self.next.wrap && used != self.next.wrap
        })
    }

    /// The next chain that is available.
    pub fn next(&mut self, memory: &Reach) -> Option<Chain> {
        if !self.is_available(memory) {
            return None;
        }
        let mut chain = Chain {
            id: 0,
            descriptors: 0,
            parts: Vec::new(),
        };
        // A chain that does not end is cut.
        while chain.descriptors < self.size {
            let place = self.next.after(chain.descriptors, self.size);
            let descriptor = Descriptor::read(memory, self.at(place))?;
            chain.descriptors += 1;
            chain.id = descriptor.id;
            if descriptor.flags & flag::INDIRECT == 0 {
                chain.parts.push(descriptor.part);
            } else {
                let table = descriptor.part;
                // As many as a ring can have.
                let most = u32::from(LONGEST) * DESCRIPTOR_LEN;
                for offset in (0..table.len.min(most)).step_by(16) {
                    let place = table.address.checked_add(offset.into())?;
                    chain.parts.push(Descriptor::read(memory, place)?.part);
                }
            }
            if descriptor.flags & flag::NEXT == 0 {
                break;
            }
        }
        self.next = self.next.after(chain.descriptors, self.size);
        Some(chain)
    }

    /// Gives back the chain that was taken last.
    pub fn undo(&mut self, chain: &Chain) {
        // A whole turn further is the same place with the other counter.
        let back = self.next.after(self.size - chain.descriptors, self.size);
        self.next = Place {
            wrap: !back.wrap,
            ..back
        };
    }

    /// Returns a chain with `len` bytes in it, or makes believe.
    pub fn complete(&mut self, memory: &Reach, chain: &Chain, len: u32, behaviour: &Behaviour) {
        let id = if behaviour.does(Misbehaviour::UsedBadId) {
            self.size.wrapping_add(7)
        } else {
            chain.id
        };
        let mut flags = if self.used.wrap {
            flag::AVAIL | flag::USED
        } else {
            0
        };
        if len != 0 {
            flags |= flag::WRITE;
        }
        let place = self.at(self.used);
        // What cannot be written is counted where it is refused.
        let _ = memory.write_obj(len.to_le(), place.unchecked_add(8));
        let _ = memory.write_obj(id.to_le(), place.unchecked_add(12));
        let _ = memory.store(flags.to_le(), place.unchecked_add(14), Ordering::Release);
        self.used = self.used.after(chain.descriptors, self.size);
        if let Some(ahead) = behaviour.argument(Misbehaviour::UsedIndexJump) {
            let by = u16::try_from(ahead % u64::from(self.size)).unwrap_or(0);
            self.used = self.used.after(by, self.size);
        }
    }

    /// Whether the driver wants an interrupt for what was returned.
    pub fn wants_interrupt(&mut self, memory: &Reach) -> bool {
        // What was returned is to be seen before the driver is asked.
        fence(Ordering::SeqCst);
        let since = std::mem::replace(&mut self.told, self.used);
        let Ok([place, flags]) = memory.read_obj::<[u16; 2]>(self.driver) else {
            return false;
        };
        let place = u16::from_le(place);
        match u16::from_le(flags) & 3 {
            event::DISABLE => false,
            event::DESCRIPTOR => {
                let wanted = Place {
                    index: place & 0x7fff,
                    wrap: place >> 15 == 1,
                };
                let done = since.distance(self.used, self.size);
                since.distance(wanted, self.size) < done
            }
            _ => true,
        }
    }

    /// Returns whether there is more already. Notifications are never turned off.
    pub fn listen(&self, memory: &Reach) -> bool {
        fence(Ordering::SeqCst);
        self.is_available(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::memory;

    const DESC: u64 = 0x1000;
    const DRIVER: u64 = 0x2000;
    const SIZE: u16 = 4;

    fn ring() -> Packed {
        Packed::new(&QueueRegisters {
            size: SIZE,
            vector: 0,
            enabled: true,
            resetting: false,
            desc: DESC,
            driver: DRIVER,
            device: 0x3000,
        })
        .unwrap()
    }

    /// What the driver writes as the descriptor `index`, in a turn with this counter.
    fn offer(memory: &Reach, index: u16, wrap: bool, id: u16, flags: u16) {
        let at = DESC + 16 * u64::from(index);
        let turn = if wrap { flag::AVAIL } else { flag::USED };
        memory.write_obj(0x4000_u64, GuestAddress(at)).unwrap();
        memory.write_obj(64_u32, GuestAddress(at + 8)).unwrap();
        memory
            .write_obj([id, flags | turn], GuestAddress(at + 12))
            .unwrap();
    }

    fn used(memory: &Reach, index: u16) -> (u16, u16) {
        let at = DESC + 16 * u64::from(index) + 12;
        let [id, flags]: [u16; 2] = memory.read_obj(GuestAddress(at)).unwrap();
        (id, flags)
    }

    #[test]
    fn chains_are_returned_turn_by_turn() {
        let memory = memory(0, 0x10000);
        let reach = memory.reach();
        let mut ring = ring();
        let good = Behaviour::default();
        assert!(ring.next(reach).is_none());
        // A chain of three, one of one, and one across the end.
        offer(reach, 0, true, 9, flag::NEXT);
        offer(reach, 1, true, 9, flag::NEXT | flag::WRITE);
        offer(reach, 2, true, 7, flag::WRITE);
        let chain = ring.next(reach).unwrap();
        assert_eq!((chain.id, chain.descriptors), (7, 3));
        assert!(!chain.parts[0].writable && chain.parts[1].writable);
        assert!(ring.next(reach).is_none());
        ring.undo(&chain);
        assert_eq!(ring.next(reach), Some(chain.clone()));
        ring.complete(reach, &chain, 5, &good);
        assert_eq!(
            used(reach, 0),
            (7, flag::AVAIL | flag::USED | flag::WRITE),
            "at the place of its first descriptor"
        );
        offer(reach, 3, true, 1, flag::NEXT);
        offer(reach, 0, false, 1, 0);
        let chain = ring.next(reach).unwrap();
        assert_eq!(chain.descriptors, 2);
        ring.undo(&chain);
        assert_eq!(ring.next(reach), Some(chain.clone()), "across the end");
        ring.complete(reach, &chain, 0, &good);
        offer(reach, 1, false, 2, 0);
        let chain = ring.next(reach).unwrap();
        ring.complete(reach, &chain, 0, &good);
        assert_eq!(used(reach, 1), (2, 0), "with the other counter");
    }

    #[test]
    fn indirect_tables_are_read() {
        let memory = memory(0, 0x10000);
        let reach = memory.reach();
        let mut ring = ring();
        let table = [(0x5000_u64, 12_u32, 0_u16), (0x6000, 100, flag::WRITE)];
        for (at, (address, len, flags)) in (0x4000_u64..).step_by(16).zip(table) {
            reach.write_obj(address, GuestAddress(at)).unwrap();
            reach.write_obj(len, GuestAddress(at + 8)).unwrap();
            reach.write_obj([0, flags], GuestAddress(at + 12)).unwrap();
        }
        offer(reach, 0, true, 3, flag::INDIRECT);
        reach.write_obj(32_u32, GuestAddress(DESC + 8)).unwrap();
        let chain = ring.next(reach).unwrap();
        assert_eq!((chain.id, chain.descriptors), (3, 1));
        let lens: Vec<u32> = chain.parts.iter().map(|part| part.len).collect();
        assert_eq!(lens, [12, 100]);
    }

    #[test]
    fn interrupts_come_when_they_are_wanted() {
        let memory = memory(0, 0x10000);
        let reach = memory.reach();
        let mut ring = ring();
        let good = Behaviour::default();
        let mut turn = Place::START;
        let mut returned = |ring: &mut Packed| {
            offer(reach, turn.index, turn.wrap, 0, 0);
            turn = turn.after(1, SIZE);
            let chain = ring.next(reach).unwrap();
            ring.complete(reach, &chain, 0, &good);
            ring.wants_interrupt(reach)
        };
        let ask = |place: u16, flags: u16| {
            reach
                .write_obj([place, flags], GuestAddress(DRIVER))
                .unwrap();
        };
        assert!(returned(&mut ring));
        ask(0, event::DISABLE);
        assert!(!returned(&mut ring));
        // At the fourth descriptor of this turn, then at the first of the next.
        ask(3 | (1 << 15), event::DESCRIPTOR);
        assert!(!returned(&mut ring));
        assert!(returned(&mut ring));
        ask(0, event::DESCRIPTOR);
        assert!(returned(&mut ring));
        assert!(!returned(&mut ring));
    }

    #[test]
    fn a_ring_that_is_not_mapped_has_no_chains() {
        let memory = memory(0, 0x1000);
        assert!(ring().next(memory.reach()).is_none());
        assert!(memory.refused() > 0);
    }
}
