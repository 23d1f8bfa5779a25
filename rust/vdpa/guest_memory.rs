// SPDX-License-Identifier: GPL-2.0

//! The memory of a consumer, as a device that is served in software reaches it.

use super::{
    bindings,
    mappings::Mappings,
    operations::KernelConsumer,
    pages::{
        Held,
        Pinned, //
    }, //
};
use core::fmt;
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    static_lock_class,
    sync::{
        barrier::{
            smp_mb,
            Full, //
        },
        Arc,
        Mutex, //
    }, //
};
use virtio::{
    iova,
    memory::Memory, //
};

/// An address, or one of several, that the consumer has not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The I/O virtual address.
    pub addr: u64,
}

/// What addresses mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// What a consumer in user space has mapped there.
    Mapped,
    /// Physical memory: the consumer is the kernel.
    Physical,
}

/// An address space of a vDPA device.
///
/// To be fed by [`Operations::dma_map`] and its like, [`Operations::get_vq_map`] and
/// [`Operations::reset`]. Nothing is mapped before: an unprivileged process that maps nothing
/// reaches nothing.
///
/// [`Operations::dma_map`]: super::Operations::dma_map
/// [`Operations::get_vq_map`]: super::Operations::get_vq_map
/// [`Operations::reset`]: super::Operations::reset
#[pin_data]
pub struct GuestMemory {
    /// Held during accesses, so that memory is not used once its mapping was removed.
    #[pin]
    meaning: Mutex<Meaning>,
    #[pin]
    mappings: Mappings,
}

/// The name of the lock. lockdep wants one address for all locks of a class, but each crate that
/// makes an address space has a copy of a literal.
static NAME: &CStr = c"vdpa::GuestMemory";

