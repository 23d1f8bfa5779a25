// SPDX-License-Identifier: GPL-2.0

//! Callbacks of a consumer.
//!
//! A consumer asks to be told of used buffers and configuration changes by leaving a function and
//! its argument with the parent (`struct vdpa_callback`). It may replace or remove them at any
//! time, also while an interrupt is being handled on another CPU, and frees the argument soon
//! after. A [`Slot`] makes that safe.

use super::bindings;
use kernel::{
    ffi::c_void,
    new_spinlock_irq,
    prelude::*,
    sync::SpinLockIrq, //
};

/// A function of the consumer and its argument.
///
/// # Invariants
///
/// `function(argument)` may be called until the consumer replaces the callback or resets or
/// leaves the device.
#[derive(Clone, Copy)]
struct Callback {
    function: unsafe extern "C" fn(*mut c_void) -> bindings::irqreturn_t,
    argument: *mut c_void,
}

// SAFETY: The consumer expects its function to be called on any CPU, in hard interrupt context.
unsafe impl Send for Callback {}

/// The place for one callback, of a virtqueue or of the configuration.
///
/// Only the abstraction stores a callback here (`set_vq_cb`, `set_config_cb`), and it empties the
/// slot whenever the device was reset or its consumer has left. A driver embeds slots and calls them.
#[pin_data]
pub struct Slot {
    /// Held while the callback runs, so that whoever replaced the callback knows that the old one
    /// neither runs nor will run. Consumers' callbacks only wake somebody up; they take no lock
    /// under which a slot is changed.
    #[pin]
    callback: SpinLockIrq<Option<Callback>>,
}

impl Slot {
    /// Returns an initializer for an empty slot.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            callback <- new_spinlock_irq!(None, "vdpa::callback::Slot"),
        })
    }

    /// Calls the callback, if there is one.
    ///
    /// May be called in any context, but not from [`Operations::kick_vq`]: the consumer's
    /// eventfd is being read at that moment, and would drop the signal.
    ///
    /// [`Operations::kick_vq`]: super::Operations::kick_vq
    pub fn call(&self) {
        let guard = self.callback.lock();
        if let Some(callback) = *guard {
            // SAFETY: By the type invariant of `Callback`. `replace()` and `clear()`, which precede
            // the end of that permission, wait for the lock that is held here.
            unsafe { (callback.function)(callback.argument) };
        }
    }

    /// Removes the callback. When this returns, it does not run any more.
    pub fn clear(&self) {
        *self.callback.lock() = None;
    }

    /// Replaces the callback by the one in `raw`; none if it has no function.
    ///
    /// # Safety
    ///
    /// The function in `raw` may be called with its `private` until the slot is changed again.
    pub(crate) unsafe fn replace(&self, raw: &bindings::vdpa_callback) {
        // `trigger` is left alone: consumers do not always initialize it.
        *self.callback.lock() = raw.callback.map(|function| {
            // INVARIANT: By the safety requirement.
            Callback {
                function,
                argument: raw.private,
            }
        });
    }
}
