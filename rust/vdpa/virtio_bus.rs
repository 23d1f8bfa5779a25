// SPDX-License-Identifier: GPL-2.0

//! The kernel's own virtio drivers, consumers through virtio-vdpa.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use super::bindings;
use core::ptr;
use kernel::{
    device,
    error::to_result,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    types::Opaque, //
};

/// The virtio bus, while [`register`] has found it.
static BUS: Atomic<*const bindings::bus_type> = Atomic::new(ptr::null());

/// A driver that drives nothing. The kernel does not export the virtio bus: whoever wants to look at the
/// devices on it has to be on it.
struct Onlooker(Opaque<bindings::virtio_driver>);

// SAFETY: Nobody but the C core touches it between registration and its end.
unsafe impl Sync for Onlooker {}

static ONLOOKER: Onlooker = Onlooker(Opaque::zeroed());

/// The devices that it is for: none.
static NO_DEVICES: [bindings::virtio_device_id; 1] = [bindings::virtio_device_id {
    device: 0,
    vendor: 0,
}];

/// Finds the virtio bus, for [`break_virtqueues`].
///
/// There is a driver `name` on it then, which binds to nothing.
///
/// # Errors
///
/// - `EBUSY` if there is such a driver already.
/// - `ENOMEM` if there is no memory for it.
///
/// # Safety
///
/// Called when the module is loaded, and, if it succeeds, followed by [`unregister`].
pub(crate) unsafe fn register(name: &'static CStr, module: &'static ThisModule) -> Result {
    let driver = ONLOOKER.0.get();

    // SAFETY: It is static, and not registered yet. So are the name and the table, which is never
    // written to.
    unsafe {
        (*driver).driver.name = name.as_char_ptr();
        (*driver).driver.suppress_bind_attrs = true;
        (*driver).id_table = NO_DEVICES.as_ptr();
    }
    // SAFETY: The driver is valid, and stays so until it is unregistered. Probe, which it does not
    // have, is for devices in its table only.
    to_result(unsafe { bindings::__register_virtio_driver(driver, module.as_ptr()) })?;
    // SAFETY: Registration has set it.
    BUS.store(unsafe { (*driver).driver.bus }, Release);
    Ok(())
}

/// Lets go of the virtio bus.
///
/// # Safety
///
/// [`register`] has succeeded, and [`break_virtqueues`] is neither being called nor will be.
pub(crate) unsafe fn unregister() {
    BUS.store(ptr::null(), Release);
    // SAFETY: By the safety requirement.
    unsafe { bindings::unregister_virtio_driver(ONLOOKER.0.get()) };
}

/// Marks the virtqueues of the virtio devices below `parent` as broken (`virtio_break_device()`), those
/// that are just being probed included.
///
/// A driver waits for the answer to a command for as long as the virtqueue is not broken, and
/// virtio-net does so with the lock of all network configuration held. Nobody tells it when the
/// device behind virtio-vdpa has stopped, thus the parent has to. The virtqueues stay broken until
/// the driver makes new ones, i.e. is bound again.
///
/// For a driver of PCI functions ([`Adapter`]); in a module without one it does nothing.
///
/// Process context.
///
/// [`Adapter`]: super::pci::Adapter
pub fn break_virtqueues(parent: &device::Device) {
    extern "C" fn break_child(dev: *mut bindings::device, parent: *mut c_void) -> c_int {
        // SAFETY: `bus_for_each_dev()` passes valid devices, which keep their parent.
        if unsafe { (*dev).parent }.cast() == parent {
            // SAFETY: As above, and what is on this bus is a virtio device. Its list of virtqueues
            // has a lock of its own.
            unsafe { bindings::vdpa_break_virtio_device(dev) };
        }
        0
    }

    // CAST: `device::Device` is a transparent wrapper of `struct device`.
    let parent = ptr::from_ref(parent).cast_mut().cast();

    // The children of `parent` are known to the driver core by another way, too, but only when they
    // have been probed: a driver that waits in its probe would not be found.
    //
    // SAFETY: The bus is the one that was found, or NULL, which is the same as an empty one. The callback
    // gets along with any device on it, to which there is a reference meanwhile.
    unsafe {
        bindings::bus_for_each_dev(
            BUS.load(Acquire),
            ptr::null_mut(),
            parent,
            Some(break_child),
        )
    };
}
