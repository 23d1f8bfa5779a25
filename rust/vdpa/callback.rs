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
/// `function(argument)` may be called while the slot is open, until the consumer replaces the callback
/// or resets or leaves the device. (vhost-vdpa does not hold to that in one place, as
/// `Documentation/upstream.md` says: no parent can make up for it.)
#[derive(Clone, Copy)]
struct Callback {
    function: unsafe extern "C" fn(*mut c_void) -> bindings::irqreturn_t,
    argument: *mut c_void,
}

// SAFETY: The consumer expects its function to be called on any CPU, in hard interrupt context.
unsafe impl Send for Callback {}

/// What is in a [`Slot`].
struct Content {
    callback: Option<Callback>,
    /// The callback may be called.
    open: bool,
}

impl Content {
    const EMPTY: Self = Self {
        callback: None,
        open: false,
    };
}

/// The place for one callback, of a virtqueue or of the configuration.
///
/// Only the abstraction stores a callback here (`set_vq_cb`, `set_config_cb`), and it empties the
/// slot whenever the device was reset or its consumer has left. A driver embeds slots and calls them.
///
/// That of a virtqueue is open while the virtqueue is enabled. virtio-vdpa says no other way that it
/// is about to free what a callback works on: a virtio driver that fails in the middle deletes its
/// virtqueues without a reset.
#[pin_data]
pub struct Slot {
    /// Held while the callback runs, so that whoever replaced the callback knows that the old one
    /// neither runs nor will run. Consumers' callbacks only wake somebody up; they take no lock
    /// under which a slot is changed.
    #[pin]
    content: SpinLockIrq<Content>,
}

impl Slot {
    /// Returns an initializer for an empty slot.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            content <- new_spinlock_irq!(Content::EMPTY, "vdpa::callback::Slot"),
        })
    }

    /// Calls the callback, if there is one, and the virtqueue is enabled.
    ///
    /// May be called in any context, but not from [`Operations::kick_vq`]: the consumer's
    /// eventfd is being read at that moment, and would drop the signal.
    ///
    /// [`Operations::kick_vq`]: super::Operations::kick_vq
    pub fn call(&self) {
        let content = self.content.lock();
        if let Some(callback) = content.callback.filter(|_| content.open) {
            // SAFETY: By the type invariant of `Callback`, as the slot is open. `replace()`, `close()`
            // and `clear()`, of which one precedes the end of that permission, wait for the lock that
            // is held here.
            unsafe { (callback.function)(callback.argument) };
        }
    }

    /// Lets the callback be called.
    pub(crate) fn open(&self) {
        self.content.lock().open = true;
    }

    /// Lets the callback be called no longer. When this returns, it does not run any more.
    pub(crate) fn close(&self) {
        self.content.lock().open = false;
    }

    /// Closes the slot and removes the callback. When this returns, it does not run any more.
    pub(crate) fn clear(&self) {
        *self.content.lock() = Content::EMPTY;
    }

    /// Replaces the callback by the one in `raw`; none if that is NULL or has no function.
    ///
    /// # Safety
    ///
    /// - `raw` is NULL, or the function and the argument in it are valid for reads.
    /// - The function may be called with the argument while the slot is open, until this is called
    ///   again or the slot is cleared.
    pub(crate) unsafe fn replace(&self, raw: *const bindings::vdpa_callback) {
        let callback = if raw.is_null() {
            None
        } else {
            // No reference is made to all of it: consumers do not always initialize `trigger`.
            //
            // SAFETY: By the safety requirements.
            let (function, argument) = unsafe { ((*raw).callback, (*raw).private) };

            // INVARIANT: By the safety requirements.
            function.map(|function| Callback { function, argument })
        };

        self.content.lock().callback = callback;
    }
}
