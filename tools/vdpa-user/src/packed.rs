// SPDX-License-Identifier: GPL-2.0

//! Driver side of a packed ring (virtio 1.3, 2.8).

use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, bail, ensure};

use crate::memory::Memory;
use crate::ring::{Areas, Buffer, Ring, Used, passes};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Event suppression: tell of everything.
const ENABLE: u16 = 0;
/// Event suppression: tell nobody.
const DISABLE: u16 = 1;
/// Event suppression: tell at one descriptor.
const DESCRIPTOR: u16 = 2;

/// A position in the ring together with its wrap counter.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

/// Where both sides start.
const START: Place = Place {
    index: 0,
    wrap: true,
};

impl Place {
    fn advance(&mut self, by: u16, size: u16) {
        self.index += by;
        if self.index >= size {
            self.index -= size;
            self.wrap = !self.wrap;
        }
    }
}

/// A packed ring in device memory, with the driver's private state.
pub struct Packed {
    memory: Memory,
    areas: Areas,
    size: u16,
    event_index: bool,
    free: u16,
    ids: Vec<u16>,
    /// By buffer id: the owner's token and the number of descriptors.
    chains: Vec<Option<(u32, u16)>>,
    next: Place,
    seen: Place,
    /// The first descriptor that is not visible yet, and its flags: written last.
    held: Option<(u16, u16)>,
    /// Descriptors added since the last publication.
    fresh: u16,
}

impl Packed {
    /// Lays out a ring of `size` descriptors.
    pub fn new(memory: &Memory, size: u16, event_index: bool) -> Result<Self> {
        ensure!(
            (1..=32768).contains(&size),
            "a packed ring of {size} descriptors"
        );
        let areas = Areas {
            descriptors: memory.allocate(16 * u64::from(size), 4096)?,
            driver: memory.allocate(4, 4096)?,
            device: memory.allocate(4, 4096)?,
        };
        Ok(Self {
            memory: memory.clone(),
            areas,
            size,
            event_index,
            free: size,
            ids: (0..size).rev().collect(),
            chains: (0..size).map(|_| None).collect(),
            next: START,
            seen: START,
            held: None,
            fresh: 0,
        })
    }

    fn at(&self, index: u16) -> u64 {
        self.areas.descriptors + 16 * u64::from(index)
    }

    fn pending(&self) -> Result<bool> {
        let flags = self.memory.load16(self.at(self.seen.index) + 14)?;
        let avail = flags & AVAIL != 0;
        let used = flags & USED != 0;
        Ok(avail == used && used == self.seen.wrap)
    }
}

#[cfg(test)]
impl Packed {
    /// Descriptors that are free.
    fn free(&self) -> usize {
        self.free.into()
    }
}

impl Ring for Packed {
    fn areas(&self) -> Areas {
        self.areas
    }

    fn add(&mut self, chain: &[Buffer], token: u32) -> Result<()> {
        let count = u16::try_from(chain.len())?;
        ensure!(count > 0, "an empty chain");
        ensure!(count <= self.free, "the ring is full");
        let id = self.ids.pop().context("no free buffer id")?;
        for (position, buffer) in chain.iter().enumerate() {
            let mut flags = if self.next.wrap { AVAIL } else { USED };
            if buffer.writable {
                flags |= WRITE;
            }
            if position + 1 < chain.len() {
                flags |= NEXT;
            }
            let mut descriptor = [0; 14];
            descriptor[..8].copy_from_slice(&buffer.address.to_le_bytes());
            descriptor[8..12].copy_from_slice(&buffer.length.to_le_bytes());
            descriptor[12..].copy_from_slice(&id.to_le_bytes());
            let at = self.at(self.next.index);
            self.memory.write(at, &descriptor)?;
            // The device starts at the first descriptor it does not know: that one comes last.
            if self.held.is_none() {
                self.held = Some((self.next.index, flags));
            } else {
                self.memory.store16(at + 14, flags)?;
            }
            self.next.advance(1, self.size);
        }
        self.chains[usize::from(id)] = Some((token, count));
        self.free -= count;
        self.fresh += count;
        Ok(())
    }

