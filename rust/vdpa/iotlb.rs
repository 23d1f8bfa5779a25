// SPDX-License-Identifier: GPL-2.0

//! The mappings of an address space.
//!
//! C header: [`include/linux/vhost_iotlb.h`](srctree/include/linux/vhost_iotlb.h)

use super::{
    bindings,
    pages::Pinned, //
};
use kernel::types::Opaque;
use virtio::iova;

/// What a device may do with mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The device may read.
    pub read: bool,
    /// The device may write.
    pub write: bool,
}

impl Permission {
    /// Reads the form that vhost has for it (`VHOST_MAP_*`).
    pub(crate) fn from_raw(raw: u32) -> Self {
        Self {
            read: raw & bindings::VHOST_MAP_RO != 0,
            write: raw & bindings::VHOST_MAP_WO != 0,
        }
    }
}

/// A range of I/O virtual addresses and the memory behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The I/O virtual addresses.
    pub range: iova::Range,
    /// The physical address of the first byte.
    pub addr: u64,
    /// What the device may do with it.
    pub permission: Permission,
}

/// The mappings of an address space, as a consumer describes them (`struct vhost_iotlb`).
#[repr(transparent)]
pub struct Iotlb(Opaque<bindings::vhost_iotlb>);

impl Iotlb {
    /// Wraps a C structure.
    ///
    /// # Safety
    ///
    /// `ptr` is valid and does not change for `'c`, and the pages that it maps are pinned meanwhile.
    pub(crate) unsafe fn from_raw<'c>(ptr: *mut bindings::vhost_iotlb) -> &'c Self {
        // SAFETY: By the safety requirement; the type is transparent.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the mappings, in ascending order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = Pinned<'_>> + '_ {
        // SAFETY: The structure is valid and does not change, by the safety requirement of `from_raw`.
        let mut next = unsafe { bindings::vhost_iotlb_itree_first(self.0.get(), 0, u64::MAX) };

        core::iter::from_fn(move || {
            // SAFETY: The tree does not change, thus its nodes are valid.
            let map = unsafe { next.as_ref() }?;

            // SAFETY: `next` is a node of the tree.
            next = unsafe { bindings::vhost_iotlb_itree_next(next, 0, u64::MAX) };
            let mapping = Mapping {
                // An interval tree has no node that ends before it starts.
                range: iova::Range::from_bounds(map.start, map.last)?,
                addr: map.addr,
                permission: Permission::from_raw(map.perm),
            };
            // SAFETY: By the safety requirement of `from_raw`.
            Some(unsafe { Pinned::new(mapping) })
        })
    }
}
