// SPDX-License-Identifier: GPL-2.0

//! Driver side of a split ring (virtio 1.3, 2.7).

use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, bail, ensure};

use crate::memory::Memory;
use crate::ring::{Areas, Buffer, Ring, Used, passes};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// `avail.flags`: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// `used.flags`: the device wants no notifications.
const NO_NOTIFY: u16 = 1;

/// A split ring in device memory, with the driver's private state.
pub struct Split {
    memory: Memory,
    areas: Areas,
    size: u16,
    event_index: bool,
    free: Vec<u16>,
    /// By head descriptor: the owner's token and the descriptors of the chain.
    chains: Vec<Option<(u32, Vec<u16>)>>,
    /// Next value of `avail.idx`.
    next: u16,
    /// Value of `avail.idx` the device can see.
    published: u16,
    /// Next element of the used ring to look at.
    seen: u16,
}

impl Split {
    /// Lays out a ring of `size` descriptors, a power of two.
    pub fn new(memory: &Memory, size: u16, event_index: bool) -> Result<Self> {
        ensure!(size.is_power_of_two(), "a split ring of {size} descriptors");
        let entries = u64::from(size);
        // Every area starts a page of its own: a device that writes past one is found out.
        let areas = Areas {
            descriptors: memory.allocate(16 * entries, 4096)?,
            driver: memory.allocate(6 + 2 * entries, 4096)?,
            device: memory.allocate(6 + 8 * entries, 4096)?,
        };
        Ok(Self {
            memory: memory.clone(),
            areas,
            size,
            event_index,
            free: (0..size).rev().collect(),
            chains: (0..size).map(|_| None).collect(),
            next: 0,
            published: 0,
            seen: 0,
        })
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index % self.size)
    }

    fn pending(&self) -> Result<bool> {
        Ok(self.memory.load16(self.areas.device + 2)? != self.seen)
    }

    /// Where the index stands that is to be told of.
    fn used_event(&self) -> u64 {
        self.areas.driver + 4 + 2 * u64::from(self.size)
    }
}

#[cfg(test)]
impl Split {
    /// Descriptors that are free.
    fn free(&self) -> usize {
        self.free.len()
    }
}

impl Ring for Split {
    fn areas(&self) -> Areas {
        self.areas
    }

