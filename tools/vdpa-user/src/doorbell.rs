// SPDX-License-Identifier: GPL-2.0

//! How the device is told of new buffers: an event the kernel forwards, or a page of the device.

#![allow(unsafe_code, reason = "a device register is written through a mapping")]

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::mman::{MRemapFlags, MapFlags, ProtFlags, mmap, mremap, munmap};
use vmm_sys_util::eventfd::EventFd;

use crate::device::Device;

/// Bytes of a page on every machine the lab runs.
pub const PAGE: usize = 4096;

/// A doorbell register of the device, mapped into this process.
pub struct Page {
    start: NonNull<std::ffi::c_void>,
    length: usize,
}

impl Page {
    /// Maps the doorbell of queue `index`; the error tells why the device has none to map.
    pub fn map(device: &Device, index: u16) -> Result<Self, Errno> {
        Self::map_with(
            device,
            index.into(),
            1,
            ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    }

    /// Maps with arbitrary arguments, for the ones that must be refused. The doorbell of queue `index`
    /// is so many pages from the start; not every number of pages is one of a queue.
    pub fn map_with(
        device: &Device,
        index: u64,
        pages: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(pages * PAGE).ok_or(Errno::EINVAL)?;
        let offset = index
            .checked_mul(4096)
            .and_then(|offset| i64::try_from(offset).ok())
            .ok_or(Errno::EOVERFLOW)?;
        // SAFETY: A fresh mapping at an address of the kernel's choice; nothing of Rust is there.
        let start = unsafe { mmap(None, length, protection, flags, device, offset) }?;
        Ok(Self {
            start,
            length: length.get(),
        })
    }

    /// Asks for more pages behind the first one.
    pub fn grow(&mut self, pages: usize) -> Result<(), Errno> {
        let length = NonZeroUsize::new(pages * PAGE).ok_or(Errno::EINVAL)?;
        let move_it = MRemapFlags::MREMAP_MAYMOVE;
        // SAFETY: This is the mapping made above; no reference to it is left, and if it moves, it is
        // used at the new address only.
        let start = unsafe { mremap(self.start, self.length, length.get(), move_it, None) }?;
        self.start = start;
        self.length = length.get();
        Ok(())
    }

    /// Writes the queue's index to the register.
    pub fn ring(&self, index: u16) {
        // SAFETY: The page is mapped writable for as long as `self` lives, and 16 bits at its
        // start are the register (virtio 1.3, 4.1.5.2).
        unsafe {
            self.start
                .cast::<u16>()
                .as_ptr()
                .write_volatile(index.to_le())
        };
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: This is the mapping made above; no reference to it is left.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

/// The way a queue notifies its device.
pub enum Doorbell {
    /// The kernel listens and forwards.
    Event(EventFd),
    /// Directly.
    Page(Page),
}

impl Doorbell {
    /// Tells the device about new buffers in queue `index`.
    pub fn ring(&self, index: u16) -> Result<()> {
        match self {
            Self::Event(event) => event.write(1).context("cannot write to a kick event"),
            Self::Page(page) => {
                page.ring(index);
                Ok(())
            }
        }
    }
}
