// SPDX-License-Identifier: GPL-2.0

//! A ring of either kind, as the device works on it.

use vm_memory::{Bytes, GuestAddress};

use crate::feature;
use crate::memory::Reach;
use crate::misbehaviour::Behaviour;
use crate::packed::Packed;
use crate::registers::QueueRegisters;
use crate::split::Split;

/// The longest chain that is read, in bytes.
const MOST: usize = 1 << 16;

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is.
    pub address: GuestAddress,
    /// Its length in bytes.
    pub len: u32,
    /// The device may write to it, and does not read it.
    pub writable: bool,
}

/// A chain of buffers that the driver has made available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// How it is called when it is returned.
    pub id: u16,
    /// Descriptors that it takes of the ring.
    pub descriptors: u16,
    /// Its buffers.
    pub parts: Vec<Part>,
}

impl Chain {
    /// The bytes that the device may read.
    pub fn gather(&self, memory: &Reach) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in self.parts.iter().filter(|part| !part.writable) {
            let room = MOST.saturating_sub(bytes.len());
            let len = usize::try_from(part.len).unwrap_or(MOST).min(room);
            let mut read = vec![0; len];
            if len != 0 && memory.read_slice(&mut read, part.address).is_err() {
                break;
            }
            bytes.append(&mut read);
        }
        bytes
    }

    /// Writes to the part that the device may write. Returns how much has found room.
    pub fn scatter(&self, memory: &Reach, bytes: &[u8]) -> u32 {
        let mut left = bytes;
        for part in self.parts.iter().filter(|part| part.writable) {
            let len = usize::try_from(part.len).unwrap_or(MOST).min(left.len());
            let (now, rest) = left.split_at(len);
            if now.is_empty() {
                continue;
            }
            if memory.write_slice(now, part.address).is_err() {
                break;
            }
            left = rest;
        }
        u32::try_from(bytes.len() - left.len()).unwrap_or(0)
    }
}

/// A ring that is enabled.
pub enum Ring {
    /// A split one.
    Split(Split),
    /// A packed one.
    Packed(Packed),
}

impl Ring {
    /// The ring that the registers describe, with the features that were negotiated; `None` if there
    /// is none like it.
    pub fn new(registers: &QueueRegisters, features: u64) -> Option<Self> {
        let has = |bit: u32| (features >> bit) & 1 == 1;
        if has(feature::RING_PACKED) {
            Packed::new(registers).map(Self::Packed)
        } else {
            Split::new(registers, has(feature::RING_EVENT_IDX)).map(Self::Split)
        }
    }

    /// The next chain that is available.
    pub fn next(&mut self, memory: &Reach) -> Option<Chain> {
        match self {
            Self::Split(ring) => ring.next(memory),
            Self::Packed(ring) => ring.next(memory),
        }
    }

    /// Gives back the chain that was taken last.
    pub fn undo(&mut self, chain: &Chain) {
        match self {
            Self::Split(ring) => ring.undo(),
            Self::Packed(ring) => ring.undo(chain),
        }
    }

    /// Returns a chain with `len` bytes in it, or makes believe.
    pub fn complete(&mut self, memory: &Reach, chain: &Chain, len: u32, behaviour: &Behaviour) {
        match self {
            Self::Split(ring) => ring.complete(memory, chain.id, len, behaviour),
            Self::Packed(ring) => ring.complete(memory, chain, len, behaviour),
        }
    }

    /// Whether the driver wants an interrupt for what was returned.
    pub fn wants_interrupt(&mut self, memory: &Reach) -> bool {
        match self {
            Self::Split(ring) => ring.wants_interrupt(memory),
            Self::Packed(ring) => ring.wants_interrupt(memory),
        }
    }

    /// Asks for a notification. Returns whether there is more already.
    pub fn listen(&mut self, memory: &Reach) -> bool {
        match self {
            Self::Split(ring) => ring.listen(memory),
            Self::Packed(ring) => ring.listen(memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::memory;

    #[test]
    fn buffers_are_read_and_written() {
        const BUFFER: u64 = 0x4000;
        let memory = memory(0, 0x10000);
        let reach = memory.reach();
        let of = |len, writable| Chain {
            id: 0,
            descriptors: 1,
            parts: vec![Part {
                address: GuestAddress(BUFFER),
                len,
                writable,
            }],
        };
        reach.write_slice(b"frame", GuestAddress(BUFFER)).unwrap();
        assert_eq!(of(5, false).gather(reach), b"frame");
        assert_eq!(of(5, true).gather(reach), b"");
        assert_eq!(of(3, true).scatter(reach, b"other"), 3);
        assert_eq!(
            reach.read_obj::<[u8; 5]>(GuestAddress(BUFFER)).unwrap(),
            *b"othme"
        );
        assert_eq!(memory.refused(), 0);
    }
}
