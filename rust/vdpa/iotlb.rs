// SPDX-License-Identifier: GPL-2.0

//! The mappings of an address space.
//!
//! C header: [`include/linux/vhost_iotlb.h`](srctree/include/linux/vhost_iotlb.h)

use super::bindings;
use kernel::types::Opaque;

/// What a device may do with mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The device may read.
    pub read: bool,
    /// The device may write.
    pub write: bool,
}

/// A range of I/O virtual addresses and the memory behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first I/O virtual address.
    pub first: u64,
    /// The last I/O virtual address.
    pub last: u64,
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
    /// `ptr` is valid and does not change for `'c`.
    pub(crate) unsafe fn from_raw<'c>(ptr: *mut bindings::vhost_iotlb) -> &'c Self {
        // SAFETY: By the safety requirement; the type is transparent.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the mappings, in ascending order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = Mapping> + '_ {
        // SAFETY: The structure is valid, by the safety requirement of `from_raw`.
        let mut next = unsafe { bindings::vhost_iotlb_itree_first(self.0.get(), 0, u64::MAX) };

        core::iter::from_fn(move || {
            // SAFETY: The tree does not change, thus its nodes are valid.
            let map = unsafe { next.as_ref() }?;

            // SAFETY: `next` is a node of the tree.
            next = unsafe { bindings::vhost_iotlb_itree_next(next, 0, u64::MAX) };
            Some(Mapping {
                first: map.start,
                last: map.last,
                addr: map.addr,
                permission: Permission {
                    read: map.perm & bindings::VHOST_MAP_RO != 0,
                    write: map.perm & bindings::VHOST_MAP_WO != 0,
                },
            })
        })
    }
}