    fn add(&mut self, chain: &[Buffer], token: u32) -> Result<()> {
        ensure!(!chain.is_empty(), "an empty chain");
        ensure!(chain.len() <= self.free.len(), "the ring is full");
        let taken = self.free.split_off(self.free.len() - chain.len());
        for (position, buffer) in chain.iter().enumerate() {
            let next = taken.get(position + 1).copied();
            let mut flags = 0;
            if buffer.writable {
                flags |= WRITE;
            }
            if next.is_some() {
                flags |= NEXT;
            }
            let mut descriptor = [0; 16];
            descriptor[..8].copy_from_slice(&buffer.address.to_le_bytes());
            descriptor[8..12].copy_from_slice(&buffer.length.to_le_bytes());
            descriptor[12..14].copy_from_slice(&flags.to_le_bytes());
            descriptor[14..].copy_from_slice(&next.unwrap_or(0).to_le_bytes());
            let at = self.areas.descriptors + 16 * u64::from(taken[position]);
            self.memory.write(at, &descriptor)?;
        }
        let head = taken[0];
        let at = self.areas.driver + 4 + 2 * self.slot(self.next);
        self.memory.store16(at, head)?;
        self.chains[usize::from(head)] = Some((token, taken));
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    fn publish(&mut self) -> Result<bool> {
        let old = self.published;
        if old == self.next {
            return Ok(false);
        }
        self.memory.store16(self.areas.driver + 2, self.next)?;
        self.published = self.next;
        // The index must be visible before the device's wish is read, or both sides may sleep.
        fence(Ordering::SeqCst);
        if self.event_index {
            let at = self.areas.device + 4 + 8 * u64::from(self.size);
            Ok(passes(self.memory.load16(at)?, self.next, old))
        } else {
            Ok(self.memory.load16(self.areas.device)? & NO_NOTIFY == 0)
        }
    }

    fn take(&mut self) -> Result<Option<Used>> {
        let index = self.memory.load16(self.areas.device + 2)?;
        let count = index.wrapping_sub(self.seen);
        if count == 0 {
            return Ok(None);
        }
        ensure!(
            usize::from(count) <= usize::from(self.size) - self.free.len(),
            "the used index jumped from {} to {index}",
            self.seen
        );
        let mut element = [0; 8];
        let at = self.areas.device + 4 + 8 * self.slot(self.seen);
        self.memory.read(at, &mut element)?;
        let (id, length) = element.split_at(4);
        let id = u32::from_le_bytes(id.try_into()?);
        let written = u32::from_le_bytes(length.try_into()?);
        let entry = usize::try_from(id)
            .ok()
            .and_then(|id| self.chains.get_mut(id))
            .with_context(|| format!("used element {} names descriptor {id}", self.seen))?;
        let Some((token, descriptors)) = entry.take() else {
            bail!("descriptor {id} came back twice or was never given");
        };
        self.free.extend(descriptors);
        self.seen = self.seen.wrapping_add(1);
        Ok(Some(Used { token, written }))
    }

    fn begin_at(&mut self, index: u16) -> Result<()> {
        self.memory.store16(self.areas.driver + 2, index)?;
        self.memory.store16(self.areas.device + 2, index)?;
        self.next = index;
        self.published = index;
        self.seen = index;
        Ok(())
    }

    fn base(&self) -> Result<u32> {
        Ok(self.memory.load16(self.areas.device + 2)?.into())
    }

    fn disarm(&mut self) -> Result<()> {
        if self.event_index {
            // With event indices the flags mean nothing. The farthest that there is.
            self.memory
                .store16(self.used_event(), self.seen.wrapping_sub(1))
        } else {
            self.memory.store16(self.areas.driver, NO_INTERRUPT)
        }
    }

    fn rearm(&mut self) -> Result<bool> {
        if self.event_index {
            self.memory.store16(self.used_event(), self.seen)?;
        } else {
            self.memory.store16(self.areas.driver, 0)?;
        }
        // The wish must be visible before the device's index is read, or both sides may sleep.
        fence(Ordering::SeqCst);
        self.pending()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SIZE;

    fn device_uses(ring: &Split, position: u16, id: u32, written: u32) {
        let memory = &ring.memory;
        let at = ring.areas.device + 4 + 8 * u64::from(position % ring.size);
        memory.write(at, &id.to_le_bytes()).unwrap();
        memory.write(at + 4, &written.to_le_bytes()).unwrap();
        let index = ring.areas.device + 2;
        memory.store16(index, position.wrapping_add(1)).unwrap();
    }

    fn buffer() -> Buffer {
        Buffer {
            address: 0x5000,
            length: 8,
            writable: true,
        }
    }

    #[test]
    fn goes_round_and_wraps() {
        let memory = Memory::new(SIZE).unwrap();
        let mut ring = Split::new(&memory, 4, false).unwrap();
        for round in 0..200_000_u32 {
            ring.add(&[buffer(), buffer()], round).unwrap();
            assert!(ring.publish().unwrap());
            assert_eq!(ring.take().unwrap(), None);
            let position = u16::try_from(round & 0xffff).unwrap();
            let at = ring.areas.driver + 4 + 2 * u64::from(position % 4);
            let head = memory.load16(at).unwrap();
            device_uses(&ring, position, head.into(), 7);
            assert!(ring.rearm().unwrap());
            assert_eq!(
                ring.take().unwrap(),
                Some(Used {
                    token: round,
                    written: 7
                })
            );
            assert_eq!(ring.free(), 4);
        }
    }

    #[test]
    fn says_whether_interrupts_are_wanted() {
        let memory = Memory::new(SIZE).unwrap();
        let mut ring = Split::new(&memory, 4, false).unwrap();
        ring.disarm().unwrap();
        assert_eq!(memory.load16(ring.areas.driver).unwrap(), NO_INTERRUPT);
        ring.rearm().unwrap();
        assert_eq!(memory.load16(ring.areas.driver).unwrap(), 0);
        let mut ring = Split::new(&memory, 4, true).unwrap();
        for (start, armed) in [(0, true), (7, true), (65_535, true), (0, false), (9, false)] {
            ring.begin_at(start).unwrap();
            if armed {
                ring.rearm().unwrap();
            } else {
                ring.disarm().unwrap();
            }
            let event = memory.load16(ring.used_event()).unwrap();
            assert_eq!(
                crate::ring::passes(event, start.wrapping_add(1), start),
                armed
            );
            assert_eq!(
                crate::ring::passes(event, start.wrapping_add(32_768), start),
                armed
            );
        }
    }

    #[test]
    fn refuses_what_a_broken_device_returns() {
        let memory = Memory::new(SIZE).unwrap();
        let mut ring = Split::new(&memory, 4, false).unwrap();
        ring.add(&[buffer()], 1).unwrap();
        ring.publish().unwrap();
        device_uses(&ring, 0, 77, 0);
        assert!(ring.take().is_err());
        device_uses(&ring, 9, 0, 0);
        assert!(ring.take().is_err());
    }

    #[test]
    fn a_full_ring_is_an_error() {
        let memory = Memory::new(SIZE).unwrap();
        let mut ring = Split::new(&memory, 2, false).unwrap();
        ring.add(&[buffer(), buffer()], 0).unwrap();
        assert!(ring.add(&[buffer()], 1).is_err());
    }
}
