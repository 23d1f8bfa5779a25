// SPDX-License-Identifier: GPL-2.0

//! The kernel's own virtio drivers, consumers through virtio-vdpa.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use super::bindings;
use core::ptr;
use kernel::{
    device,
    ffi::{
        c_int,
        c_void, //
    }, //
};

/// Marks the virtqueues of the virtio devices below `parent` as broken (`virtio_break_device()`).
///
/// A driver waits for the answer to a command for as long as the virtqueue is not broken, and
/// virtio-net does so with the lock of all network configuration held. Nobody tells it when the
/// device behind virtio-vdpa has stopped, thus the parent has to. The virtqueues stay broken until
/// the driver makes new ones, i.e. is bound again.
///
/// Process context. Does not sleep.
pub fn break_virtqueues(parent: &device::Device) {
    extern "C" fn break_child(dev: *mut bindings::device, _: *mut c_void) -> c_int {
        // SAFETY: `device_for_each_child()` passes valid devices.
        if unsafe { bindings::is_virtio_device(dev) } {
            // SAFETY: As above, and it is a virtio device. Its list of virtqueues has a lock of its own.
            unsafe { bindings::vdpa_break_virtio_device(dev) };
        }
        0
    }

    // CAST: `device::Device` is a transparent wrapper of `struct device`.
    let parent = ptr::from_ref(parent).cast_mut().cast();

    // SAFETY: `parent` is valid, and need not be bound. The callback gets along with any device, to
    // which there is a reference meanwhile.
    unsafe { bindings::device_for_each_child(parent, ptr::null_mut(), Some(break_child)) };
}
