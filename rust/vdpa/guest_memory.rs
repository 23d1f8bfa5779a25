// SPDX-License-Identifier: GPL-2.0

//! The memory of a consumer, as a device that is served in software reaches it.

use super::{
    bindings,
    iotlb::{
        Iotlb,
        Mapping, //
    },
    operations::KernelConsumer, //
};
use core::{
    cmp::Ordering,
    ops::RangeInclusive, //
};
use kernel::{
    new_mutex,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        barrier::{
            smp_mb,
            Full, //
        },
        Mutex, //
    }, //
};
use virtio::memory::Memory;

/// An address, or one of several, that the consumer has not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The I/O virtual address.
    pub addr: u64,
}

/// A mapping whose pages cannot be freed.
///
/// vhost-vdpa unpins pages before it tells that their mapping is gone, and does not tell at all
/// within a batch: who uses them needs references of its own.
///
/// # Invariants
///
/// `self` owns a reference to each page of the mapping.
struct Held(Mapping);

/// Returns the page frames of a mapping, [`None`] if it leaves physical memory.
fn page_frames(mapping: &Mapping) -> Option<RangeInclusive<usize>> {
    let len = mapping.last.checked_sub(mapping.first)?;
    let last = mapping.addr.checked_add(len)?;
    let frame = |addr: u64| usize::try_from(addr >> PAGE_SHIFT).ok();

    Some(frame(mapping.addr)?..=frame(last)?)
}

impl Held {
    /// Takes references to the pages of a mapping.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no memory behind it.
    ///
    /// # Safety
    ///
    /// Its pages are pinned until this returns.
    unsafe fn new(mapping: Mapping) -> Result<Self> {
        let frames = page_frames(&mapping).ok_or(EFAULT)?;

        for pfn in frames.clone() {
            // SAFETY: Any number will do.
            if !unsafe { bindings::vdpa_pfn_valid(pfn) } {
                return Err(EFAULT);
            }
        }
        for pfn in frames {
            // SAFETY: The page exists, and is pinned by the safety requirement.
            unsafe { bindings::vdpa_get_pfn(pfn) };
        }
        // INVARIANT: The references were just taken.
        Ok(Self(mapping))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for pfn in page_frames(&self.0).into_iter().flatten() {
            // SAFETY: By the type invariant.
            unsafe { bindings::vdpa_put_pfn(pfn) };
        }
    }
}

/// What addresses mean.
enum Space {
    /// Those that a consumer in user space has mapped, in ascending order.
    Mapped(KVVec<Held>),
    /// Physical memory: the consumer is the kernel.
    Physical,
}

impl Space {
    /// Returns the physical address of `addr` and the number of bytes that follow in memory.
    fn translate(&self, addr: u64, write: bool) -> Option<(u64, u64)> {
        let mappings = match self {
            Space::Mapped(mappings) => mappings,
            Space::Physical => return Some((addr, u64::MAX)),
        };
        let index = mappings
            .binary_search_by(|Held(mapping)| {
                if mapping.last < addr {
                    Ordering::Less
                } else if mapping.first > addr {
                    Ordering::Greater
                } else {
                    Ordering::Equal
                }
            })
            .ok()?;
        let Held(mapping) = mappings.get(index)?;
        let permitted = if write {
            mapping.permission.write
        } else {
            mapping.permission.read
        };
        let offset = addr.checked_sub(mapping.first)?;
        let left = mapping.last.checked_sub(addr)?.saturating_add(1);

        permitted.then_some((mapping.addr.checked_add(offset)?, left))
    }
}

/// An address space of a vDPA device.
///
/// To be fed by [`Operations::set_map`], [`Operations::get_vq_map`] and [`Operations::reset`].
/// Nothing is mapped before: an unprivileged process that maps nothing reaches nothing.
///
/// [`Operations::set_map`]: super::Operations::set_map
/// [`Operations::get_vq_map`]: super::Operations::get_vq_map
/// [`Operations::reset`]: super::Operations::reset
#[pin_data]
pub struct GuestMemory {
    /// Held during accesses, so that memory is not used once its mapping was removed.
    #[pin]
    space: Mutex<Space>,
}

impl GuestMemory {
    /// Returns an initializer for an address space without mappings.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            space <- new_mutex!(Space::Mapped(KVVec::new()), "vdpa::GuestMemory"),
        })
    }

    /// Replaces all mappings. No memory of the old ones is used when this returns.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EFAULT` if there is no memory behind a mapping: nothing is mapped then.
    pub fn set_map(&self, iotlb: &Iotlb) -> Result {
        let mut mappings = KVVec::new();
        let result = iotlb.iter().try_for_each(|mapping| {
            // SAFETY: vhost-vdpa, the only maker of an `Iotlb`, pins pages before it adds their
            // mapping, and unpins them when it has removed that.
            let held = unsafe { Held::new(mapping) }?;
            Ok(mappings.push(held, GFP_KERNEL)?)
        });

        if result.is_err() {
            mappings.clear();
        }
        *self.space.lock() = Space::Mapped(mappings);
        result
    }

    /// Removes all mappings.
    pub fn clear(&self) {
        *self.space.lock() = Space::Mapped(KVVec::new());
    }

    /// Takes addresses for physical ones, as a consumer in the kernel that maps memory for a
    /// device without an IOMMU means them.
    pub fn trust(&self, _: KernelConsumer) {
        *self.space.lock() = Space::Physical;
    }

    /// Takes addresses for physical ones no longer. Mappings stay.
    pub fn distrust(&self) {
        let mut space = self.space.lock();

        if matches!(*space, Space::Physical) {
            *space = Space::Mapped(KVVec::new());
        }
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
        let space = self.space.lock();
        let mut done = 0;

        while let Some(left) = len.checked_sub(done).filter(|left| *left != 0) {
            let fault = Fault { addr };
            let at = u64::try_from(done)
                .ok()
                .and_then(|done| addr.checked_add(done))
                .ok_or(fault)?;
            let (pa, contiguous) = space.translate(at, write).ok_or(fault)?;
            let in_page = usize::try_from(pa).map_err(|_| fault)? & (PAGE_SIZE - 1);
            let part = left
                .min(PAGE_SIZE - in_page)
                .min(usize::try_from(contiguous).unwrap_or(usize::MAX));
            let pfn = usize::try_from(pa >> PAGE_SHIFT).map_err(|_| fault)?;

            // SAFETY: Any number will do.
            if !unsafe { bindings::vdpa_pfn_valid(pfn) } {
                return Err(fault);
            }
            // SAFETY: The page exists. `Held` keeps it, or a consumer in the kernel does.
            let page = unsafe { bindings::vdpa_kmap_local_pfn(pfn) }.cast::<u8>();
            // `part` ends within the page.
            access(page.wrapping_add(in_page), part, done);
            // SAFETY: It was mapped above, and by nobody else since.
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

impl Memory for GuestMemory {
    type Error = Fault;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.for_each_part(addr, buf.len(), false, |ptr, len, offset| {
            if let Some(to) = buf.get_mut(offset..).and_then(|rest| rest.get_mut(..len)) {
                // SAFETY: Both are valid for `len` bytes. This is a function of C: if somebody
                // writes at the same time, the bytes are arbitrary, but that is all.
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
