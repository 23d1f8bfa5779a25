// SPDX-License-Identifier: GPL-2.0

//! The memory in which a ring lies, as its device reaches it.

/// Memory that is shared with a driver, by the addresses that the driver put into the ring.
///
/// The driver may change every byte at any time, and may name addresses that are not there: an
/// implementation returns an error for those. All numbers in rings are little-endian
/// (virtio 1.3, 1.4 and 2.7); the methods for indices convert.
pub trait Memory {
    /// What goes wrong when an address is not there.
    type Error;

    /// Copies the bytes at `addr` to `buf`.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Copies `buf` to the bytes at `addr`.
    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Self::Error>;

    /// Loads the 16-bit number at `addr`, a multiple of 2, in one access and with acquire ordering:
    /// what the driver wrote before it stored the number is seen after.
    fn read_index(&self, addr: u64) -> Result<u16, Self::Error>;

    /// Stores the 16-bit number at `addr`, a multiple of 2, in one access and with release ordering:
    /// a driver that sees the number sees what was written before.
    fn write_index(&self, addr: u64, index: u16) -> Result<(), Self::Error>;

    /// Orders all accesses before against all after, stores against later loads included.
    fn full_barrier(&self);
}

impl<M: Memory + ?Sized> Memory for &M {
    type Error = M::Error;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(addr, buf)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Self::Error> {
        (**self).write(addr, buf)
    }

    fn read_index(&self, addr: u64) -> Result<u16, Self::Error> {
        (**self).read_index(addr)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Self::Error> {
        (**self).write_index(addr, index)
    }

    fn full_barrier(&self) {
        (**self).full_barrier();
    }
}
