// SPDX-License-Identifier: GPL-2.0

//! One split ring, as the device works on it.

use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};

use crate::memory::Reach;
use crate::misbehaviour::{Behaviour, Misbehaviour};
use crate::registers::QueueRegisters;
use crate::ring::{Chain, Part};

/// The longest ring that there is.
const LONGEST: u16 = 32768;

/// A ring that is enabled.
pub struct Split {
    queue: Queue,
    size: u16,
    used: GuestAddress,
}

impl Split {
    /// The ring that the registers describe; `None` if there is none like it.
    pub fn new(registers: &QueueRegisters, event_index: bool) -> Option<Self> {
        let mut queue = Queue::new(LONGEST).ok()?;
        queue.try_set_size(registers.size).ok()?;
        queue
            .try_set_desc_table_address(GuestAddress(registers.desc))
            .ok()?;
        queue
            .try_set_avail_ring_address(GuestAddress(registers.driver))
            .ok()?;
        queue
            .try_set_used_ring_address(GuestAddress(registers.device))
            .ok()?;
        queue.set_event_idx(event_index);
        queue.set_ready(true);
        Some(Self {
            queue,
            size: registers.size,
            used: GuestAddress(registers.device),
        })
    }

    /// The next chain that is available.
    pub fn next(&mut self, memory: &Reach) -> Option<Chain> {
        let chain = self.queue.pop_descriptor_chain(memory)?;
        let id = chain.head_index();
        let parts: Vec<Part> = chain
            .map(|descriptor| Part {
                address: descriptor.addr(),
                len: descriptor.len(),
                writable: descriptor.is_write_only(),
            })
            .collect();
        Some(Chain {
            id,
            descriptors: u16::try_from(parts.len()).unwrap_or(u16::MAX),
            parts,
        })
    }

    /// Gives back the chain that was taken last.
    pub fn undo(&mut self) {
        let next = self.queue.next_avail().wrapping_sub(1);
        self.queue.set_next_avail(next);
    }

    /// Returns a chain with `len` bytes in it, or makes believe.
    pub fn complete(&mut self, memory: &Reach, head: u16, len: u32, behaviour: &Behaviour) {
        // What cannot be written is counted where it is refused.
        if behaviour.does(Misbehaviour::UsedBadId) {
            let id = u32::from(self.size) + 7;
            let next = self.queue.next_used();
            let place = self.used.unchecked_add(4 + 8 * u64::from(next % self.size));
            let _ = memory.write_obj([id.to_le(), len.to_le()], place);
            self.advance(memory, 1);
        } else {
            let _ = self.queue.add_used(memory, head, len);
        }
        if let Some(ahead) = behaviour.argument(Misbehaviour::UsedIndexJump) {
            self.advance(memory, ahead as u16);
        }
    }

    /// Moves the used index.
    fn advance(&mut self, memory: &Reach, by: u16) {
        let next = self.queue.next_used().wrapping_add(by);
        self.queue.set_next_used(next);
        let _ = memory.store(next.to_le(), self.used.unchecked_add(2), Ordering::Release);
    }

    /// Whether the driver wants an interrupt for what was returned.
    pub fn wants_interrupt(&mut self, memory: &Reach) -> bool {
        self.queue.needs_notification(memory).unwrap_or(false)
    }

    /// Asks for a notification. Returns whether there is more already.
    pub fn listen(&mut self, memory: &Reach) -> bool {
        self.queue.enable_notification(memory).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::memory;

    /// Where a test has its ring of 8 entries: descriptors, driver, device, and a buffer.
    const DESC: u64 = 0x1000;
    const AVAIL: u64 = 0x2000;
    const USED: u64 = 0x3000;
    const BUFFER: u64 = 0x4000;

    fn registers() -> QueueRegisters {
        QueueRegisters {
            size: 8,
            vector: 0,
            enabled: true,
            resetting: false,
            desc: DESC,
            driver: AVAIL,
            device: USED,
        }
    }

    /// Makes a chain of one descriptor available as the first one.
    fn offer(memory: &Reach, head: u16, len: u32, flags: u16) {
        let at = DESC + 16 * u64::from(head);
        memory.write_obj(BUFFER, GuestAddress(at)).unwrap();
        memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        memory.write_obj([flags, 0], GuestAddress(at + 12)).unwrap();
        memory.write_obj(head, GuestAddress(AVAIL + 4)).unwrap();
        memory.write_obj(1_u16, GuestAddress(AVAIL + 2)).unwrap();
    }

    fn used(memory: &Reach) -> (u16, u32) {
        let index = memory.read_obj(GuestAddress(USED + 2)).unwrap();
        (index, memory.read_obj(GuestAddress(USED + 4)).unwrap())
    }

    fn completed(words: &[&str]) -> (u16, u32) {
        let memory = memory(0, 0x10000);
        let reach = memory.reach();
        let mut behaviour = Behaviour::default();
        if !words.is_empty() {
            behaviour.take_up(words).unwrap();
        }
        offer(reach, 3, 4, 0);
        let mut ring = Split::new(&registers(), false).unwrap();
        let head = ring.next(reach).unwrap().id;
        assert!(ring.next(reach).is_none());
        ring.complete(reach, head, 0, &behaviour);
        used(reach)
    }

    #[test]
    fn chains_are_returned() {
        assert_eq!(completed(&[]), (1, 3));
    }

    #[test]
    fn chains_are_returned_wrongly() {
        assert_eq!(completed(&["used-bad-id"]), (1, 15));
        assert_eq!(completed(&["used-index-jump", "40"]), (41, 3));
    }

    #[test]
    fn a_ring_that_is_not_mapped_has_no_chains() {
        let memory = memory(0, 0x1000);
        let mut ring = Split::new(&registers(), false).unwrap();
        assert!(ring.next(memory.reach()).is_none());
        assert!(memory.refused() > 0);
    }

    #[test]
    fn rings_that_cannot_be_are_none() {
        let of_size = |size| {
            Split::new(
                &QueueRegisters {
                    size,
                    ..registers()
                },
                false,
            )
        };
        assert!(of_size(0).is_none() && of_size(3).is_none());
        assert!(of_size(32768).is_some());
    }
}
