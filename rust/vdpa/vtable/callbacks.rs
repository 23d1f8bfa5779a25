// SPDX-License-Identifier: GPL-2.0

//! The callbacks of the C table. Each translates its arguments and calls the operation.
//!
//! # Safety
//!
//! See the [parent module](super) for the contract of callbacks.

use super::VTable;
use crate::{
    bindings,
    iotlb::{
        Iotlb,
        Mapping,
        Permission, //
    },
    pages::Pinned,
    stats::Stats,
    Context,
    Device,
    KernelConsumer,
    Operations,
    VqMap,
    VqState, //
};
use kernel::{
    cpumask::Cpumask,
    error::from_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    mm::Mm,
    page::PAGE_SHIFT,
    prelude::*, //
};
use virtio::{
    features::Features,
    iova, //
};

/// Defines callbacks that pass their arguments on and return what the operation returns.
macro_rules! forward {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        $(
            pub(super) extern "C" fn $name(vdev: *mut bindings::vdpa_device, $($arg: $ty),*) $(-> $ret)? {
                // SAFETY: By the contract of callbacks.
                unsafe { Device::<T>::with(vdev, |cx| T::$name(cx, $($arg),*)) }
            }
        )*
    };
}

/// Defines callbacks that pass their arguments on and return 0 or an error number.
macro_rules! forward_result {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> Result;)*) => {
        $(
            pub(super) extern "C" fn $name(
                vdev: *mut bindings::vdpa_device,
                $($arg: $ty),*
            ) -> c_int {
                from_result(|| {
                    // SAFETY: By the contract of callbacks.
                    unsafe { Device::<T>::with(vdev, |cx| T::$name(cx, $($arg),*)) }?;
                    Ok(0)
                })
            }
        )*
    };
}

impl<T: Operations> VTable<T> {
    forward! {
        fn set_vq_num(vq: u16, num: u32);
        fn kick_vq(vq: u16);
        fn kick_vq_with_data(data: u32);
        fn get_vq_ready(vq: u16) -> bool;
        fn get_vq_size(vq: u16) -> u16;
        fn get_vq_group(vq: u16) -> u32;
        fn get_vq_desc_group(vq: u16) -> u32;
        fn get_device_features() -> u64;
        fn get_driver_features() -> u64;
        fn get_vq_num_max() -> u16;
        fn get_vq_num_min() -> u16;
        fn get_device_id() -> u32;
        fn get_vendor_id() -> u32;
        fn get_status() -> u8;
        fn set_status(status: u8);
        fn get_config_size() -> usize;
        fn get_generation() -> u32;
        fn unbind_mm();
    }

    forward_result! {
        fn set_vq_address(vq: u16, desc_area: u64, driver_area: u64, device_area: u64) -> Result;
        fn set_driver_features(features: u64) -> Result;
        fn suspend() -> Result;
        fn resume() -> Result;
        fn reset_map(asid: c_uint) -> Result;
        fn set_group_asid(group: c_uint, asid: c_uint) -> Result;
    }

    /// Returns whether virtqueues are packed, which decides what a state looks like.
    fn is_packed(cx: Context<'_, '_, T>) -> bool {
        Features::from_bits(T::get_driver_features(cx)).contains(Features::RING_PACKED)
    }

    pub(super) extern "C" fn set_vq_cb(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
        cb: *mut bindings::vdpa_callback,
    ) {
        // SAFETY: By the contract of callbacks. vhost-vdpa's argument lives until it has left;
        // virtio-vdpa's until it has disabled the virtqueue, by which the slot is closed.
        unsafe {
            Device::<T>::with(vdev, |cx| {
                if let Some(slot) = T::vq_callback(cx, vq) {
                    slot.replace(cb);
                }
            })
        }
    }

    pub(super) extern "C" fn set_vq_ready(vdev: *mut bindings::vdpa_device, vq: u16, ready: bool) {
        // SAFETY: By the contract of callbacks.
        unsafe {
            Device::<T>::with(vdev, |cx| {
                let slot = T::vq_callback(cx, vq);

                // The operation may have something to tell in both cases.
                if let Some(slot) = slot.filter(|_| ready) {
                    slot.open();
                }
                T::set_vq_ready(cx, vq, ready);
                if let Some(slot) = slot.filter(|_| !ready) {
                    slot.close();
                }
            })
        }
    }