impl GuestMemory {
    /// Returns an initializer for an address space without mappings.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            meaning <- Mutex::new(Meaning::Mapped, NAME, static_lock_class!()),
            mappings <- Mappings::new(),
        })
    }

    /// Adds a mapping, and returns it.
    ///
    /// # Errors
    ///
    /// - `EFAULT` if there is no memory behind it.
    /// - `EEXIST` if it overlaps another.
    /// - `ENOMEM`
    pub fn map(&self, pinned: Pinned<'_>) -> Result<Arc<Held>> {
        let held = Arc::new(Held::new(pinned)?, GFP_KERNEL)?;
        let mut meaning = self.meaning.lock();

        *meaning = Meaning::Mapped;
        self.mappings.insert(held.clone())?;
        Ok(held)
    }

    /// Removes the mappings that have a part in a range. Their memory is not used when this returns.
    pub fn unmap(&self, range: iova::Range) {
        let _guard = self.meaning.lock();

        while self.mappings.take(range).is_some() {}
    }

    /// Calls `f` with each mapping, in ascending order, until it fails.
    pub fn for_each(&self, f: impl FnMut(Arc<Held>) -> Result) -> Result {
        self.mappings.for_each(f)
    }

    /// Removes all mappings.
    pub fn clear(&self) {
        let mut meaning = self.meaning.lock();

        *meaning = Meaning::Mapped;
        self.mappings.clear();
    }

    /// Takes addresses for physical ones, as a consumer in the kernel that maps memory for a
    /// device without an IOMMU means them.
    ///
    /// From here to [`distrust`](Self::distrust) or [`clear`](Self::clear), of which one must follow
    /// at the latest when the device is reset, there is nothing between the addresses that this
    /// address space is asked for and the memory of the machine: they must be those that the consumer
    /// has given.
    pub fn trust(&self, _: KernelConsumer<'_>) {
        *self.meaning.lock() = Meaning::Physical;
    }

    /// Takes addresses for physical ones no longer. Mappings stay.
    pub fn distrust(&self) {
        *self.meaning.lock() = Meaning::Mapped;
    }

    /// Returns the physical address of `addr` and the number of bytes that follow in memory.
    fn translate(&self, meaning: Meaning, addr: u64, write: bool) -> Option<(u64, u64)> {
        if meaning == Meaning::Physical {
            // SAFETY: Any number will do. The DMA API marks addresses of encrypted memory.
            return Some((unsafe { bindings::vdpa_sme_clr(addr) }, u64::MAX));
        }
        let mapping = self.mappings.with(addr, |held| *held.mapping())?;
        let permitted = if write {
            mapping.permission.write
        } else {
            mapping.permission.read
        };
        let offset = addr.checked_sub(mapping.range.first())?;
        let left = mapping.range.last().checked_sub(addr)?.saturating_add(1);

        permitted.then_some((mapping.addr.checked_add(offset)?, left))
    }

    /// Calls `access` with the memory of each part of a range that lies in one page.
    ///
    /// `access` is given the address of the part, which is mapped during the call, its length, and
    /// its offset in the range. Others may change the memory meanwhile.
    fn for_each_part(
        &self,
        addr: u64,
        len: usize,
        write: bool,
        mut access: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), Fault> {
        let meaning = self.meaning.lock();
        let mut done = 0;

        while let Some(left) = len.checked_sub(done).filter(|left| *left != 0) {
            let fault = Fault { addr };
            let at = u64::try_from(done)
                .ok()
                .and_then(|done| addr.checked_add(done))
                .ok_or(fault)?;
            let (pa, contiguous) = self.translate(*meaning, at, write).ok_or(fault)?;
            let in_page = usize::try_from(pa).map_err(|_| fault)? & (PAGE_SIZE - 1);
            let part = left
                .min(PAGE_SIZE - in_page)
                .min(usize::try_from(contiguous).unwrap_or(usize::MAX));
            let pfn = usize::try_from(pa >> PAGE_SHIFT).map_err(|_| fault)?;

            // SAFETY: Any number will do.
            if !unsafe { bindings::vdpa_pfn_valid(pfn) } {
                return Err(fault);
            }
            // SAFETY: The page exists. Its mapping was just found, and cannot go while `meaning` is
            // locked; its `Held` keeps the page. If addresses are physical ones, the consumer in the
            // kernel keeps what it has given the address of: see `trust`.
            let page = unsafe { bindings::vdpa_kmap_local_pfn(pfn) }.cast::<u8>();
            // `part` ends within the page.
            access(page.wrapping_add(in_page), part, done);
            // SAFETY: It was mapped above, by the same thread, and nothing was mapped since: `access`
            // only copies.
            unsafe { bindings::vdpa_kunmap_local(page.cast()) };
            done = done.saturating_add(part);
        }
        Ok(())
    }

    /// Calls `access` with the address of a 16-bit number.
    fn with_index(
        &self,
        addr: u64,
        write: bool,
        mut access: impl FnMut(*mut u16),
    ) -> Result<(), Fault> {
        // An aligned number does not cross a page.
        if addr % 2 != 0 {
            return Err(Fault { addr });
        }
        let mut whole = false;
        self.for_each_part(addr, 2, write, |ptr, len, _| {
            let ptr = ptr.cast::<u16>();
            if len == 2 && ptr.is_aligned() {
                whole = true;
                access(ptr);
            }
        })?;
        if !whole {
            return Err(Fault { addr });
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {:#x} is not mapped", self.addr)
    }
}

impl Memory for GuestMemory {
    type Error = Fault;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.for_each_part(addr, buf.len(), false, |ptr, len, offset| {
            if let Some(to) = buf.get_mut(offset..).and_then(|rest| rest.get_mut(..len)) {
                // SAFETY: Both are valid for `len` bytes, and do not overlap, as `buf` is the kernel's.
                // This is a function of C: if somebody writes at the same time, the bytes are
                // arbitrary, but that is all.
                unsafe { bindings::memcpy(to.as_mut_ptr().cast(), ptr.cast(), len) };
            }
        })
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Fault> {
        self.for_each_part(addr, buf.len(), true, |ptr, len, offset| {
            if let Some(from) = buf.get(offset..).and_then(|rest| rest.get(..len)) {
                // SAFETY: As in `read`.
                unsafe { bindings::memcpy(ptr.cast(), from.as_ptr().cast(), len) };
            }
        })
    }

    fn read_index(&self, addr: u64) -> Result<u16, Fault> {
        let mut index = 0;
        self.with_index(addr, false, |ptr| {
            // SAFETY: `ptr` is valid and aligned. Others write it by single accesses, too.
            index = u16::from_le(unsafe { ptr.read_volatile() });
        })?;
        self.full_barrier();
        Ok(index)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Fault> {
        self.full_barrier();
        self.with_index(addr, true, |ptr| {
            // SAFETY: `ptr` is valid and aligned. Others read it by single accesses, too.
            unsafe { ptr.write_volatile(index.to_le()) };
        })
    }

    fn full_barrier(&self) {
        smp_mb(Full);
    }
}

#[kunit_tests(rust_vdpa_guest_memory)]
mod tests {
    use super::*;
    use crate::own_memory::Pages;

    /// Where the first page is mapped.
    const BASE: u64 = 0x4000_0000;
    /// As an address.
    const PAGE: u64 = 1 << PAGE_SHIFT;

    /// Two pages that follow each other for the consumer, but lie the other way around in memory; the
    /// second one for reading only, if not `writable`.
    fn two_pages(writable: bool) -> Result<(Arc<GuestMemory>, Pages)> {
        let memory = Arc::pin_init(GuestMemory::new(), GFP_KERNEL)?;
        let pages = Pages::new(2 * PAGE_SIZE)?;

        for (part, at, write) in [
            (PAGE_SIZE..2 * PAGE_SIZE, BASE, true),
            (0..PAGE_SIZE, BASE + PAGE, writable),
        ] {
            let held = Arc::new(pages.hold(part, at, write)?, GFP_KERNEL)?;
            memory.mappings.insert(held)?;
        }
        Ok((memory, pages))
    }

    #[test]
    fn nothing_is_mapped_at_first() -> Result {
        let memory = Arc::pin_init(GuestMemory::new(), GFP_KERNEL)?;

        assert_eq!(memory.read(BASE, &mut [0]), Err(Fault { addr: BASE }));
        assert_eq!(memory.write(BASE, &[0]), Err(Fault { addr: BASE }));
        assert_eq!(memory.read_index(0), Err(Fault { addr: 0 }));
        assert_eq!(memory.read(BASE, &mut []), Ok(()));
        Ok(())
    }

    #[test]
    fn an_access_spans_mappings() -> Result {
        let (memory, _pages) = two_pages(true)?;
        let across = BASE + PAGE - 3;
        let mut back = [0; 8];

        assert_eq!(memory.write(across, b"spanning"), Ok(()));
        assert_eq!(memory.read(across, &mut back), Ok(()));
        assert_eq!(&back, b"spanning");
        // Each part is where it belongs.
        assert_eq!(memory.read(BASE + PAGE, &mut back), Ok(()));
        assert_eq!(&back, b"nning\0\0\0");
        Ok(())
    }

    #[test]
    fn the_end_is_the_end() -> Result {
        let (memory, _pages) = two_pages(true)?;
        let end = BASE + 2 * PAGE;

        assert_eq!(memory.read(end - 4, &mut [0; 4]), Ok(()));
        assert!(memory.read(end - 4, &mut [0; 5]).is_err());
        assert!(memory.read(BASE - 1, &mut [0; 2]).is_err());
        assert!(memory.read(u64::MAX, &mut [0; 2]).is_err());
        Ok(())
    }

    #[test]
    fn permissions_bind() -> Result {
        let (memory, _pages) = two_pages(false)?;
        let mut back = [1; 4];

        assert_eq!(memory.write(BASE, b"a"), Ok(()));
        assert!(memory.write(BASE + PAGE, b"a").is_err());
        assert!(memory.write_index(BASE + PAGE, 1).is_err());
        assert_eq!(memory.read(BASE + PAGE, &mut back), Ok(()));
        assert_eq!(back, [0; 4]);
        Ok(())
    }

    #[test]
    fn indices_are_aligned() -> Result {
        let (memory, _pages) = two_pages(true)?;

        assert_eq!(memory.write_index(BASE + 2, 0x1234), Ok(()));
        assert_eq!(memory.read_index(BASE + 2), Ok(0x1234));
        assert!(memory.read_index(BASE + 1).is_err());
        assert!(memory.write_index(BASE + 3, 1).is_err());
        Ok(())
    }

    #[test]
    fn what_overlaps_is_refused() -> Result {
        let (memory, pages) = two_pages(true)?;
        let again = Arc::new(pages.hold(0..PAGE_SIZE, BASE + PAGE, true)?, GFP_KERNEL)?;

        assert_eq!(memory.mappings.insert(again), Err(EEXIST));
        assert_eq!(memory.write(BASE, &[0; 2 * PAGE_SIZE]), Ok(()));
        Ok(())
    }

    #[test]
    fn what_was_unmapped_is_gone() -> Result {
        let (memory, _pages) = two_pages(true)?;
        let part = iova::Range::from_size(BASE + 8, 1).ok_or(EINVAL)?;
        let mut count = 0;

        // A part is enough: a mapping goes as a whole.
        memory.unmap(part);
        assert!(memory.read(BASE, &mut [0]).is_err());
        assert_eq!(memory.read(BASE + PAGE, &mut [0]), Ok(()));
        memory.for_each(|_| {
            count += 1;
            Ok(())
        })?;
        assert_eq!(count, 1);
        memory.clear();
        assert!(memory.mappings.is_empty());
        Ok(())
    }

    #[test]
    fn memory_that_is_not_there_is_refused() -> Result {
        let memory = Arc::pin_init(GuestMemory::new(), GFP_KERNEL)?;
        let range = iova::Range::from_size(BASE, PAGE).ok_or(EINVAL)?;
        let permission = crate::iotlb::Permission {
            read: true,
            write: true,
        };

        for addr in [1 << 51, u64::MAX - PAGE, u64::MAX] {
            // SAFETY: The kernel has no pages for this.
            let nowhere = unsafe {
                Pinned::new(crate::iotlb::Mapping {
                    range,
                    addr,
                    permission,
                })
            };
            assert_eq!(memory.map(nowhere).map(|_| ()), Err(EFAULT));
        }
        assert!(memory.mappings.is_empty());
        Ok(())
    }
}
