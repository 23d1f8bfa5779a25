// SPDX-License-Identifier: GPL-2.0

//! The memory of a world, as its device and its relay reach it.

use std::cell::RefCell;

use virtio::split::Memory;

use crate::ring::Ram;
use crate::ring::Unmapped;
use crate::world::World;

/// What a device reaches: the guest's memory, and the shadow rings far above.
pub(crate) struct Both<'a> {
    pub(crate) guest: &'a Ram,
    pub(crate) shadow: &'a Ram,
}

/// What is added to addresses of the shadow rings.
pub(crate) const SHADOW: u64 = 1 << 40;

impl Both<'_> {
    fn at(&self, addr: u64) -> (&Ram, u64) {
        match addr.checked_sub(SHADOW) {
            Some(addr) => (self.shadow, addr),
            None => (self.guest, addr),
        }
    }
}

impl Memory for Both<'_> {
    type Error = Unmapped;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.read(addr, buf)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.write(addr, buf)
    }

    fn read_index(&self, addr: u64) -> Result<u16, Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.read_index(addr)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.write_index(addr, index)
    }

    fn full_barrier(&self) {}
}

/// One of the two memories as a relay reaches it: before each access, others may do something.
pub(crate) struct Watched<'a, 'w> {
    pub(crate) world: &'a RefCell<&'w mut World>,
    pub(crate) shadow: bool,
}

impl Watched<'_, '_> {
    fn access<R>(&self, access: impl FnOnce(&Ram) -> R) -> R {
        let mut world = self.world.borrow_mut();
        world.interfere();
        access(if self.shadow {
            &world.shadow
        } else {
            &world.guest
        })
    }
}

impl Memory for Watched<'_, '_> {
    type Error = Unmapped;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        self.access(|ram| ram.read(addr, buf))
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Unmapped> {
        self.access(|ram| ram.write(addr, buf))
    }

    fn read_index(&self, addr: u64) -> Result<u16, Unmapped> {
        self.access(|ram| ram.read_index(addr))
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Unmapped> {
        self.access(|ram| ram.write_index(addr, index))
    }

    fn full_barrier(&self) {}
}
