// SPDX-License-Identifier: GPL-2.0

//! The part of a virtqueue that is used without a lock: its doorbell, callback and counters.

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    }, //
};
use vdpa::{
    callback::Slot,
    virtio_pci::{
        Doorbell,
        Transport, //
    }, //
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

/// What is known of a virtqueue without a lock, by the index that the consumer uses.
#[pin_data]
pub(crate) struct Queue {
    /// The consumer's callback.
    #[pin]
    pub(crate) callback: Slot,
    /// The gate of the doorbell: 0, or what [`pack`] returns.
    doorbell: Atomic<u64>,
    /// The queue is not enabled, and the consumer is not told of interrupts.
    muted: Atomic<bool>,
    /// A kick came while the gate was closed.
    pending: Atomic<bool>,
    kicks: Atomic<u64>,
    interrupts: Atomic<u64>,
}

impl Queue {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            callback <- Slot::new(),
            doorbell: Atomic::new(0),
            muted: Atomic::new(true),
            pending: Atomic::new(false),
            kicks: Atomic::new(0),
            interrupts: Atomic::new(0),
        })
    }

    /// Passes a kick on to the device, or remembers it if the queue is not live. Any context.
    pub(crate) fn kick(&self, transport: &Transport<'_>) {
        self.kicks.add(1, Relaxed);
        let doorbell = match unpack(self.doorbell.load(Acquire)) {
            Some(doorbell) => Some(doorbell),
            None => {
                // The gate may open right now. Both sides write, then read, with full barriers:
                // one of them sees the other.
                self.pending.xchg(true, Full);
                unpack(self.doorbell.load(Acquire))
            }
        };

        if let Some(doorbell) = doorbell {
            transport.ring(doorbell);
        }
    }

    /// Opens the gate, and makes up for a kick that came too early.
    pub(crate) fn open(&self, doorbell: Doorbell, transport: &Transport<'_>) {
        self.doorbell.xchg(pack(doorbell), Full);
        if self.pending.xchg(false, Full) {
            transport.ring(doorbell);
        }
    }

    /// Closes the gate. A kick that is under way may still reach the device.
    pub(crate) fn close(&self) {
        self.doorbell.xchg(0, Full);
    }

    /// Tells the consumer of interrupts, or not.
    pub(crate) fn set_muted(&self, muted: bool) {
        self.muted.xchg(muted, Full);
    }

    /// Forgets kicks that came too early.
    pub(crate) fn forget_kicks(&self) {
        self.pending.xchg(false, Full);
    }

    /// Passes an interrupt on to the consumer. Hard interrupt context.
    pub(crate) fn interrupt(&self) {
        self.interrupts.add(1, Relaxed);
        if !self.muted.load(Acquire) {
            self.callback.call();
        }
    }

    /// Returns the number of kicks since probe, without those through a mapped doorbell.
    pub(crate) fn kicks(&self) -> u64 {
        self.kicks.load(Relaxed)
    }

    /// Returns the number of interrupts since probe. A shared interrupt counts for all its queues.
    pub(crate) fn interrupts(&self) -> u64 {
        self.interrupts.load(Relaxed)
    }
}
