// SPDX-License-Identifier: GPL-2.0

//! The addresses of a function that do not lead to memory.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use super::{
    as_device,
    bindings, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use virtio::iova;

/// The addresses of a function that do not lead to memory.
pub(super) struct Reserved {
    /// The addresses that cannot be mapped.
    pub(super) ranges: KVec<iova::Range>,
    /// Where the kernel maps what interrupts are written to, if the IOMMU translates that.
    pub(super) interrupts: Option<u64>,
}

impl Reserved {
    /// Reads which addresses of a function do not lead to memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub(super) fn read(pdev: &pci::Device<Bound>) -> Result<Self> {
        let mut ranges = KVec::new();
        let mut interrupts = None;
        let mut untranslated = false;
        let mut list = bindings::list_head::default();
        let head = &raw mut list;
        let mut result = Ok(());

        // SAFETY: The list is initialized before it is filled, and emptied before it goes out of scope.
        // What is on it is part of an `iommu_resv_region`.
        unsafe {
            (*head).next = head;
            (*head).prev = head;
            bindings::iommu_get_resv_regions(as_device(pdev), head);
            let mut entry = (*head).next;
            while entry != head {
                let region = kernel::container_of!(entry, bindings::iommu_resv_region, list);
                let range = u64::try_from((*region).length)
                    .ok()
                    .and_then(|length| iova::Range::from_size((*region).start, length));

                match (*region).type_ {
                    bindings::iommu_resv_type_IOMMU_RESV_SW_MSI => {
                        interrupts = Some((*region).start)
                    }
                    // Comes before the one above, where both are named.
                    bindings::iommu_resv_type_IOMMU_RESV_MSI => untranslated = true,
                    _ => {}
                }
                match ((*region).type_, range) {
                    // A range that the firmware wants mapped as it is, unless a driver has taken over.
                    (bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE, _) | (_, None) => {}
                    (_, Some(range)) => {
                        if ranges.push(range, GFP_KERNEL).is_err() {
                            result = Err(ENOMEM);
                        }
                    }
                }
                entry = (*entry).next;
            }
            bindings::iommu_put_resv_regions(as_device(pdev), head);
        }
        result.map(|()| Self {
            ranges,
            interrupts: interrupts.filter(|_| !untranslated),
        })
    }
}
