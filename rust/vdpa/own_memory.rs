// SPDX-License-Identifier: GPL-2.0

//! Memory of a driver's own that its device reaches, too.

use super::{
    bindings,
    iommu::Domain,
    iotlb::{
        Mapping,
        Permission, //
    },
    pages::{
        Held,
        Pinned, //
    }, //
};
use core::{
    fmt,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    device::{
        self,
        Bound, //
    },
    dma::Coherent,
    ffi::{
        c_uint,
        c_void, //
    },
    page::{
        page_align,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        barrier::{
            dma_mb,
            Full, //
        },
        Arc, //
    }, //
};
use virtio::{
    iova,
    memory::Memory, //
};

/// Pages in one piece, all 0 at first. Dropping it frees those to which nobody else has a reference.
///
/// # Invariants
///
/// `start` is the address of `2^order` pages, a compound page if they are several.
pub(crate) struct Pages {
    start: NonNull<u8>,
    order: c_uint,
}

// SAFETY: Pages may be used and freed by any thread.
unsafe impl Send for Pages {}

// SAFETY: Nothing of theirs is read or written through a shared reference.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates as many pages as hold `len` bytes, rounded up to a power of two. May sleep. The kernel says
    /// nothing if there are none: how many are asked for may be a process's choice.
    pub(crate) fn new(len: usize) -> Result<Self> {
        let pages = len.div_ceil(PAGE_SIZE).next_power_of_two();
        let order = pages.trailing_zeros();
        let flags = bindings::GFP_KERNEL_ACCOUNT
            | 1 << bindings::___GFP_NOWARN_BIT
            | 1 << bindings::___GFP_ZERO_BIT
            | 1 << bindings::___GFP_COMP_BIT;

        // SAFETY: Any size may be asked for.
        let start = unsafe { bindings::get_free_pages_noprof(flags, order) };
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut(start)).ok_or(ENOMEM)?;
        // INVARIANT: They were just allocated.
        Ok(Self { start, order })
    }

    fn len(&self) -> usize {
        PAGE_SIZE << self.order
    }

    /// Returns the physical address of the byte at an offset that is within the pages.
    pub(crate) fn physical(&self, offset: usize) -> u64 {
        let start = self.start.as_ptr().wrapping_add(offset).cast::<c_void>();

        // SAFETY: By the type invariant, the pages are in the kernel's linear mapping. This only
        // computes with the address.
        unsafe { bindings::vdpa_virt_to_phys(start) }
    }

    /// Makes a mapping of a part of the pages at `at`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is empty, or not within the pages.
    pub(crate) fn hold(&self, part: Range<usize>, at: u64, write: bool) -> Result<Held> {
        let len = part.end.checked_sub(part.start).ok_or(EINVAL)?;
        let range = iova::Range::from_size(at, u64::try_from(len)?).ok_or(EINVAL)?;
        if part.end > self.len() {
            return Err(EINVAL);
        }
        let mapping = Mapping {
            range,
            addr: self.physical(part.start),
            permission: Permission { read: true, write },
        };

        // SAFETY: `self` has a reference to the pages during this call, to all of them by that to the
        // first, as they are a compound page.
        Held::new(unsafe { Pinned::new(mapping) })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Whoever has references to them keeps them: of a compound page,
        // this only gives one back.
        unsafe { bindings::free_pages(self.start.as_ptr().expose_provenance(), self.order) };
    }
}

