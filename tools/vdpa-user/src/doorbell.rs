// SPDX-License-Identifier: GPL-2.0

//! How the device is told of new buffers: an event the kernel forwards, or a page of the device.

#![allow(unsafe_code, reason = "a device register is written through a mapping")]

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
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
            index,
            1,
            ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    }

    /// Maps with arbitrary arguments, for the ones that must be refused.
    pub fn map_with(
        device: &Device,
        index: u16,
        pages: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(pages * PAGE).ok_or(Errno::EINVAL)?;
        let offset = i64::from(index) * 4096;
        // SAFETY: A fresh mapping at an address of the kernel's choice; nothing of Rust is there.
        let start = unsafe { mmap(None, length, protection, flags, device, offset) }?;
        Ok(Self {
            start,
            length: length.get(),
        })
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
