// SPDX-License-Identifier: GPL-2.0

//! Two ranges of a consumer's memory, as they are reached in any context.
//!
//! To look an address up, locks are needed under which others allocate memory. Who serves a ring from a
//! kick or an interrupt has looked up before where it is: a [`View`] knows the pages of its ranges for
//! as long as they are mapped.

use super::{
    guest_memory::{
        Fault,
        GuestMemory, //
    },
    parts::{
        self,
        Translate, //
    }, //
};
use kernel::{
    new_spinlock_irq,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq,
        SpinLockIrqGuard, //
    }, //
};
use virtio::{
    iova,
    memory::Memory, //
};

/// The size of a page, as an address.
const PAGE: u64 = 1 << PAGE_SHIFT;

/// Returns which page of a range an address lies in.
fn page_number(range: iova::Range, addr: u64) -> Option<usize> {
    let pages = (addr / PAGE).checked_sub(range.first() / PAGE)?;

    usize::try_from(pages).ok()
}

/// Returns the number of bytes from `addr` on that are on its page and in a range.
fn left_on_page(range: iova::Range, addr: u64) -> Option<u64> {
    let last = (addr | (PAGE - 1)).min(range.last());

    last.checked_sub(addr)?.checked_add(1)
}

/// A range, and where its pages are.
struct Located {
    range: iova::Range,
    /// For each page, the physical address of its first byte that is in the range.
    addrs: KVec<u64>,
}

impl Located {
    fn new(range: iova::Range) -> Result<Self> {
        let last = page_number(range, range.last()).ok_or(EINVAL)?;
        let count = last.checked_add(1).ok_or(EINVAL)?;

        Ok(Self {
            range,
            addrs: KVec::from_elem(0, count, GFP_KERNEL)?,
        })
    }

    /// Looks the pages up.
    fn locate(&mut self, translate: impl Fn(u64) -> Option<(u64, u64)>) -> Result<(), Fault> {
        let mut addr = self.range.first();

        for slot in &mut self.addrs {
            let fault = Fault { addr };
            let left = left_on_page(self.range, addr).ok_or(fault)?;

            *slot = translate(addr)
                // An IOMMU, and so whoever feeds one, maps whole pages.
                .filter(|(_, contiguous)| *contiguous >= left)
                .ok_or(fault)?
                .0;
            addr = addr.saturating_add(left);
        }
        Ok(())
    }

    /// As [`Translate::translate`].
    fn translate(&self, addr: u64) -> Option<(u64, u64)> {
        let byte = iova::Range::from_bounds(addr, addr)?;
        if !self.range.contains(byte) {
            return None;
        }
        let first = (addr & !(PAGE - 1)).max(self.range.first());
        let pa = self.addrs.get(page_number(self.range, addr)?)?;

        Some((
            pa.checked_add(addr.checked_sub(first)?)?,
            left_on_page(self.range, addr)?,
        ))
    }
}

/// The two ranges: both are read, and one is written to.
struct Ranges {
    read: Located,
    written: Located,
}

impl Ranges {
    fn locate(&mut self, translate: impl Fn(u64, bool) -> Option<(u64, u64)>) -> Result<(), Fault> {
        self.read.locate(|addr| translate(addr, false))?;
        self.written.locate(|addr| {
            let readable = translate(addr, false).is_some();

            translate(addr, true).filter(|_| readable)
        })
    }
}

/// What [`Shared`] protects.
///
/// # Invariants
///
/// If `valid`, the pages are those of mappings with the permission for it, which are there.
struct Content {
    /// [`None`] while they are being looked up.
    ranges: Option<Ranges>,
    /// They may be used.
    valid: bool,
}

/// The part of a [`View`] that its address space has, too.
#[pin_data]
pub(crate) struct Shared {
    read: iova::Range,
    written: iova::Range,
    /// Held during accesses, so that memory is not used once its mapping was removed.
    #[pin]
    content: SpinLockIrq<Content>,
}

impl Shared {
    fn new(read: iova::Range, written: iova::Range) -> Result<Arc<Self>> {
        let ranges = Some(Ranges {
            read: Located::new(read)?,
            written: Located::new(written)?,
        });
        let content = Content {
            ranges,
            valid: false,
        };

        Arc::pin_init(
            pin_init!(Self {
                read,
                written,
                content <- new_spinlock_irq!(content, "vdpa::view::Shared"),
            }),
            GFP_KERNEL,
        )
    }

    /// Forgets where the pages are, if there is one with a part in a range of addresses. They are not
    /// used when this returns.
    pub(crate) fn forget(&self, range: iova::Range) {
        if self.read.overlaps(range) || self.written.overlaps(range) {
            self.content.lock().valid = false;
        }
    }

