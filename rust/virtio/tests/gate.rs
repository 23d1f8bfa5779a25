// SPDX-License-Identifier: GPL-2.0

//! No notification is lost while a queue changes hands: every order of what two CPUs do, by loom.

#[path = "loom/mod.rs"]
mod words;

use std::panic::catch_unwind;

use loom::sync::atomic::fence;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering;
use loom::sync::Arc;
use loom::thread;
use virtio::gate::Gate;
use virtio::gate::Look;
use virtio::gate::Sides;
use virtio::notify::Doorbell;
use words::Word;

const DOORBELL: Doorbell = Doorbell {
    index: 0xa1b2,
    offset: 0xc3d4_e5f6,
};

/// What one side writes into memory, and whether the other has seen it.
struct Ring {
    written: AtomicBool,
    seen: AtomicBool,
}

impl Ring {
    fn new() -> Self {
        Self {
            written: AtomicBool::new(false),
            seen: AtomicBool::new(false),
        }
    }

    fn write(&self) {
        self.written.store(true, Ordering::Release);
    }

    fn look(&self) {
        if self.written.load(Ordering::Acquire) {
            self.seen.store(true, Ordering::Release);
        }
    }
}

/// A queue between its driver and its device.
struct World {
    gate: Gate<Word>,
    available: Ring,
    used: Ring,
    /// The work item of the kernel is to run.
    queued: AtomicBool,
}

impl Sides for World {
    fn tell_device(&self, doorbell: Doorbell) {
        assert_eq!(doorbell, DOORBELL);
        self.available.look();
    }

    fn tell_driver(&self) {
        self.used.look();
    }
}

impl World {
    fn new() -> Self {
        Self {
            gate: Gate::new(),
            available: Ring::new(),
            used: Ring::new(),
            queued: AtomicBool::new(false),
        }
    }

    /// The driver makes a buffer available, and sees to it that this is known.
    fn drive(&self) {
        self.available.write();
        fence(Ordering::SeqCst);
        if self.gate.kick(self) == Look::Needed {
            self.queued.store(true, Ordering::Release);
        }
    }

    /// The device uses a buffer, and interrupts.
    fn work(&self) {
        self.used.write();
        fence(Ordering::SeqCst);
        if self.gate.interrupt(self) == Look::Needed {
            self.queued.store(true, Ordering::Release);
        }
    }

    /// The work item runs if it was queued, and serves both ways.
    fn serve(&self) {
        if self.queued.load(Ordering::Acquire) {
            self.available.look();
            self.used.look();
        }
    }
}

/// Runs `other` while `switch` runs, in every order, then `after`, and looks what became of it.
fn interleave(before: fn(&World), switch: fn(&World), other: fn(&World), after: fn(&World)) {
    loom::model(move || {
        let world = Arc::new(World::new());
        before(&world);
        let thread = {
            let world = world.clone();
            thread::spawn(move || other(&world))
        };
        switch(&world);
        thread.join().unwrap();
        after(&world);
        let rings = [&world.available, &world.used];
        for ring in rings {
            let [written, seen] =
                [&ring.written, &ring.seen].map(|flag| flag.load(Ordering::Acquire));
            assert_eq!(written, seen, "a notification was lost");
        }
    });
}

fn nothing(_: &World) {}

fn relayed(world: &World) {
    world.gate.set_muted(false);
    world.gate.serve(true);
}

fn hand_over(world: &World) {
    world.gate.hand_over(DOORBELL, world);
}

/// There is no server any more, so a look by the kernel finds nothing.
#[test]
fn a_queue_is_handed_over_while_it_is_kicked() {
    interleave(relayed, hand_over, World::drive, nothing);
}

#[test]
fn a_queue_is_handed_over_while_it_interrupts() {
    interleave(relayed, hand_over, World::work, nothing);
}

#[test]
fn a_queue_is_opened_while_it_is_kicked() {
    let open = |world: &World| world.gate.open(DOORBELL, world);
    interleave(nothing, open, World::drive, nothing);
}

/// Whoever begins to serve looks once.
#[test]
fn the_kernel_begins_to_serve_while_it_is_kicked() {
    let begin = |world: &World| {
        world.gate.serve(true);
        world.available.look();
    };
    interleave(nothing, begin, World::drive, World::serve);
}

#[test]
fn the_kernel_begins_to_serve_while_it_interrupts() {
    let begin = |world: &World| {
        world.gate.serve(true);
        world.used.look();
    };
    interleave(nothing, begin, World::work, World::serve);
}

/// A kick that finds the gate closed is made up for when it opens.
#[test]
fn a_queue_is_closed_and_opened_while_it_is_kicked() {
    let switch = |world: &World| {
        world.gate.close_kicks();
        world.gate.open(DOORBELL, world);
    };
    let open = |world: &World| world.gate.open(DOORBELL, world);
    interleave(open, switch, World::drive, nothing);
}

/// A queue that was disabled and is enabled: one look at the rings makes up for the silence.
#[test]
fn a_queue_is_heard_again_while_it_interrupts() {
    let hear = |world: &World| {
        world.gate.set_muted(false);
        world.tell_driver();
    };
    interleave(nothing, hear, World::work, nothing);
}

/// The model can fail: a switch that tells nobody loses what came before it.
#[test]
fn without_a_word_to_the_device_a_kick_is_lost() {
    let switch = |world: &World| {
        world.gate.close_kicks();
        // As `hand_over`, but for the last word.
        world.gate.serve(false);
    };
    let lost = catch_unwind(|| interleave(relayed, switch, World::drive, nothing));
    assert!(lost.is_err());
}
