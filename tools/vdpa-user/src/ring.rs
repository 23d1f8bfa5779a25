// SPDX-License-Identifier: GPL-2.0

//! The driver side of a virtqueue, whatever its layout.

use anyhow::Result;

use crate::memory::Memory;
use crate::packed::Packed;
use crate::split::Split;

/// The three areas of a queue, as I/O virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Areas {
    /// Descriptor table (split) or ring (packed).
    pub descriptors: u64,
    /// Available ring (split) or driver event suppression (packed).
    pub driver: u64,
    /// Used ring (split) or device event suppression (packed).
    pub device: u64,
}

/// One piece of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// I/O virtual address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// Whether the device writes it.
    pub writable: bool,
}

/// A chain that the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What was passed to [`Ring::add`].
    pub token: u32,
    /// Bytes the device says it wrote.
    pub written: u32,
}

/// The driver side of one virtqueue.
pub trait Ring {
    /// Where the areas are.
    fn areas(&self) -> Areas;

    /// Puts a chain into the ring, not yet visible to the device before [`Ring::publish`].
    fn add(&mut self, chain: &[Buffer], token: u32) -> Result<()>;

    /// Makes what was added visible; says whether the device wants to be notified.
    fn publish(&mut self) -> Result<bool>;

    /// Takes the next chain the device has finished.
    fn take(&mut self) -> Result<Option<Used>>;

    /// Starts the ring, in which nothing is yet, at `index` instead of 0.
    fn begin_at(&mut self, index: u16) -> Result<()>;

    /// Where a device goes on that has finished all it has returned, as the ioctl has it.
    fn base(&self) -> Result<u32>;

    /// Asks for no interrupts, up to [`Ring::rearm`]. One may be on its way.
    fn disarm(&mut self) -> Result<()>;

    /// Asks for an interrupt at the next completion; says whether one has already arrived.
    fn rearm(&mut self) -> Result<bool>;
}

/// Makes a ring with `size` descriptors in the layout that was negotiated.
pub fn new(memory: &Memory, size: u16, packed: bool, event_index: bool) -> Result<Box<dyn Ring>> {
    Ok(if packed {
        Box::new(Packed::new(memory, size, event_index)?)
    } else {
        Box::new(Split::new(memory, size, event_index)?)
    })
}

/// Whether moving an index from `old` to `new` passes `event` (virtio 1.3, 2.7.10).
pub fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn event_index_across_the_wrap() {
        assert!(passes(0xffff, 0, 0xffff));
        assert!(!passes(0, 0, 0xffff));
        assert!(passes(5, 6, 5));
        assert!(!passes(6, 6, 5));
        assert!(!passes(4, 5, 5));
    }
}
