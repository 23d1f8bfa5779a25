// SPDX-License-Identifier: GPL-2.0

//! The vDPA device.

use super::{
    bindings,
    mgmt,
    own_memory::Pages,
    vtable::VTable,
    Operations, //
};
use core::{
    alloc::Layout,
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};

/// The data of the management device that made a device of type `T`.
type Parent<'a, T> = <<T as Operations>::Management as mgmt::Operations>::Data<'a>;

/// What an operation works on.
pub struct Context<'c, 'a, T: Operations> {
    parent: &'c Parent<'a, T>,
    data: &'c T::Data,
}

impl<T: Operations> Clone for Context<'_, '_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Operations> Copy for Context<'_, '_, T> {}

impl<'c, 'a, T: Operations> Context<'c, 'a, T> {
    /// Returns the data of the management device.
    pub fn parent(self) -> &'c Parent<'a, T> {
        self.parent
    }

    /// Returns the data of the vDPA device.
    pub fn data(self) -> &'c T::Data {
        self.data
    }
}

/// The part of a [`Device`] that does not depend on its type.
#[repr(C)]
struct Head {
    vdev: Opaque<bindings::vdpa_device>,
    /// Tells when a consumer leaves.
    notifier: Opaque<bindings::notifier_block>,
}

impl Head {
    /// Starts to watch consumers.
    ///
    /// # Safety
    ///
    /// - `vdev` is the head of a `Device` that stays until [`unwatch`](Self::unwatch) is called.
    /// - `left` may be called for it until then.
    unsafe fn watch(vdev: NonNull<bindings::vdpa_device>, left: bindings::notifier_fn_t) -> Result {
        let head = vdev.as_ptr().cast::<Self>();

        // SAFETY: By the safety requirements. The bus is set when a device is allocated.
        to_result(unsafe {
            (*head).notifier.get().write(bindings::notifier_block {
                notifier_call: left,
                ..pin_init::zeroed()
            });
            bindings::bus_register_notifier((*vdev.as_ptr()).dev.bus, (*head).notifier.get())
        })
    }

    /// Stops to watch consumers. Waits for a notification that is under way.
    ///
    /// # Safety
    ///
    /// `vdev` is the head of a `Device` that is being watched.
    unsafe fn unwatch(vdev: NonNull<bindings::vdpa_device>) {
        let head = vdev.as_ptr().cast::<Self>();

        // SAFETY: By the safety requirement. This fails only for what was not registered.
        unsafe {
            bindings::bus_unregister_notifier((*vdev.as_ptr()).dev.bus, (*head).notifier.get())
        };
    }
}

/// A vDPA device, allocated by the C core.
///
/// # Invariants
///
/// - `head.vdev` is at offset 0 and initialized by the C core, whose reference count owns the
///   allocation.
/// - While the device is registered, `parent` points to the data of its management device.
#[repr(C)]
pub struct Device<T: Operations> {
    head: Head,
    parent: NonNull<Parent<'static, T>>,
    /// What is mapped instead of a doorbell that is not to be had any more.
    sink: Option<Pages>,
    data: T::Data,
}

/// How many groups of virtqueues and address spaces a device has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spaces {
    pub(crate) groups: u32,
    pub(crate) address_spaces: u32,
}

/// A device that was allocated, but not registered. Dropping it frees the device.
struct Allocation<T: Operations> {
    ptr: NonNull<Device<T>>,
    _owns: PhantomData<T::Data>,
}

impl<T: Operations> Allocation<T> {
    fn as_raw(&self) -> *mut bindings::vdpa_device {
        self.ptr.as_ptr().cast()
    }
}

impl<T: Operations> Drop for Allocation<T> {
    fn drop(&mut self) {
        // SAFETY: `self` owns the reference that `__vdpa_alloc_device()` returned.
        unsafe { bindings::put_device(&raw mut (*self.as_raw()).dev) };
    }
}

