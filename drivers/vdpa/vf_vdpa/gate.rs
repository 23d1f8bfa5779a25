// SPDX-License-Identifier: GPL-2.0

//! Where kicks and interrupts of a virtqueue go. Used without a lock, changed under the function's.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc, //
    }, //
};
use vdpa::{
    callback::Slot,
    notifier::Notifier, //
};
use virtio::{
    gate::{
        self,
        Look,
        Sides, //
    },
    notify::Doorbell, //
};

struct Word(Atomic<u64>);

impl gate::Word for Word {
    fn new(value: u64) -> Self {
        Self(Atomic::new(value))
    }

    fn load(&self) -> u64 {
        self.0.load(Acquire)
    }

    fn replace(&self, value: u64) {
        self.0.xchg(value, Full);
    }
}

/// The gate of a virtqueue.
#[pin_data]
pub(crate) struct Gate {
    /// The consumer's callback.
    #[pin]
    pub(crate) callback: Slot,
    notifier: Arc<Notifier>,
    switch: gate::Gate<Word>,
    /// The consumer may have the doorbell, or the interrupt, for itself since the last reset.
    bypassed: Atomic<bool>,
}

impl Sides for Gate {
    fn tell_device(&self, doorbell: Doorbell) {
        self.notifier.ring(doorbell);
    }

    fn tell_driver(&self) {
        self.callback.call();
    }
}

impl Gate {
    pub(crate) fn new(notifier: Arc<Notifier>) -> impl PinInit<Self> {
        pin_init!(Self {
            callback <- Slot::new(),
            notifier,
            switch: gate::Gate::new(),
            bypassed: Atomic::new(false),
        })
    }

    /// Passes a kick on to the device. Any context.
    pub(crate) fn kick(&self) -> Look {
        self.switch.kick(self)
    }

    /// Passes an interrupt on to the consumer. Hard interrupt context.
    pub(crate) fn interrupt(&self) -> Look {
        self.switch.interrupt(self)
    }

    /// Lets kicks through to the device, and makes up for those that came before.
    pub(crate) fn open(&self, doorbell: Doorbell) {
        self.switch.open(doorbell, self);
    }

    /// Has kicks, and interrupts if `relayed`, lead to a look by the kernel from now on. One look is
    /// needed for what came before.
    pub(crate) fn serve(&self, relayed: bool) {
        self.switch.serve(relayed);
    }

    /// Lets no kick through any more. One that is under way may still reach the device.
    pub(crate) fn close_kicks(&self) {
        self.switch.close_kicks();
    }

    /// Lets no kick through any more, and has no interrupt lead to a look.
    pub(crate) fn close(&self) {
        self.switch.close();
    }

    /// Hands a queue that was relayed to the device, and tells both sides.
    pub(crate) fn hand_over(&self, doorbell: Doorbell) {
        self.switch.hand_over(doorbell, self);
    }

    /// Tells the consumer of interrupts, or not.
    pub(crate) fn set_muted(&self, muted: bool) {
        self.switch.set_muted(muted);
    }

    /// Notes that the consumer gets the doorbell, or the interrupt, for itself.
    pub(crate) fn note_bypass(&self) {
        self.bypassed.xchg(true, Full);
    }

    /// Returns whether kicks or interrupts may go past the kernel.
    pub(crate) fn is_bypassed(&self) -> bool {
        self.bypassed.load(Acquire)
    }

    /// Notes that there is a new consumer, or an old one that asks anew.
    pub(crate) fn forget_bypass(&self) {
        self.bypassed.xchg(false, Full);
    }
}
