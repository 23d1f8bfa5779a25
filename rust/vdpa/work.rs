// SPDX-License-Identifier: GPL-2.0

//! Deferred work that can be cancelled.
//!
//! A work item of the kernel crate owns a reference to what it works on, and cannot be waited for.
//! A device that is served in software must know that nothing runs any more before it returns from
//! a reset, and before its module may be unloaded.

use super::bindings;
use core::{
    marker::PhantomPinned,
    mem::offset_of, //
};
use kernel::{
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

/// What a work item does.
pub trait Run: Send + Sync + 'static {
    /// Does the work, in process context. Never runs twice at the same time.
    ///
    /// Returns whether there is more to do: then it is called again, after others had their turn.
    fn run(&self) -> bool;
}

/// A work item together with what it works on. Dropping it waits for it to finish, so that it must not
/// be dropped by the work itself.
///
/// It must be dropped before the module of `T` goes, i.e. not be forgotten: as with the kernel crate's
/// work items, nothing else waits for one that is queued.
#[pin_data(PinnedDrop)]
pub struct Work<T: Run> {
    #[pin]
    work: Opaque<bindings::work_struct>,
    #[pin]
    data: T,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A work item may be queued and cancelled from any thread. The data is `Send`.
unsafe impl<T: Run> Send for Work<T> {}

// SAFETY: As above. The data is `Sync`.
unsafe impl<T: Run> Sync for Work<T> {}

impl<T: Run> Work<T> {
    /// Returns an initializer for a work item that is not queued.
    pub fn new(
        data: impl PinInit<T, Error>,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            data <- data,
            work <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is part of a `Self`, is pinned, and is cancelled before it goes. The
                // data is initialized already. Name and key are static.
                unsafe {
                    bindings::init_work_with_key(
                        slot,
                        Some(Self::run_callback),
                        false,
                        name.as_char_ptr(),
                        key.as_ptr(),
                    )
                }
            }),
            _pin: PhantomPinned,
        })
    }

    /// Returns the data.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Queues the work, unless it is queued already. Any context.
    pub fn queue(&self) {
        // SAFETY: The work item is initialized, and the queue is one of the system. It is not being
        // dropped, as there is a reference to it, or is run by what drop waits for, which lets nothing
        // be queued meanwhile.
        unsafe { bindings::vdpa_queue_work(self.work.get()) };
    }

    /// Takes the work from the queue, and waits until it does not run any more. Sleeps.
    ///
    /// It may be queued again.
    pub fn cancel(&self) {
        // SAFETY: The work item is initialized.
        unsafe { bindings::cancel_work_sync(self.work.get()) };
    }

    extern "C" fn run_callback(work: *mut bindings::work_struct) {
        // SAFETY: `work` is part of a pinned `Self`, whose drop waits for this function. Only
        // shared references to that exist.
        let this = unsafe { &*work.byte_sub(offset_of!(Self, work)).cast::<Self>() };

        if this.data.run() {
            this.queue();
        }
    }
}

#[pinned_drop]
impl<T: Run> PinnedDrop for Work<T> {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}