impl<T: Operations> Device<T> {
    /// Allocates and initializes a device.
    ///
    /// # Safety
    ///
    /// As [`register`](Self::register).
    unsafe fn allocate(
        mdev: NonNull<bindings::vdpa_mgmt_dev>,
        parent: &Parent<'_, T>,
        name: &CStr,
        spaces: Spaces,
        data: impl PinInit<T::Data, Error>,
    ) -> Result<Allocation<T>> {
        const_assert!(offset_of!(Device<T>, head) == 0 && offset_of!(Head, vdev) == 0);

        let sink = T::HAS_GET_VQ_NOTIFICATION
            .then(|| Pages::new(PAGE_SIZE))
            .transpose()?;
        // SAFETY: By the safety requirements, `mdev` is registered, so that its parent device is valid.
        let dma_dev = unsafe { (*mdev.as_ptr()).device };

        // SAFETY: The operations are static, and the parent device is valid; the device has a reference
        // to it once it is added. kmalloc() aligns memory by the largest power of two that divides the
        // size, which is a multiple of the alignment of `Self`. The C core copies `name`.
        let vdev = from_err_ptr(unsafe {
            bindings::__vdpa_alloc_device(
                dma_dev,
                &VTable::<T>::ALLOCATED,
                core::ptr::null(),
                spaces.groups,
                spaces.address_spaces,
                Layout::new::<Self>().pad_to_align().size(),
                name.as_char_ptr(),
                false,
            )
        })?;
        let this = vdev.cast::<Self>();
        // From here on, an early return frees the device. It has no `free` operation yet, thus
        // `data` is not dropped unless it was initialized.
        let allocation = Allocation {
            ptr: NonNull::new(this).ok_or(ENOMEM)?,
            _owns: PhantomData,
        };

        // SAFETY: `this` is a fresh allocation of the size of `Self`, on which nobody else has an
        // eye yet. `data` is pinned, as the C core never moves a device. The operation `free`, which
        // drops data and sink, is installed when both are there.
        unsafe {
            // Lifetimes do not exist at run time; `with()` hands out a shorter one.
            (&raw mut (*this).parent).write(NonNull::from(parent).cast());
            pin_init::raw_try_init(&raw mut (*this).data, data)?;
            (&raw mut (*this).sink).write(sink);
            (*vdev).config = &VTable::<T>::INITIALIZED;
            (*vdev).mdev = mdev.as_ptr();
            (*vdev).vmap.dma_dev = dma_dev;
        }
        if T::HAS_GET_VQ_MAP {
            // SAFETY: As above: the device is not visible yet, nobody maps memory for it. Whoever
            // works on that memory does so through the kernel's own, cached, mapping.
            unsafe {
                bindings::vdpa_dev_set_dma_coherent(&raw mut (*vdev).dev);
                (*vdev).dev.dma_mask = &raw mut (*vdev).dev.coherent_dma_mask;
                to_result(bindings::dma_set_mask_and_coherent(
                    &raw mut (*vdev).dev,
                    u64::MAX,
                ))?;
            }
        }

        Ok(allocation)
    }

    /// Allocates, initializes and registers a device.
    ///
    /// Its operations may be called before this returns.
    ///
    /// # Safety
    ///
    /// - The lock of the vDPA bus is held: this is called from `dev_add`.
    /// - `parent` is the data of `mdev`, stays where it is, and lives until all devices of `mdev`
    ///   are unregistered.
    pub(crate) unsafe fn register(
        mdev: NonNull<bindings::vdpa_mgmt_dev>,
        parent: &Parent<'_, T>,
        name: &CStr,
        nvqs: u16,
        spaces: Spaces,
        data: impl PinInit<T::Data, Error>,
    ) -> Result {
        // SAFETY: By the safety requirements.
        let allocation = unsafe { Self::allocate(mdev, parent, name, spaces, data) }?;

        // SAFETY: The device is initialized. The references to it outlive the watch, which ends
        // below or in `unregister()`, while its management device still exists.
        unsafe { Head::watch(allocation.ptr.cast(), Some(Self::bus_callback)) }?;
        // SAFETY: The device is initialized, and the lock is held. On failure nobody uses the
        // device any more, and its reference stays with `allocation`.
        let registered = to_result(unsafe {
            bindings::_vdpa_register_device(allocation.as_raw(), u32::from(nvqs))
        });
        if let Err(error) = registered {
            // SAFETY: It is being watched.
            unsafe { Head::unwatch(allocation.ptr.cast()) };
            return Err(error);
        }

        // The reference is now dropped by `_vdpa_unregister_device()`.
        core::mem::forget(allocation);
        Ok(())
    }

