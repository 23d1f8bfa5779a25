// SPDX-License-Identifier: GPL-2.0

//! Registers of a function, for whoever does not know whether it is still bound.

use super::{
    bindings,
    pci::{
        as_raw,
        memory_bar_len, //
    }, //
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

/// A window of a BAR, mapped. Dropping it unmaps it.
///
/// # Invariants
///
/// `start` is where the window is mapped, `len` bytes of it, if `len` is not 0. It is memory, not I/O
/// ports.
struct Mapped {
    start: NonNull<c_void>,
    len: usize,
    pdev: ARef<pci::Device>,
}

impl Mapped {
    /// Returns the address of a register of `size` bytes, [`None`] if that is not in the window, or
    /// not aligned.
    fn locate(&self, offset: u32, size: usize) -> Option<*mut c_void> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(size)?;
        let register = self.start.as_ptr().wrapping_byte_add(offset);

        (end <= self.len && register.addr() % size == 0).then_some(register)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Nobody else has a `Mapped` than `Devres`, which drops it when
        // nobody accesses it any more.
        unsafe { bindings::pci_iounmap(as_raw(&self.pdev), self.start.as_ptr()) };
    }
}

// SAFETY: A mapping of registers may be used by any thread.
unsafe impl Send for Mapped {}

// SAFETY: As above. An access to a register needs no synchronization of its own.
unsafe impl Sync for Mapped {}

/// The registers in a window of a BAR. They can be used in any context, also when the function is not
/// bound any more: what is read then is all ones, as it is when the function is gone, and what is
/// written is dropped.
pub(crate) struct Registers(Devres<Mapped>);

/// Defines an access of each kind for registers of one size.
macro_rules! accesses {
    ($($read:ident, $write:ident, $ty:ty, $c_read:ident, $c_write:ident;)*) => {
        $(
            pub(crate) fn $read(&self, offset: u32) -> $ty {
                let mapped = self.0.try_access();
                let register = mapped
                    .as_ref()
                    .and_then(|mapped| mapped.locate(offset, size_of::<$ty>()));

                match register {
                    // SAFETY: `locate` returns the address of a register that is mapped, and stays
                    // so while `mapped` guards it.
                    Some(register) => unsafe { bindings::$c_read(register) },
                    None => <$ty>::MAX,
                }
            }

            /// What was written to memory before is there when the device sees the register change.
            pub(crate) fn $write(&self, offset: u32, value: $ty) {
                let mapped = self.0.try_access();
                let register = mapped
                    .as_ref()
                    .and_then(|mapped| mapped.locate(offset, size_of::<$ty>()));

                if let Some(register) = register {
                    // SAFETY: As in reading.
                    unsafe { bindings::$c_write(value, register) };
                }
            }
        )*
    };
}

impl Registers {
    /// Maps a window.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if it is not within a memory BAR of this function, whatever the layout that it
    ///   comes from was checked against.
    /// - `ENOMEM`
    pub(crate) fn new(pdev: &pci::Device<Bound>, window: &Window) -> Result<Self> {
        let len = usize::try_from(window.length())?;
        let end = u64::from(window.offset()).checked_add(u64::from(window.length()));
        let bar_len = memory_bar_len(pdev, u32::from(window.bar())).ok_or(EINVAL)?;

        // The C function would map less than it is asked for.
        if end.is_none_or(|end| end > bar_len) {
            return Err(EINVAL);
        }
        // SAFETY: The function is valid and bound, so that its BARs stay where they are.
        let start = unsafe {
            bindings::pci_iomap_range(
                as_raw(pdev),
                c_int::from(window.bar()),
                c_ulong::try_from(window.offset())?,
                c_ulong::try_from(len)?,
            )
        };
        // INVARIANT: It was just mapped; the BAR has so many bytes.
        let mapped = Mapped {
            start: NonNull::new(start).ok_or(ENOMEM)?,
            len,
            pdev: pdev.into(),
        };

        Ok(Self(Devres::new(pdev.as_ref(), mapped)?))
    }

    accesses! {
        read8, write8, u8, readb, writeb;
        read16, write16, u16, readw, writew;
        read32, write32, u32, readl, writel;
    }
}
