// SPDX-License-Identifier: GPL-2.0

//! The doorbells of a function, for whoever rings them without knowing whether it is still there.

use super::{
    bindings,
    pci::as_raw,
    virtio_pci::Doorbell, //
};
use core::ptr::NonNull;
use kernel::{
    device::Bound,
    devres::Devres,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    pci,
    prelude::*,
    sync::aref::ARef, //
};
use virtio::capability::Window;

/// The notification window of a function, mapped. Dropping it unmaps it.
///
/// # Invariants
///
/// `start` is where the window is mapped, `len` bytes of it.
struct Mapped {
    start: NonNull<c_void>,
    len: usize,
    pdev: ARef<pci::Device>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::pci_iounmap(as_raw(&self.pdev), self.start.as_ptr()) };
    }
}

// SAFETY: A mapping of registers may be used by any thread.
unsafe impl Send for Mapped {}

// SAFETY: As above. Writing to a doorbell needs no synchronization.
unsafe impl Sync for Mapped {}

/// The doorbells of a function. They can be rung in any context, also when the function is not bound
/// any more: nothing happens then.
pub struct Notifier {
    mapped: Devres<Mapped>,
    /// Where the window begins in its BAR.
    offset: u32,
}

impl Notifier {
    /// Maps a notification window, which was checked against its BAR.
    pub(crate) fn new(pdev: &pci::Device<Bound>, window: &Window) -> Result<Self> {
        let len = usize::try_from(window.length())?;

        // SAFETY: The function is valid. The C function checks the range against the BAR.
        let start = unsafe {
            bindings::pci_iomap_range(
                as_raw(pdev),
                c_int::from(window.bar()),
                c_ulong::try_from(window.offset())?,
                c_ulong::try_from(len)?,
            )
        };
        // INVARIANT: It was just mapped, as long as the BAR has so many bytes, which was checked.
        let mapped = Mapped {
            start: NonNull::new(start).ok_or(ENOMEM)?,
            len,
            pdev: pdev.into(),
        };

        Ok(Self {
            mapped: Devres::new(pdev.as_ref(), mapped)?,
            offset: window.offset(),
        })
    }

    /// Notifies the device of available buffers, which were written to memory before.
    pub fn ring(&self, doorbell: Doorbell) {
        let offset = doorbell
            .offset
            .checked_sub(self.offset)
            .and_then(|offset| usize::try_from(offset).ok());
        let (Some(offset), Some(mapped)) = (offset, self.mapped.try_access()) else {
            return;
        };

        if offset % 2 == 0 && offset.checked_add(2).is_some_and(|end| end <= mapped.len) {
            let register = mapped.start.as_ptr().wrapping_byte_add(offset);

            // SAFETY: Within the mapping, and aligned.
            unsafe { bindings::writew(doorbell.index, register) };
        }
    }
}