    /// Called for whatever happens on the vDPA bus.
    ///
    /// A driver that fails on a device may leave it without a reset, and virtio-vdpa then frees
    /// what its callbacks work on. So whoever has left a device, has left it reset, and with the
    /// mappings that it had at first.
    ///
    /// # Safety
    ///
    /// `notifier` is the one of a `Device<T>` that is being watched; `data` is a device.
    unsafe extern "C" fn bus_callback(
        notifier: *mut bindings::notifier_block,
        event: c_ulong,
        data: *mut c_void,
    ) -> c_int {
        let left = [
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER,
            bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND,
        ];
        // SAFETY: By the safety requirement, `notifier` is part of a `Head`, whose first field is
        // the device.
        let vdev = unsafe { notifier.byte_sub(offset_of!(Head, notifier)) }
            .cast::<bindings::vdpa_device>();
        // SAFETY: As above.
        let dev = unsafe { &raw mut (*vdev).dev };

        if dev.cast() == data && u32::try_from(event).is_ok_and(|event| left.contains(&event)) {
            // SAFETY: By the safety requirement, as a device is watched only while its management
            // device exists.
            unsafe {
                Self::with(vdev, |cx| {
                    if T::get_status(cx) != 0 {
                        // A device that does not reset has said so, and is cut off.
                        let _ = T::reset(cx);
                    }
                    Self::clear_callbacks(vdev, cx);
                    if T::HAS_RESET_MAP {
                        for asid in 0..(*vdev).nas {
                            // There is no such address space, at worst.
                            let _ = T::reset_map(cx, asid);
                        }
                    }
                })
            };
        }
        // Others want to know, too (`NOTIFY_DONE`).
        0
    }

    /// Removes all callbacks. None of them is being called when this returns.
    ///
    /// # Safety
    ///
    /// `vdev` is registered, or was, and `cx` is its context.
    pub(crate) unsafe fn clear_callbacks(vdev: *mut bindings::vdpa_device, cx: Context<'_, '_, T>) {
        // SAFETY: By the safety requirement. `nvqs` is constant after registration.
        let nvqs = u16::try_from(unsafe { (*vdev).nvqs }).unwrap_or(u16::MAX);

        for vq in 0..nvqs {
            if let Some(slot) = T::vq_callback(cx, vq) {
                slot.clear();
            }
        }
        T::config_callback(cx).clear();
    }

    /// Calls `f` with the context of a device.
    ///
    /// `f` is higher-ranked: it can neither keep the data of the management device nor choose the
    /// lifetime for which that is borrowed.
    ///
    /// # Safety
    ///
    /// `vdev` is the head of a `Device<T>` that is initialized, and whose management device exists.
    #[inline]
    pub(crate) unsafe fn with<R>(
        vdev: *const bindings::vdpa_device,
        f: impl for<'c, 'a> FnOnce(Context<'c, 'a, T>) -> R,
    ) -> R {
        // SAFETY: By the safety requirement. Only shared references to a `Device` exist.
        let this = unsafe { &*vdev.cast::<Self>() };
        // SAFETY: By the type invariant, as the management device exists.
        let parent = unsafe { this.parent.cast::<Parent<'_, T>>().as_ref() };

        f(Context {
            parent,
            data: &this.data,
        })
    }

    /// Returns the physical address of a page that nobody looks at, 0 if there is none.
    ///
    /// # Safety
    ///
    /// `vdev` is the head of a `Device<T>` that is initialized.
    pub(crate) unsafe fn sink(vdev: *const bindings::vdpa_device) -> u64 {
        // SAFETY: By the safety requirement. Only shared references to a `Device` exist.
        let this = unsafe { &*vdev.cast::<Self>() };

        this.sink.as_ref().map_or(0, |pages| pages.physical(0))
    }

    /// Drops the data when the last reference to the device is gone (`free`).
    ///
    /// # Safety
    ///
    /// `vdev` is the head of a `Device<T>` that is initialized, and not used afterwards. The module is
    /// still there: whoever has a reference to the device at the end keeps that busy.
    pub(crate) unsafe extern "C" fn free(vdev: *mut bindings::vdpa_device) {
        let this = vdev.cast::<Self>();

        // SAFETY: By the safety requirement. The C core frees the memory. Consumers, and with them
        // whoever has mapped the sink, have left.
        unsafe {
            core::ptr::drop_in_place(&raw mut (*this).data);
            core::ptr::drop_in_place(&raw mut (*this).sink);
        }
    }
}

/// Unregisters a device, and waits until its consumer has left.
///
/// # Safety
///
/// - `vdev` was registered by [`Device::register`] and not unregistered since.
/// - The lock of the vDPA bus is held: this is called from `dev_del`.
pub(crate) unsafe fn unregister(vdev: NonNull<bindings::vdpa_device>) {
    // SAFETY: The device is registered, hence it is valid. Keep it beyond the call below, which
    // drops the reference that made it so.
    unsafe { bindings::get_device(&raw mut (*vdev.as_ptr()).dev) };
    // SAFETY: By the safety requirements.
    unsafe { bindings::_vdpa_unregister_device(vdev.as_ptr()) };

    // SAFETY: Every device that this crate registers is being watched; the reference taken above
    // keeps it.
    unsafe { Head::unwatch(vdev) };

    // SAFETY: Drops the reference taken above.
    unsafe { bindings::put_device(&raw mut (*vdev.as_ptr()).dev) };
}