    fn publish(&mut self) -> Result<bool> {
        let Some((index, flags)) = self.held.take() else {
            return Ok(false);
        };
        self.memory.store16(self.at(index) + 14, flags)?;
        let fresh = std::mem::take(&mut self.fresh);
        // The descriptor must be visible before the device's wish is read.
        fence(Ordering::SeqCst);
        let flags = self.memory.load16(self.areas.device + 2)? & 3;
        if flags != DESCRIPTOR {
            return Ok(flags != DISABLE);
        }
        let wish = self.memory.load16(self.areas.device)?;
        let mut event = wish & 0x7fff;
        if (wish & 0x8000 != 0) != self.next.wrap {
            event = event.wrapping_sub(self.size);
        }
        let new = self.next.index;
        Ok(passes(event, new, new.wrapping_sub(fresh)))
    }

    fn take(&mut self) -> Result<Option<Used>> {
        if !self.pending()? {
            return Ok(None);
        }
        let mut descriptor = [0; 14];
        self.memory
            .read(self.at(self.seen.index), &mut descriptor)?;
        let written = u32::from_le_bytes(descriptor[8..12].try_into()?);
        let id = u16::from_le_bytes(descriptor[12..].try_into()?);
        let entry = self
            .chains
            .get_mut(usize::from(id))
            .with_context(|| format!("a used descriptor names buffer {id}"))?;
        let Some((token, count)) = entry.take() else {
            bail!("buffer {id} came back twice or was never given");
        };
        self.ids.push(id);
        self.free += count;
        self.seen.advance(count, self.size);
        Ok(Some(Used { token, written }))
    }

    fn begin_at(&mut self, index: u16) -> Result<()> {
        ensure!(index == 0, "a packed ring begins at its beginning");
        Ok(())
    }

    fn base(&self) -> Result<u32> {
        let place = u32::from(self.seen.index) | (u32::from(self.seen.wrap) << 15);
        Ok((place << 16) | place)
    }

    fn disarm(&mut self) -> Result<()> {
        self.memory.store16(self.areas.driver + 2, DISABLE)
    }

    fn rearm(&mut self) -> Result<bool> {
        if self.event_index {
            let wish = self.seen.index | if self.seen.wrap { 0x8000 } else { 0 };
            self.memory.store16(self.areas.driver, wish)?;
            self.memory.store16(self.areas.driver + 2, DESCRIPTOR)?;
        } else {
            self.memory.store16(self.areas.driver + 2, ENABLE)?;
        }
        // The wish must be visible before the device's descriptor is read, or both sides may sleep.
        fence(Ordering::SeqCst);
        self.pending()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SIZE;

    #[test]
    fn goes_round_with_chains_that_straddle_the_end() {
        let memory = Memory::new(SIZE).unwrap();
        let mut ring = Packed::new(&memory, 5, false).unwrap();
        let buffer = Buffer {
            address: 0x5000,
            length: 8,
            writable: false,
        };
        let mut device = START;
        for round in 0..10_000_u32 {
            ring.add(&[buffer, buffer, buffer], round).unwrap();
            assert_eq!(ring.take().unwrap(), None);
            assert!(ring.publish().unwrap());
            let at = ring.at(device.index);
            let flags = memory.load16(at + 14).unwrap();
            assert_eq!(flags & AVAIL != 0, device.wrap);
            assert_eq!(flags & USED != 0, !device.wrap);
            assert_ne!(flags & NEXT, 0);
            memory.write(at + 8, &9_u32.to_le_bytes()).unwrap();
            let used = if device.wrap { AVAIL | USED } else { 0 };
            memory.store16(at + 14, used).unwrap();
            device.advance(3, 5);
            assert_eq!(
                ring.take().unwrap(),
                Some(Used {
                    token: round,
                    written: 9
                })
            );
            assert_eq!(ring.free(), 5);
        }
    }

    #[test]
    fn a_device_that_asked_for_silence_is_not_notified() {
        let memory = Memory::new(SIZE).unwrap();
        let mut ring = Packed::new(&memory, 4, true).unwrap();
        let buffer = Buffer {
            address: 0x5000,
            length: 8,
            writable: false,
        };
        memory.store16(ring.areas.device + 2, DISABLE).unwrap();
        ring.add(&[buffer], 0).unwrap();
        assert!(!ring.publish().unwrap());
    }
}
