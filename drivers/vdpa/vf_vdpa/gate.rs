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
    notifier::Notifier,
    virtio_pci::Doorbell, //
};

/// A doorbell in one word, so that whoever finds the gate open has all of it.
///
/// Bit 63 is set while the gate is open; the number of the queue is in bits 32 to 47, the offset in
/// the BAR in bits 0 to 31.
const OPEN: u64 = 1 << 63;

fn pack(doorbell: Doorbell) -> u64 {
    OPEN | u64::from(doorbell.index) << 32 | u64::from(doorbell.offset)
}

fn unpack(word: u64) -> Option<Doorbell> {
    let [o0, o1, o2, o3, i0, i1, _, _] = word.to_le_bytes();

    (word & OPEN != 0).then_some(Doorbell {
        index: u16::from_le_bytes([i0, i1]),
        offset: u32::from_le_bytes([o0, o1, o2, o3]),
    })
}

/// Whether somebody in the kernel has to look at the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Look {
    Needed,
    NotNeeded,
}

/// The gate of a virtqueue.
#[pin_data]
pub(crate) struct Gate {
    /// The consumer's callback.
    #[pin]
    pub(crate) callback: Slot,
    notifier: Arc<Notifier>,
    /// The kernel serves the queue: kicks are for it.
    served: Atomic<bool>,
    /// Interrupts are for it, too.
    relayed: Atomic<bool>,
    /// The doorbell, if kicks are for the device: 0, or what [`pack`] returns.
    doorbell: Atomic<u64>,
    /// The queue is not enabled, and the consumer is not told of interrupts.
    muted: Atomic<bool>,
    /// The consumer may have the doorbell, or the interrupt, for itself since the last reset.
    bypassed: Atomic<bool>,
}

impl Gate {
    pub(crate) fn new(notifier: Arc<Notifier>) -> impl PinInit<Self> {
        pin_init!(Self {
            callback <- Slot::new(),
            notifier,
            served: Atomic::new(false),
            relayed: Atomic::new(false),
            doorbell: Atomic::new(0),
            muted: Atomic::new(true),
            bypassed: Atomic::new(false),
        })
    }

    /// Passes a kick on to the device. If the gate is closed, whoever opens it makes up for it. Any
    /// context.
    pub(crate) fn kick(&self) -> Look {
        if self.served.load(Acquire) {
            return Look::Needed;
        }
        if let Some(doorbell) = unpack(self.doorbell.load(Acquire)) {
            self.notifier.ring(doorbell);
        }
        Look::NotNeeded
    }

    /// Passes an interrupt on to the consumer. Hard interrupt context.
    pub(crate) fn interrupt(&self) -> Look {
        if self.relayed.load(Acquire) {
            return Look::Needed;
        }
        if !self.muted.load(Acquire) {
            self.callback.call();
        }
        Look::NotNeeded
    }

    /// Lets kicks through to the device, and makes up for those that came before: a kick that found
    /// the gate closed, or a device that has forgotten it in a reset.
    pub(crate) fn open(&self, doorbell: Doorbell) {
        self.doorbell.xchg(pack(doorbell), Full);
        self.notifier.ring(doorbell);
    }

    /// Has kicks, and interrupts if `relayed`, lead to a look by the kernel from now on. One look is
    /// needed for what came before.
    pub(crate) fn serve(&self, relayed: bool) {
        self.relayed.xchg(relayed, Full);
        self.served.xchg(true, Full);
    }

    /// Lets no kick through any more. One that is under way may still reach the device.
    pub(crate) fn close_kicks(&self) {
        self.doorbell.xchg(0, Full);
        self.served.xchg(false, Full);
    }

    /// Lets no kick through any more, and has no interrupt lead to a look.
    pub(crate) fn close(&self) {
        self.close_kicks();
        self.relayed.xchg(false, Full);
    }

    /// Hands a queue that was relayed to the device, which serves the consumer's rings from now on.
    pub(crate) fn hand_over(&self, doorbell: Doorbell) {
        self.doorbell.xchg(pack(doorbell), Full);
        self.served.xchg(false, Full);
        self.relayed.xchg(false, Full);
        // A kick or an interrupt that found the relay came before this, and so did what it was
        // about: the other side is told here.
        self.notifier.ring(doorbell);
        self.callback.call();
    }

    /// Tells the consumer of interrupts, or not.
    pub(crate) fn set_muted(&self, muted: bool) {
        self.muted.xchg(muted, Full);
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
