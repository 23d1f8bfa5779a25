// SPDX-License-Identifier: GPL-2.0

//! The memory a device may reach: one mapping, handed out piece by piece.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// First I/O virtual address. Far from 0, so that a forgotten address faults instead of working,
/// and below 4 GiB without touching the interrupt window at 0xfee0_0000.
pub const BASE: u64 = 0x1000_0000;

/// Bytes of the mapping, unless somebody wants fewer.
pub const SIZE: u64 = 8 << 20;

/// Device-visible memory; a clone shares the mapping and the allocation mark. One thread hands it out; any may
/// read and write it.
#[derive(Clone)]
pub struct Memory {
    map: Arc<GuestMemoryMmap>,
    next: Arc<AtomicU64>,
}

impl Memory {
    /// Maps `size` bytes, all zero, in this process; the device sees them once they are mapped there, too.
    ///
    /// It is that of a file, and shared: vhost-vdpa leaves out all other memory, without a word, for
    /// devices that are software and reach it by the addresses of the process.
    pub fn new(size: u64) -> Result<Self> {
        let file = File::from(
            memfd_create("vdpa-user", MFdFlags::MFD_CLOEXEC)
                .context("cannot make memory for the device")?,
        );
        file.set_len(size)?;
        let range = (
            GuestAddress(BASE),
            usize::try_from(size)?,
            Some(FileOffset::new(file, 0)),
        );
        let map = GuestMemoryMmap::from_ranges_with_files([range])
            .context("cannot map memory for the device")?;
        Ok(Self {
            map: Arc::new(map),
            next: Arc::new(AtomicU64::new(BASE)),
        })
    }

    /// Bytes of the mapping.
    pub fn size(&self) -> u64 {
        self.map.last_addr().0 + 1 - BASE
    }

    /// The address space object the `vhost` crate wants.
    pub fn space(&self) -> Arc<GuestMemoryMmap> {
        self.map.clone()
    }

    /// Where the mapping starts in this process.
    pub fn host_address(&self) -> Result<*const u8> {
        Ok(self.map.get_host_address(GuestAddress(BASE))?.cast_const())
    }

    /// Hands out `length` bytes at a multiple of `align`; they are zero the first time.
    pub fn allocate(&self, length: u64, align: u64) -> Result<u64> {
        let start = self.next.load(Ordering::Relaxed).next_multiple_of(align);
        ensure!(
            start + length <= BASE + self.size(),
            "out of device memory: {length} bytes wanted at {start:#x}"
        );
        self.next.store(start + length, Ordering::Relaxed);
        Ok(start)
    }

    /// Copies all that was handed out.
    pub fn contents(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.next.load(Ordering::Relaxed) - BASE)?];
        self.read(BASE, &mut bytes)?;
        Ok(bytes)
    }

    /// Takes everything back and zeroes it: for a new start on the same device.
    pub fn clear(&self) -> Result<()> {
        self.next.store(BASE, Ordering::Relaxed);
        self.write(BASE, &vec![0; usize::try_from(self.size())?])
    }

    /// Copies bytes in.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.map.write_slice(bytes, GuestAddress(address))?)
    }

    /// Copies bytes out.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        Ok(self.map.read_slice(bytes, GuestAddress(address))?)
    }

    /// Reads a little-endian 16-bit word that the device writes; later reads stay after it.
    pub fn load16(&self, address: u64) -> Result<u16> {
        let raw: u16 = self.map.load(GuestAddress(address), Ordering::Acquire)?;
        Ok(u16::from_le(raw))
    }

    /// Writes a little-endian 16-bit word that the device reads; earlier writes stay before it.
    pub fn store16(&self, address: u64, value: u16) -> Result<()> {
        Ok(self
            .map
            .store(value.to_le(), GuestAddress(address), Ordering::Release)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_is_aligned_disjoint_and_bounded() {
        let memory = Memory::new(SIZE).unwrap();
        let first = memory.allocate(10, 1).unwrap();
        let second = memory.allocate(4096, 4096).unwrap();
        assert_eq!(second % 4096, 0);
        assert!(second >= first + 10);
        assert!(memory.allocate(SIZE, 1).is_err());
    }

    #[test]
    fn words_are_little_endian() {
        let memory = Memory::new(SIZE).unwrap();
        memory.store16(BASE, 0x1234).unwrap();
        let mut bytes = [0; 2];
        memory.read(BASE, &mut bytes).unwrap();
        assert_eq!(bytes, [0x34, 0x12]);
        assert_eq!(memory.load16(BASE).unwrap(), 0x1234);
    }
}