/// What keeps the memory.
enum Owner {
    Pages(#[expect(dead_code)] Pages),
    Coherent(#[expect(dead_code)] Coherent<[u8]>),
}

/// Memory that driver and device share, at the addresses of the device, in two parts: the device has a reason
/// to write to the second one only, which has pages of its own.
///
/// # Invariants
///
/// `start` is valid for `len` bytes for as long as `owner` lives.
pub struct OwnMemory {
    start: NonNull<u8>,
    len: usize,
    address: u64,
    writable: u64,
    _owner: Owner,
}

// SAFETY: The memory may be used and freed by any thread that may sleep.
unsafe impl Send for OwnMemory {}

// SAFETY: As above. Accesses are like those of the device, which does not wait for anybody either.
unsafe impl Sync for OwnMemory {}

impl OwnMemory {
    /// Allocates memory for a function that the DMA API maps for, all 0: so many bytes of the first part, and
    /// of the second. May sleep.
    ///
    /// The device must not use it any more when it is dropped.
    pub fn coherent(
        dev: &device::Device<Bound>,
        read_only: usize,
        writable: usize,
    ) -> Result<Self> {
        let border = page_align(read_only).ok_or(EINVAL)?;
        let len = border.checked_add(writable).ok_or(EINVAL)?;
        let memory = Coherent::<u8>::zeroed_slice(dev, len, GFP_KERNEL)?;
        let address = memory.dma_address();

        // INVARIANT: A coherent allocation is valid for its length.
        Ok(Self {
            start: NonNull::new(memory.as_mut_ptr().cast()).ok_or(ENOMEM)?,
            len,
            address,
            writable: address.checked_add(u64::try_from(border)?).ok_or(EINVAL)?,
            _owner: Owner::Coherent(memory),
        })
    }

    /// Allocates memory, all 0, and maps it in a domain, from the start of `slot` on: so many bytes of the
    /// first part, and of the second. May sleep.
    ///
    /// Whoever makes the device do DMA can name these addresses, too: the device cannot write to the
    /// first part, so that nobody can have it do so.
    ///
    /// It stays allocated until the mappings are removed.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` if the slot is too small for as many whole pages.
    /// - `ENOMEM`
    /// - As [`Domain::map`].
    pub fn mapped(
        domain: &Domain<'_>,
        slot: iova::Range,
        read_only: usize,
        writable: usize,
    ) -> Result<Self> {
        let border = page_align(read_only).ok_or(EINVAL)?;
        let len = border.checked_add(writable).ok_or(EINVAL)?;
        let pages = Pages::new(len)?;
        let at = slot.first();
        let whole = iova::Range::from_size(at, u64::try_from(pages.len())?).ok_or(ENOSPC)?;

        if !slot.contains(whole) {
            return Err(ENOSPC);
        }
        let writable = at.checked_add(u64::try_from(border)?).ok_or(EINVAL)?;
        let second = pages.hold(border..pages.len(), writable, true)?;

        domain.map(Arc::new(second, GFP_KERNEL)?)?;
        if border != 0 {
            let first = pages.hold(0..border, at, false)?;
            domain.map(Arc::new(first, GFP_KERNEL)?)?;
        }
        // INVARIANT: The pages are at least as long.
        Ok(Self {
            start: pages.start,
            len,
            address: at,
            writable,
            _owner: Owner::Pages(pages),
        })
    }

    /// Returns where the device finds the first part.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Returns where the device finds the second part, to which it may write.
    pub fn writable(&self) -> u64 {
        self.writable
    }

    /// Returns the address of `len` bytes at the device address `addr`.
    fn locate(&self, addr: u64, len: usize) -> Result<*mut u8, OutOfBounds> {
        let offset = addr
            .checked_sub(self.address)
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or(OutOfBounds)?;
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;

        if end > self.len {
            return Err(OutOfBounds);
        }
        Ok(self.start.as_ptr().wrapping_add(offset))
    }

    /// Returns the address of a 16-bit number.
    fn locate_index(&self, addr: u64) -> Result<*mut u16, OutOfBounds> {
        let ptr = self.locate(addr, 2)?.cast::<u16>();

        if !ptr.is_aligned() {
            return Err(OutOfBounds);
        }
        Ok(ptr)
    }
}

/// An address that is not in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("address is out of bounds")
    }
}

impl Memory for OwnMemory {
    type Error = OutOfBounds;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.locate(addr, buf.len())?;

        // SAFETY: Both are valid for the length of `buf`, and do not overlap, as there are no references
        // to the memory. This is a function of C: if the device writes at the same time, the bytes are
        // arbitrary, but that is all.
        unsafe { bindings::memcpy(buf.as_mut_ptr().cast(), from.cast(), buf.len()) };
        Ok(())
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.locate(addr, buf.len())?;

        // SAFETY: As in `read`.
        unsafe { bindings::memcpy(to.cast(), buf.as_ptr().cast(), buf.len()) };
        Ok(())
    }

    fn read_index(&self, addr: u64) -> Result<u16, OutOfBounds> {
        let ptr = self.locate_index(addr)?;
        // SAFETY: `ptr` is valid and aligned. The device writes it by single accesses, too.
        let index = u16::from_le(unsafe { ptr.read_volatile() });

        self.full_barrier();
        Ok(index)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), OutOfBounds> {
        let ptr = self.locate_index(addr)?;

        self.full_barrier();
        // SAFETY: `ptr` is valid and aligned. The device reads it by single accesses, too.
        unsafe { ptr.write_volatile(index.to_le()) };
        Ok(())
    }

    fn full_barrier(&self) {
        dma_mb(Full);
    }
}