    pub(super) extern "C" fn set_vq_state(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
        state: *const bindings::vdpa_vq_state,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks.
            unsafe {
                Device::<T>::with(vdev, |cx| {
                    T::set_vq_state(cx, vq, VqState::from_raw(state, Self::is_packed(cx)))
                })?;
            }
            Ok(0)
        })
    }

    pub(super) extern "C" fn get_vq_state(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
        state: *mut bindings::vdpa_vq_state,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks.
            let value = unsafe { Device::<T>::with(vdev, |cx| T::get_vq_state(cx, vq)) }?;

            // The consumer passes uninitialized memory and copies all of it to user space.
            //
            // SAFETY: By the contract of callbacks.
            unsafe { state.write(value.to_raw()) };
            Ok(0)
        })
    }

    pub(super) extern "C" fn get_vendor_vq_stats(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
        msg: *mut bindings::sk_buff,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks. Nobody else uses the message meanwhile: the core has
            // allocated it for this answer. The operation cannot keep what is lent to it.
            let mut stats = unsafe { Stats::from_raw(msg) }?;
            // SAFETY: By the contract of callbacks.
            unsafe { Device::<T>::with(vdev, |cx| T::get_vendor_vq_stats(cx, vq, &mut stats)) }?;
            Ok(0)
        })
    }

    pub(super) extern "C" fn get_vq_notification(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
    ) -> bindings::vdpa_notification_area {
        // SAFETY: By the contract of callbacks.
        match unsafe { Device::<T>::with(vdev, |cx| T::get_vq_notification(cx, vq)) } {
            Some(area) => area.to_raw(),
            None => bindings::vdpa_notification_area {
                // vhost-vdpa may have allowed the mapping when there was a doorbell. It looks at the
                // address alone when that is touched: whatever is here, a process writes to.
                //
                // SAFETY: By the contract of callbacks.
                addr: unsafe { Device::<T>::sink(vdev) },
                // Not the size of a page, hence no mapping is allowed now.
                size: 0,
            },
        }
    }

    pub(super) extern "C" fn get_vq_align(vdev: *mut bindings::vdpa_device) -> u32 {
        // SAFETY: By the contract of callbacks.
        let align = unsafe { Device::<T>::with(vdev, |cx| T::get_vq_align(cx)) };

        // virtio-vdpa hands it to `vring_size()`, which takes it for a mask: with a number that is no
        // power of two, the kernel would write beyond the rings that it has allocated.
        if align.is_power_of_two() {
            align
        } else {
            1 << PAGE_SHIFT
        }
    }

    pub(super) extern "C" fn get_vq_irq(vdev: *mut bindings::vdpa_device, vq: u16) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks.
            let irq = unsafe { Device::<T>::with(vdev, |cx| T::get_vq_irq(cx, vq)) }?;
            Ok(c_int::try_from(irq)?)
        })
    }

    pub(super) extern "C" fn get_backend_features(vdev: *const bindings::vdpa_device) -> u64 {
        // SAFETY: By the contract of callbacks.
        unsafe { Device::<T>::with(vdev, |cx| T::get_backend_features(cx)) }
    }

    pub(super) extern "C" fn set_config_cb(
        vdev: *mut bindings::vdpa_device,
        cb: *mut bindings::vdpa_callback,
    ) {
        // SAFETY: By the contract of callbacks. Consumers' arguments live until they leave. That they
        // have left is told a moment later, see `Device::bus_callback`.
        unsafe {
            Device::<T>::with(vdev, |cx| {
                let slot = T::config_callback(cx);

                slot.replace(cb);
                slot.open();
            })
        }
    }

    pub(super) extern "C" fn reset(vdev: *mut bindings::vdpa_device) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks.
            unsafe {
                Device::<T>::with(vdev, |cx| {
                    let result = T::reset(cx);
                    Device::<T>::clear_callbacks(vdev, cx);
                    result
                })?;
            }
            Ok(0)
        })
    }

    pub(super) extern "C" fn compat_reset(vdev: *mut bindings::vdpa_device, flags: u32) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks.
            unsafe {
                Device::<T>::with(vdev, |cx| {
                    let result = T::compat_reset(cx, flags);
                    Device::<T>::clear_callbacks(vdev, cx);
                    result
                })?;
            }
            Ok(0)
        })
    }

    pub(super) extern "C" fn get_config(
        vdev: *mut bindings::vdpa_device,
        offset: c_uint,
        buf: *mut c_void,
        len: c_uint,
    ) {
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
            return;
        };
        // Whoever wants nothing may pass NULL, of which no slice can be made.
        if len == 0 {
            return;
        }
        // SAFETY: By the contract of callbacks, `buf` has room for `len` bytes, which nobody else
        // uses meanwhile. It need not be initialized on entry.
        let buf = unsafe {
            buf.cast::<u8>().write_bytes(0, len);
            core::slice::from_raw_parts_mut(buf.cast::<u8>(), len)
        };

        // SAFETY: By the contract of callbacks.
        unsafe { Device::<T>::with(vdev, |cx| T::get_config(cx, offset, buf)) }
    }

    pub(super) extern "C" fn set_config(
        vdev: *mut bindings::vdpa_device,
        offset: c_uint,
        buf: *const c_void,
        len: c_uint,
    ) {
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
            return;
        };
        // As in `get_config`.
        if len == 0 {
            return;
        }
        // SAFETY: By the contract of callbacks, `buf` holds `len` bytes, which nobody writes to
        // meanwhile: it is a copy if they are those of a process.
        let buf = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len) };

        // SAFETY: By the contract of callbacks.
        unsafe { Device::<T>::with(vdev, |cx| T::set_config(cx, offset, buf)) }
    }

    pub(super) extern "C" fn get_iova_range(
        vdev: *mut bindings::vdpa_device,
    ) -> bindings::vdpa_iova_range {
        // SAFETY: By the contract of callbacks.
        let range = unsafe { Device::<T>::with(vdev, |cx| T::get_iova_range(cx)) };

        bindings::vdpa_iova_range {
            first: range.first(),
            last: range.last(),
        }
    }

    pub(super) extern "C" fn set_vq_affinity(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
        mask: *const bindings::cpumask,
    ) -> c_int {
        from_result(|| {
            // Virtio drivers undo their choice by NULL.
            let mask = if mask.is_null() {
                None
            } else {
                // SAFETY: By the contract of callbacks. It is not NULL.
                Some(unsafe { Cpumask::from_raw(mask) })
            };

            // SAFETY: By the contract of callbacks.
            unsafe { Device::<T>::with(vdev, |cx| T::set_vq_affinity(cx, vq, mask)) }?;
            Ok(0)
        })
    }

    pub(super) extern "C" fn get_vq_affinity(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
    ) -> *const bindings::cpumask {
        // The consumer uses the mask when this has returned. It is borrowed from the data of the device
        // or of its management device, which outlive the consumer, or from something static.
        //
        // SAFETY: By the contract of callbacks.
        unsafe {
            Device::<T>::with(vdev, |cx| {
                T::get_vq_affinity(cx, vq)
                    .map_or(core::ptr::null(), |mask| mask.as_raw().cast_const())
            })
        }
    }

    pub(super) extern "C" fn set_map(
        vdev: *mut bindings::vdpa_device,
        asid: c_uint,
        iotlb: *mut bindings::vhost_iotlb,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks. vhost-vdpa, the only caller, holds its mutex, under
            // which alone it changes the mappings and pins and unpins their pages.
            unsafe {
                let iotlb = Iotlb::from_raw(iotlb);
                Device::<T>::with(vdev, |cx| T::set_map(cx, asid, iotlb))?;
            }
            Ok(0)
        })
    }

    pub(super) extern "C" fn dma_map(
        vdev: *mut bindings::vdpa_device,
        asid: c_uint,
        iova: u64,
        size: u64,
        pa: u64,
        perm: u32,
        _opaque: *mut c_void,
    ) -> c_int {
        from_result(|| {
            let range = iova::Range::from_size(iova, size).ok_or(EINVAL)?;
            let mapping = Mapping {
                range,
                addr: pa,
                permission: Permission::from_raw(perm),
            };
            // SAFETY: vhost-vdpa, the only caller, has pinned the pages, and unpins them only when
            // it wants them unmapped, or after an error that is returned here: all with its mutex held.
            // They are pages, not virtual addresses, as devices are allocated without `use_va`.
            let memory = unsafe { Pinned::new(mapping) };

            // SAFETY: By the contract of callbacks.
            unsafe { Device::<T>::with(vdev, |cx| T::dma_map(cx, asid, memory)) }?;
            Ok(0)
        })
    }

    pub(super) extern "C" fn dma_unmap(
        vdev: *mut bindings::vdpa_device,
        asid: c_uint,
        iova: u64,
        size: u64,
    ) -> c_int {
        from_result(|| {
            let range = iova::Range::from_size(iova, size).ok_or(EINVAL)?;

            // SAFETY: By the contract of callbacks.
            unsafe { Device::<T>::with(vdev, |cx| T::dma_unmap(cx, asid, range)) }?;
            Ok(0)
        })
    }

    pub(super) extern "C" fn get_vq_map(
        vdev: *mut bindings::vdpa_device,
        vq: u16,
    ) -> bindings::virtio_map {
        // SAFETY: By the contract of callbacks. virtio-vdpa is the only caller.
        unsafe {
            match Device::<T>::with(vdev, |cx| T::get_vq_map(cx, vq, KernelConsumer::new())) {
                VqMap::Parent => (*vdev).vmap,
                VqMap::Device => bindings::virtio_map {
                    dma_dev: &raw mut (*vdev).dev,
                },
            }
        }
    }

    pub(super) extern "C" fn bind_mm(
        vdev: *mut bindings::vdpa_device,
        mm: *mut bindings::mm_struct,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the contract of callbacks: vhost-vdpa has a reference to the address space.
            unsafe {
                let mm = Mm::from_raw(mm);
                Device::<T>::with(vdev, |cx| T::bind_mm(cx, mm))?;
            }
            Ok(0)
        })
    }
}
