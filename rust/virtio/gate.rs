// SPDX-License-Identifier: GPL-2.0

//! Where the notifications of a queue go (virtio 1.3, 2.3): to the other side, or to the kernel, which
//! serves the queue in between.
//!
//! Notifications pass without a lock, on any CPU, while whoever programs the queue switches the gate.
//! None is lost: a side that was told nothing is told once more after the switch. The words are
//! a parameter, so that this very code is run under every interleaving of two CPUs by the tests.

use crate::notify::Doorbell;

/// A number that several CPUs use at once.
pub trait Word {
    /// Makes a word with a value.
    fn new(value: u64) -> Self;

    /// Returns the value. What comes after is not done before.
    fn load(&self) -> u64;

    /// Replaces the value, as a full barrier: neither what comes before nor what comes after passes.
    fn replace(&self, value: u64);
}

/// The two sides of a queue, which can be told something in any context.
pub trait Sides {
    /// Notifies the device of available buffers.
    fn tell_device(&self, doorbell: Doorbell);

    /// Notifies the driver, who is the consumer, of used buffers.
    fn tell_driver(&self);
}

/// Whether somebody in the kernel has to look at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Look {
    /// The kernel serves the queue.
    Needed,
    /// The other side was told, or nobody is to be.
    NotNeeded,
}

const NO: u64 = 0;
const YES: u64 = 1;

/// Set in a word that holds a doorbell, so that whoever finds the gate open has all of it.
///
/// The number of the queue is in bits 32 to 47, the offset in the BAR in bits 0 to 31.
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

/// The gate of a queue.
///
/// Only one at a time may switch it, and [`kick`](Self::kick) and [`interrupt`](Self::interrupt) may
/// run meanwhile. Each switch says what whoever calls it owes the queue afterwards.
pub struct Gate<W> {
    /// Kicks are for the kernel.
    served: W,
    /// Interrupts are for the kernel, too.
    relayed: W,
    /// The doorbell, if kicks are for the device: 0, or what [`pack`] returns.
    doorbell: W,
    /// The queue is not enabled, and the driver is not told of interrupts.
    muted: W,
}

impl<W: Word> Gate<W> {
    /// Makes the gate of a queue that is not enabled: closed both ways.
    pub fn new() -> Self {
        Self {
            served: W::new(NO),
            relayed: W::new(NO),
            doorbell: W::new(0),
            muted: W::new(YES),
        }
    }

    /// Passes a kick on. If the gate is closed, whoever opens it makes up for it.
    ///
    /// There is a full barrier between the index of the available ring that the driver has written
    /// and this: the driver's own, as it has to look whether the device wants a notification.
    pub fn kick(&self, sides: &impl Sides) -> Look {
        if self.served.load() != NO {
            return Look::Needed;
        }
        if let Some(doorbell) = unpack(self.doorbell.load()) {
            sides.tell_device(doorbell);
        }
        Look::NotNeeded
    }

    /// Passes an interrupt on. What the device has written before it is seen.
    pub fn interrupt(&self, sides: &impl Sides) -> Look {
        if self.relayed.load() != NO {
            return Look::Needed;
        }
        if self.muted.load() == NO {
            sides.tell_driver();
        }
        Look::NotNeeded
    }

    /// Lets kicks through to the device, and makes up for those that came before: a kick that found
    /// the gate closed, or a device that has forgotten it in a reset.
    pub fn open(&self, doorbell: Doorbell, sides: &impl Sides) {
        self.doorbell.replace(pack(doorbell));
        sides.tell_device(doorbell);
    }

    /// Has kicks, and interrupts if `relayed`, lead to a look by the kernel from now on. One look is
    /// needed for what came before.
    pub fn serve(&self, relayed: bool) {
        self.relayed.replace(u64::from(relayed));
        self.served.replace(YES);
    }

    /// Lets no kick through any more. One that is under way may still reach the device.
    pub fn close_kicks(&self) {
        self.doorbell.replace(0);
        self.served.replace(NO);
    }

    /// Lets no kick through any more, and has no interrupt lead to a look.
    pub fn close(&self) {
        self.close_kicks();
        self.relayed.replace(NO);
    }

    /// Hands a queue that was relayed to the device, which serves the driver's rings from now on.
    pub fn hand_over(&self, doorbell: Doorbell, sides: &impl Sides) {
        self.doorbell.replace(pack(doorbell));
        self.served.replace(NO);
        self.relayed.replace(NO);
        // A kick or an interrupt that found the relay came before this, and so did what it was
        // about: the other side is told here.
        sides.tell_device(doorbell);
        sides.tell_driver();
    }

    /// Tells the driver of interrupts, or not. One look at the rings is owed to a driver that is told
    /// of them again.
    pub fn set_muted(&self, muted: bool) {
        self.muted.replace(u64::from(muted));
    }
}

impl<W: Word> Default for Gate<W> {
    fn default() -> Self {
        Self::new()
    }
}
