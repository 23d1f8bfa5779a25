// SPDX-License-Identifier: GPL-2.0

//! The part of a virtqueue that is used without a lock: its doorbell, callback and counters.

use super::{
    alarm::Alarm,
    control_queue::ControlQueue,
    requester::Requester,
    served::Served, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};
use vdpa::{
    callback::Slot,
    notifier::Notifier,
    virtio_pci::Doorbell,
    work::Work, //
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
pub(crate) struct Queue {
    /// The consumer's callback, and whoever serves the queue if the device does not.
    work: Pin<KBox<Work<Served>>>,
    notifier: Arc<Notifier>,
    /// The kernel serves the queue: kicks are for it.
    served: Atomic<bool>,
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
    pub(crate) fn new(notifier: Arc<Notifier>, alarm: Arc<Alarm>) -> Result<Self> {
        let work = Work::new(Served::new(alarm), c"vf_vdpa", static_lock_class!());

        Ok(Self {
            work: KBox::pin_init(work, GFP_KERNEL)?,
            notifier,
            served: Atomic::new(false),
            doorbell: Atomic::new(0),
            muted: Atomic::new(true),
            pending: Atomic::new(false),
            kicks: Atomic::new(0),
            interrupts: Atomic::new(0),
        })
    }

    /// Returns the slot of the consumer's callback.
    pub(crate) fn callback(&self) -> &Slot {
        &self.work.data().callback
    }

    /// Passes a kick on to whoever serves the queue, or remembers it if nobody does. Any context.
    pub(crate) fn kick(&self) {
        self.kicks.add(1, Relaxed);
        if self.served.load(Acquire) {
            return self.work.queue();
        }
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
            self.notifier.ring(doorbell);
        }
    }

    /// Opens the gate, and makes up for a kick that came too early.
    pub(crate) fn open(&self, doorbell: Doorbell) {
        self.doorbell.xchg(pack(doorbell), Full);
        if self.pending.xchg(false, Full) {
            self.notifier.ring(doorbell);
        }
    }

    /// Has the queue served by the kernel from now on.
    pub(crate) fn serve(&self, server: ControlQueue) {
        self.work.data().start(server);
        self.served.xchg(true, Full);
        // Whatever was kicked for before is found by looking.
        self.work.queue();
    }

    /// Has the queue served by the kernel no more, and waits for the command that is being served.
    /// Sleeps.
    pub(crate) fn end_serving(&self) -> Option<Requester> {
        self.pause_serving();
        self.work.data().finish()
    }

    /// Serves nothing any more, and waits for the command that is being served, which is given up.
    /// Sleeps.
    pub(crate) fn pause_serving(&self) {
        self.hurry();
        self.work.cancel();
    }

    /// Makes the command that is being served come to an end soon; no other will be.
    fn hurry(&self) {
        self.served.xchg(false, Full);
        self.work.data().hurry();
    }

    /// Closes the gate. A kick that is under way may still reach the device.
    pub(crate) fn close(&self) {
        self.doorbell.xchg(0, Full);
        self.hurry();
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
            self.callback().call();
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
