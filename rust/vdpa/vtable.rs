// SPDX-License-Identifier: GPL-2.0

//! The C table of [`Operations`].
//!
//! Each callback translates its arguments and calls the operation.
//!
//! # Safety
//!
//! All callbacks share one contract, which the C core and its consumers keep: `vdev` was made by
//! [`Device::register`] with the table that the callback comes from, and its management device
//! exists, as that removes its vDPA devices first, and waits until their consumers have left. Pointer
//! arguments are valid for the call, during which nobody writes to what they point to; which of them
//! may be NULL is said where it matters. An index of a virtqueue is no promise to anybody: operations
//! are safe with each.

mod callbacks;
mod state;

use super::{
    bindings,
    Device,
    Operations, //
};
use core::marker::PhantomData;

/// Builds the tables for one type of device.
pub(crate) struct VTable<T>(PhantomData<T>);

impl<T: Operations> VTable<T> {
    /// The table of a device whose data is not initialized yet: it has no `free`.
    pub(crate) const ALLOCATED: bindings::vdpa_config_ops = bindings::vdpa_config_ops {
        free: None,
        ..Self::INITIALIZED
    };

    /// The table of an initialized device.
    pub(crate) const INITIALIZED: bindings::vdpa_config_ops = bindings::vdpa_config_ops {
        set_vq_address: Some(Self::set_vq_address),
        set_vq_num: Some(Self::set_vq_num),
        kick_vq: Some(Self::kick_vq),
        kick_vq_with_data: if T::HAS_KICK_VQ_WITH_DATA {
            Some(Self::kick_vq_with_data)
        } else {
            None
        },
        set_vq_cb: Some(Self::set_vq_cb),
        set_vq_ready: Some(Self::set_vq_ready),
        get_vq_ready: Some(Self::get_vq_ready),
        set_vq_state: Some(Self::set_vq_state),
        get_vq_state: Some(Self::get_vq_state),
        get_vendor_vq_stats: if T::HAS_GET_VENDOR_VQ_STATS {
            Some(Self::get_vendor_vq_stats)
        } else {
            None
        },
        get_vq_notification: if T::HAS_GET_VQ_NOTIFICATION {
            Some(Self::get_vq_notification)
        } else {
            None
        },
        get_vq_irq: if T::HAS_GET_VQ_IRQ {
            Some(Self::get_vq_irq)
        } else {
            None
        },
        get_vq_size: if T::HAS_GET_VQ_SIZE {
            Some(Self::get_vq_size)
        } else {
            None
        },
        get_vq_align: Some(Self::get_vq_align),
        get_vq_group: if T::HAS_GET_VQ_GROUP {
            Some(Self::get_vq_group)
        } else {
            None
        },
        get_vq_desc_group: if T::HAS_GET_VQ_DESC_GROUP {
            Some(Self::get_vq_desc_group)
        } else {
            None
        },
        get_device_features: Some(Self::get_device_features),
        get_backend_features: if T::HAS_GET_BACKEND_FEATURES {
            Some(Self::get_backend_features)
        } else {
            None
        },
        set_driver_features: Some(Self::set_driver_features),
        get_driver_features: Some(Self::get_driver_features),
        set_config_cb: Some(Self::set_config_cb),
        get_vq_num_max: Some(Self::get_vq_num_max),
        get_vq_num_min: if T::HAS_GET_VQ_NUM_MIN {
            Some(Self::get_vq_num_min)
        } else {
            None
        },
        get_device_id: Some(Self::get_device_id),
        get_vendor_id: Some(Self::get_vendor_id),
        get_status: Some(Self::get_status),
        set_status: Some(Self::set_status),
        reset: Some(Self::reset),
        compat_reset: if T::HAS_COMPAT_RESET {
            Some(Self::compat_reset)
        } else {
            None
        },
        suspend: if T::HAS_SUSPEND {
            Some(Self::suspend)
        } else {
            None
        },
        resume: if T::HAS_RESUME {
            Some(Self::resume)
        } else {
            None
        },
        get_config_size: Some(Self::get_config_size),
        get_config: Some(Self::get_config),
        set_config: Some(Self::set_config),
        get_generation: if T::HAS_GET_GENERATION {
            Some(Self::get_generation)
        } else {
            None
        },
        get_iova_range: if T::HAS_GET_IOVA_RANGE {
            Some(Self::get_iova_range)
        } else {
            None
        },
        set_vq_affinity: if T::HAS_SET_VQ_AFFINITY {
            Some(Self::set_vq_affinity)
        } else {
            None
        },
        get_vq_affinity: if T::HAS_GET_VQ_AFFINITY {
            Some(Self::get_vq_affinity)
        } else {
            None
        },
        set_map: if T::HAS_SET_MAP {
            Some(Self::set_map)
        } else {
            None
        },
        dma_map: if T::HAS_DMA_MAP {
            Some(Self::dma_map)
        } else {
            None
        },
        dma_unmap: if T::HAS_DMA_UNMAP {
            Some(Self::dma_unmap)
        } else {
            None
        },
        reset_map: if T::HAS_RESET_MAP {
            Some(Self::reset_map)
        } else {
            None
        },
        set_group_asid: if T::HAS_SET_GROUP_ASID {
            Some(Self::set_group_asid)
        } else {
            None
        },
        get_vq_map: if T::HAS_GET_VQ_MAP {
            Some(Self::get_vq_map)
        } else {
            None
        },
        bind_mm: if T::HAS_BIND_MM {
            Some(Self::bind_mm)
        } else {
            None
        },
        unbind_mm: if T::HAS_UNBIND_MM {
            Some(Self::unbind_mm)
        } else {
            None
        },
        free: Some(Device::<T>::free),
    };
}
