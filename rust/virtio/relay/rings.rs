// SPDX-License-Identifier: GPL-2.0

//! Where the parts of a split ring are.

use crate::memory::Memory;
use crate::queue::Addresses;
use crate::queue::Size;

/// Offset of the index in either ring, behind the flags.
const INDEX: u64 = 2;
/// Offset of the elements of either ring.
const RING: u64 = 4;
/// Bytes of an element of the available ring.
const AVAIL_LEN: u64 = 2;
/// Bytes of an element of the used ring.
const USED_LEN: u64 = 8;

/// Where an available and a used ring are: the driver area and the device area.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Available ring, as the memory that goes with it addresses it.
    pub driver: u64,
    /// Used ring.
    pub device: u64,
}

impl From<Addresses> for Rings {
    fn from(addresses: Addresses) -> Self {
        Self {
            driver: addresses.driver,
            device: addresses.device,
        }
    }
}

impl Rings {
    /// Address of the available ring's index.
    pub(crate) const fn avail_index(self) -> u64 {
        self.driver.wrapping_add(INDEX)
    }

    /// Address of the element of the available ring that `index` means.
    pub(crate) fn avail(self, size: Size, index: u16) -> u64 {
        self.driver.wrapping_add(element(size, index, AVAIL_LEN))
    }

    /// The head of the chain that the available ring has at `index`.
    pub(crate) fn available<M: Memory>(
        self,
        mem: &M,
        size: Size,
        index: u16,
    ) -> Result<u16, M::Error> {
        let mut raw = [0; 2];
        mem.read(self.avail(size, index), &mut raw)?;
        Ok(u16::from_le_bytes(raw))
    }

    /// The head of the chain that the used ring has at `index`, as its device has written it.
    pub(crate) fn returned<M: Memory>(
        self,
        mem: &M,
        size: Size,
        index: u16,
    ) -> Result<u32, M::Error> {
        let mut raw = [0; 4];
        mem.read(self.used(size, index), &mut raw)?;
        Ok(u32::from_le_bytes(raw))
    }

    /// Address of `used_event`, which ends an available ring.
    pub(crate) fn used_event(self, size: Size) -> u64 {
        let elements = u64::from(size.get()).wrapping_mul(AVAIL_LEN);
        self.driver.wrapping_add(RING).wrapping_add(elements)
    }

    /// Address of the used ring's index.
    pub(crate) const fn used_index(self) -> u64 {
        self.device.wrapping_add(INDEX)
    }

    /// Address of the element of the used ring that `index` means.
    pub(crate) fn used(self, size: Size, index: u16) -> u64 {
        self.device.wrapping_add(element(size, index, USED_LEN))
    }

    /// Address of `avail_event`, which ends a used ring.
    pub(crate) fn avail_event(self, size: Size) -> u64 {
        let elements = u64::from(size.get()).wrapping_mul(USED_LEN);
        self.device.wrapping_add(RING).wrapping_add(elements)
    }
}

/// Byte offset of the element that `index` means in a ring of elements of `len` bytes.
fn element(size: Size, index: u16, len: u64) -> u64 {
    // The size of a split ring is a power of two.
    let slot = index & size.get().wrapping_sub(1);
    RING.wrapping_add(u64::from(slot).wrapping_mul(len))
}