    /// Looks up where the pages are, unless that is known.
    ///
    /// # Safety
    ///
    /// What `translate` returns is of mappings with the permission for it, which stay until
    /// [`forget`](Self::forget) is called for them, and not during this call. Only one does this at a
    /// time.
    pub(crate) unsafe fn locate(
        &self,
        translate: impl Fn(u64, bool) -> Option<(u64, u64)>,
    ) -> Result<(), Fault> {
        let mut content = self.content.lock();
        if content.valid {
            return Ok(());
        }
        let ranges = content.ranges.take();
        drop(content);

        let Some(mut ranges) = ranges else {
            return Ok(());
        };
        // Locks are taken for this that are not for interrupts.
        let result = ranges.locate(translate);
        let mut content = self.content.lock();
        content.ranges = Some(ranges);
        // INVARIANT: They were all found, and by the safety requirements what was found is still true.
        content.valid = result.is_ok();
        result
    }
}

/// Two ranges of an address space: one that is read, and one that is read and written to.
pub struct View {
    memory: Arc<GuestMemory>,
    shared: Arc<Shared>,
}

impl View {
    /// Makes a view of two ranges, of which nothing is known yet. May sleep.
    pub fn new(memory: Arc<GuestMemory>, read: iova::Range, written: iova::Range) -> Result<Self> {
        let shared = Shared::new(read, written)?;

        memory.add_view(shared.clone())?;
        Ok(Self { memory, shared })
    }

    /// Returns all of the memory, for those who may sleep.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Looks up where the ranges are, if that is not known, or known no longer. May sleep.
    ///
    /// # Errors
    ///
    /// The address that is not mapped, or not for this purpose.
    pub fn locate(&self) -> Result<(), Fault> {
        self.memory.locate(&self.shared)
    }

    /// Returns the memory for a short time, during which nobody can remove a mapping; [`None`] if it
    /// has to be [located](Self::locate) first. Any context.
    pub fn access(&self) -> Option<Access<'_>> {
        let content = self.shared.content.lock();

        content.valid.then_some(Access(content))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.memory.remove_view(&self.shared);
    }
}

/// The memory of a [`View`], which may be used. Interrupts are off.
pub struct Access<'a>(SpinLockIrqGuard<'a, Content>);

// SAFETY: It was made when the content was valid, and has the lock without which `forget` cannot change
// that. By the invariant the pages are those of mappings, and whoever removes a mapping calls `forget`
// before he gives up its pages; and so does who takes addresses for something else.
unsafe impl Translate for Access<'_> {
    fn translate(&self, addr: u64, write: bool) -> Option<(u64, u64)> {
        let ranges = self.0.ranges.as_ref()?;
        let written = ranges.written.translate(addr);

        if write {
            written
        } else {
            ranges.read.translate(addr).or(written)
        }
    }
}

impl Memory for Access<'_> {
    type Error = Fault;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        parts::read(self, addr, buf)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Fault> {
        parts::write(self, addr, buf)
    }

    fn read_index(&self, addr: u64) -> Result<u16, Fault> {
        parts::read_index(self, addr)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Fault> {
        parts::write_index(self, addr, index)
    }

    fn full_barrier(&self) {
        parts::full_barrier();
    }
}

#[kunit_tests(rust_vdpa_view)]
mod tests {
    use super::*;
    use crate::own_memory::Pages;
    use kernel::page::PAGE_SIZE;

    /// Where the first page is mapped.
    const BASE: u64 = 0x4000_0000;

    /// Two pages that follow each other for the consumer, but lie the other way around in memory; the
    /// second one for reading only.
    fn two_pages() -> Result<(Arc<GuestMemory>, Pages)> {
        let memory = Arc::pin_init(GuestMemory::new(), GFP_KERNEL)?;
        let pages = Pages::new(2 * PAGE_SIZE)?;

        memory.hold(&pages, PAGE_SIZE..2 * PAGE_SIZE, BASE, true)?;
        memory.hold(&pages, 0..PAGE_SIZE, BASE + PAGE, false)?;
        Ok((memory, pages))
    }

    /// The view reads the last bytes of the first page and the first ones of the second, and writes to
    /// some of the first page.
    fn view_of(memory: &Arc<GuestMemory>) -> Result<View> {
        let read = iova::Range::from_size(BASE + PAGE - 8, 16).ok_or(EINVAL)?;
        let written = iova::Range::from_size(BASE + 2, 8).ok_or(EINVAL)?;

        View::new(memory.clone(), read, written)
    }

