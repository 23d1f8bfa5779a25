// SPDX-License-Identifier: GPL-2.0

//! The memory of a consumer, as a device that is served in software reaches it.

#[cfg(CONFIG_KUNIT = "y")]
use super::own_memory::Pages;
use super::{
    bindings,
    mappings::Mappings,
    operations::KernelConsumer,
    pages::{
        Held,
        Pinned, //
    },
    parts::{
        self,
        Translate, //
    },
    view, //
};
use core::fmt;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        Arc,
        Mutex,
        MutexGuard, //
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

/// What [`GuestMemory`] protects.
struct State {
    meaning: Meaning,
    /// Those who know where some of the mappings are.
    views: KVec<Arc<view::Shared>>,
}

impl State {
    const EMPTY: Self = Self {
        meaning: Meaning::Mapped,
        views: KVec::new(),
    };

    fn take_addresses_for(&mut self, meaning: Meaning) {
        if self.meaning != meaning {
            self.forget(iova::Range::ALL);
        }
        self.meaning = meaning;
    }

    /// Has memory used no longer whose mapping is not there any more.
    fn forget(&self, range: iova::Range) {
        for view in &self.views {
            view.forget(range);
        }
    }
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
    state: Mutex<State>,
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
            state <- Mutex::new(State::EMPTY, NAME, static_lock_class!()),
            mappings <- Mappings::new(),
        })
    }

    fn lock(&self) -> Locked<'_> {
        Locked {
            state: self.state.lock(),
            mappings: &self.mappings,
        }
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
        let mut state = self.state.lock();

        state.take_addresses_for(Meaning::Mapped);
        self.mappings.insert(held.clone())?;
        Ok(held)
    }

    /// Removes the mappings that have a part in a range. Their memory is not used when this returns.
    pub fn unmap(&self, range: iova::Range) {
        let state = self.state.lock();

        while let Some(held) = self.mappings.take(range) {
            // A mapping goes as a whole.
            state.forget(held.mapping().range);
        }
    }

    /// Calls `f` with each mapping, in ascending order, until it fails.
    pub fn for_each(&self, f: impl FnMut(Arc<Held>) -> Result) -> Result {
        self.mappings.for_each(f)
    }

    /// Removes all mappings.
    pub fn clear(&self) {
        let mut state = self.state.lock();

        state.take_addresses_for(Meaning::Mapped);
        state.forget(iova::Range::ALL);
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
        self.state.lock().take_addresses_for(Meaning::Physical);
    }

    /// Takes addresses for physical ones no longer. Mappings stay.
    pub fn distrust(&self) {
        self.state.lock().take_addresses_for(Meaning::Mapped);
    }

    /// Adds a mapping of pages of the kernel's own.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn hold(
        &self,
        pages: &Pages,
        part: core::ops::Range<usize>,
        at: u64,
        write: bool,
    ) -> Result {
        let held = Arc::new(pages.hold(part, at, write)?, GFP_KERNEL)?;

        self.mappings.insert(held)
    }

    /// Returns how many views are told of mappings that go.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn views(&self) -> usize {
        self.state.lock().views.len()
    }

    /// Tells a view from now on of mappings that go.
    pub(crate) fn add_view(&self, view: Arc<view::Shared>) -> Result {
        Ok(self.state.lock().views.push(view, GFP_KERNEL)?)
    }

    /// Tells a view no longer.
    pub(crate) fn remove_view(&self, view: &Arc<view::Shared>) {
        let mut state = self.state.lock();

        state.views.retain(|other| !Arc::ptr_eq(other, view));
    }

    /// Looks up where the ranges of a view are.
    pub(crate) fn locate(&self, view: &view::Shared) -> Result<(), Fault> {
        let locked = self.lock();

        // SAFETY: `find` returns what is in mappings, with their permissions, none of which can go without
        // the lock that is held. Whoever removes one calls `forget` with that lock.
        unsafe { view.locate(|addr, write| locked.find(addr, write)) }
    }
}

/// An address space whose mappings stay.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    mappings: &'a Mappings,
}

impl Locked<'_> {
    /// Returns where a mapping says that `addr` is, and the number of bytes that follow each other.
    fn find(&self, addr: u64, write: bool) -> Option<(u64, u64)> {
        if self.state.meaning != Meaning::Mapped {
            return None;
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
}

// SAFETY: The mapping is found under the lock that is held, without which it cannot go, and its
// `Held` keeps the pages. If addresses are physical ones, the consumer in the kernel keeps what it has
// given the address of: see `trust`.
unsafe impl Translate for Locked<'_> {
    fn translate(&self, addr: u64, write: bool) -> Option<(u64, u64)> {
        if self.state.meaning == Meaning::Physical {
            // SAFETY: Any number will do. The DMA API marks addresses of encrypted memory.
            return Some((unsafe { bindings::vdpa_sme_clr(addr) }, u64::MAX));
        }
        self.find(addr, write)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {:#x} is not mapped, or not for this", self.addr)
    }
}

impl Memory for GuestMemory {
    type Error = Fault;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        parts::read(&self.lock(), addr, buf)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Fault> {
        parts::write(&self.lock(), addr, buf)
    }

    fn read_index(&self, addr: u64) -> Result<u16, Fault> {
        parts::read_index(&self.lock(), addr)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Fault> {
        parts::write_index(&self.lock(), addr, index)
    }

    fn full_barrier(&self) {
        parts::full_barrier();
    }
}

#[kunit_tests(rust_vdpa_guest_memory)]
mod tests {
    use super::*;
    use kernel::page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    };

    /// Where the first page is mapped.
    const BASE: u64 = 0x4000_0000;
    /// As an address.
    const PAGE: u64 = 1 << PAGE_SHIFT;

    /// Two pages that follow each other for the consumer, but lie the other way around in memory; the
    /// second one for reading only, if not `writable`.
    fn two_pages(writable: bool) -> Result<(Arc<GuestMemory>, Pages)> {
        let memory = Arc::pin_init(GuestMemory::new(), GFP_KERNEL)?;
        let pages = Pages::new(2 * PAGE_SIZE)?;

        memory.hold(&pages, PAGE_SIZE..2 * PAGE_SIZE, BASE, true)?;
        memory.hold(&pages, 0..PAGE_SIZE, BASE + PAGE, writable)?;
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
        let again = memory.hold(&pages, 0..PAGE_SIZE, BASE + PAGE, true);

        assert_eq!(again, Err(EEXIST));
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
    fn a_view_is_of_what_is_mapped() -> Result {
        let (memory, _pages) = two_pages(true)?;
        let range = iova::Range::from_size(BASE, PAGE).ok_or(EINVAL)?;
        let view = view::View::new(memory.clone(), range, range)?;

        assert_eq!(view.locate(), Ok(()));
        memory.state.lock().take_addresses_for(Meaning::Physical);
        assert!(view.access().is_none());
        assert_eq!(view.locate(), Err(Fault { addr: BASE }));
        memory.distrust();
        assert!(view.access().is_none());
        assert_eq!(view.locate(), Ok(()));
        assert!(view.access().is_some());
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
