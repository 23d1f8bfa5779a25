// SPDX-License-Identifier: GPL-2.0

//! Memory that a consumer in user space has mapped.
//!
//! vhost-vdpa unpins pages before it tells that their mapping is gone: who lets a device reach them,
//! or reaches them for it, needs references of its own. [`Held`] has them.

use super::{
    bindings,
    iotlb::Mapping, //
};
use core::{
    marker::PhantomData,
    ops::RangeInclusive, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};

/// A mapping whose memory stays during `'c`, which is the call of an operation.
///
/// # Invariants
///
/// What of the memory the kernel has pages for does not go away during `'c`.
#[derive(Clone, Copy)]
pub struct Pinned<'c> {
    mapping: Mapping,
    _pinned: PhantomData<&'c ()>,
}

impl Pinned<'_> {
    /// # Safety
    ///
    /// See the type's invariants.
    pub(crate) unsafe fn new(mapping: Mapping) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            mapping,
            _pinned: PhantomData,
        }
    }

    /// Returns where the memory is mapped.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// A mapping whose pages cannot be freed.
///
/// # Invariants
///
/// The memory of the mapping consists of pages, and `self` owns a reference to each of them.
pub struct Held(Mapping);

/// Returns the page frames of a mapping, [`None`] if it leaves physical memory.
fn page_frames(mapping: &Mapping) -> Option<RangeInclusive<usize>> {
    let last = mapping
        .addr
        .checked_add(mapping.range.size().checked_sub(1)?)?;
    let frame = |addr: u64| usize::try_from(addr >> PAGE_SHIFT).ok();

    Some(frame(mapping.addr)?..=frame(last)?)
}

impl Held {
    /// Takes references to the pages of a mapping.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there is no memory behind it.
    pub fn new(pinned: Pinned<'_>) -> Result<Self> {
        let frames = page_frames(&pinned.mapping).ok_or(EFAULT)?;

        for pfn in frames.clone() {
            // SAFETY: Any number will do.
            if !unsafe { bindings::vdpa_pfn_valid(pfn) } {
                return Err(EFAULT);
            }
        }
        for pfn in frames {
            // SAFETY: There is a page, which stays during this call by the invariant of `Pinned`.
            unsafe { bindings::vdpa_get_pfn(pfn) };
        }
        // INVARIANT: The references were just taken.
        Ok(Self(pinned.mapping))
    }

    /// Returns where the memory is mapped.
    pub fn mapping(&self) -> &Mapping {
        &self.0
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