    #[test]
    fn a_view_is_the_memory() -> Result {
        let (memory, _pages) = two_pages()?;
        let view = view_of(&memory)?;
        let mut back = [0; 16];

        assert!(view.access().is_none());
        assert_eq!(view.locate(), Ok(()));
        assert_eq!(memory.write(BASE + PAGE - 8, b"at last!"), Ok(()));
        {
            let access = view.access().ok_or(EINVAL)?;

            assert_eq!(access.read(BASE + PAGE - 8, &mut back), Ok(()));
            assert_eq!(&back, b"at last!\0\0\0\0\0\0\0\0");
            assert_eq!(access.write(BASE + 2, b"a word"), Ok(()));
            assert_eq!(access.write_index(BASE + 8, 0x0a21), Ok(()));
            assert_eq!(
                access.read_index(BASE + PAGE - 2),
                Ok(u16::from_le_bytes(*b"t!"))
            );
            assert_eq!(access.read_index(BASE + 8), Ok(0x0a21));
        }
        assert_eq!(memory.read(BASE, &mut back), Ok(()));
        assert_eq!(&back, b"\0\0a word!\n\0\0\0\0\0\0");
        Ok(())
    }

    #[test]
    fn a_view_has_bounds() -> Result {
        let (memory, _pages) = two_pages()?;
        let view = view_of(&memory)?;

        assert_eq!(view.locate(), Ok(()));
        let access = view.access().ok_or(EINVAL)?;
        // One is only read.
        assert!(access.write(BASE + PAGE, &[0]).is_err());
        assert!(access.read_index(BASE + 10).is_err());
        for at in [BASE + PAGE - 9, BASE + PAGE + 8, 0, u64::MAX] {
            assert!(access.read(at, &mut [0]).is_err());
        }
        assert!(access.read(BASE + PAGE, &mut [0; 9]).is_err());
        assert!(access.write(BASE + 2, &[0; 9]).is_err());
        assert!(access.write_index(BASE + 1, 0).is_err());
        assert!(access.write_index(BASE + 10, 0).is_err());
        assert!(access.read_index(BASE + PAGE + 1).is_err());
        Ok(())
    }

    #[test]
    fn a_view_ends_with_its_mapping() -> Result {
        let (memory, pages) = two_pages()?;
        let view = view_of(&memory)?;
        let far = iova::Range::from_size(BASE + 2 * PAGE, PAGE).ok_or(EINVAL)?;
        let second = iova::Range::from_size(BASE + PAGE + 100, 1).ok_or(EINVAL)?;

        assert_eq!(view.locate(), Ok(()));
        memory.unmap(far);
        assert!(view.access().is_some());
        memory.unmap(second);
        assert!(view.access().is_none());
        let fault = Fault { addr: BASE + PAGE };
        assert_eq!(view.locate(), Err(fault));
        assert!(view.access().is_none());
        // It is mapped again, elsewhere.
        memory.hold(&pages, PAGE_SIZE..2 * PAGE_SIZE, BASE + PAGE, false)?;
        assert_eq!(view.locate(), Ok(()));
        assert_eq!(memory.write(BASE + 3, b"there"), Ok(()));
        let mut back = [0; 8];
        assert_eq!(
            view.access().ok_or(EINVAL)?.read(BASE + PAGE, &mut back),
            Ok(())
        );
        assert_eq!(&back, b"\0\0\0there");
        memory.clear();
        assert!(view.access().is_none());
        Ok(())
    }

    #[test]
    fn a_view_has_permissions() -> Result {
        let (memory, _pages) = two_pages()?;
        let read = iova::Range::from_size(BASE, 8).ok_or(EINVAL)?;
        let written = iova::Range::from_size(BASE + PAGE, 8).ok_or(EINVAL)?;
        let view = View::new(memory.clone(), read, written)?;
        let fault = Fault { addr: BASE + PAGE };

        assert_eq!(view.locate(), Err(fault));
        assert_eq!(View::new(memory, written, read)?.locate(), Ok(()));
        Ok(())
    }

    #[test]
    fn a_view_that_is_dropped_is_not_told() -> Result {
        let (memory, _pages) = two_pages()?;
        let first = view_of(&memory)?;
        let second = view_of(&memory)?;

        drop(first);
        assert_eq!(memory.views(), 1);
        assert_eq!(second.locate(), Ok(()));
        memory.clear();
        assert!(second.access().is_none());
        drop(second);
        assert_eq!(memory.views(), 0);
        Ok(())
    }
}
