// SPDX-License-Identifier: GPL-2.0

//! Whoever goes to sleep beside a relay is told of what came before it slept: every order of what the
//! relay does on one CPU and a guest or a device on another, by loom.

#[path = "loom/mod.rs"]
mod words;

use std::panic::catch_unwind;

use loom::sync::atomic::fence;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::AtomicU16;
use loom::sync::atomic::Ordering;
use loom::sync::Arc;
use loom::thread;
use virtio::gate::Gate;
use virtio::gate::Look;
use virtio::gate::Sides;
use virtio::memory::Memory;
use virtio::notify::Doorbell;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Returns;
use virtio::relay::Rings;
use words::Word;

type Relay = virtio::relay::Relay<Vec<u64>>;

/// The rings of a queue of one descriptor, and what the words in them mean.
const RINGS: Rings = Rings {
    driver: 0,
    device: 8,
};
const NO_INTERRUPT: usize = 0;
const AVAIL_INDEX: usize = 1;
const USED_EVENT: usize = 3;
const NO_NOTIFY: usize = 4;
const USED_INDEX: usize = 5;
const AVAIL_EVENT: usize = 10;
const WORDS: usize = 11;

/// Where the guest is when the relay begins.
const BASE: u16 = 7;

/// No more than the contract of [`Memory`], and less if its barrier is none.
struct Ram {
    words: Vec<AtomicU16>,
    fenced: bool,
}

impl Ram {
    /// Nobody wants to be told before he says so, but for a relay without events: that always does.
    fn new(index: u16, no_interrupt: bool, fenced: bool) -> Self {
        let words = (0..WORDS).map(|word| match word {
            AVAIL_INDEX | USED_INDEX => AtomicU16::new(index),
            NO_INTERRUPT => AtomicU16::new(u16::from(no_interrupt)),
            NO_NOTIFY => AtomicU16::new(1),
            USED_EVENT | AVAIL_EVENT => AtomicU16::new(index.wrapping_sub(9)),
            _ => AtomicU16::new(0),
        });
        Self {
            words: words.collect(),
            fenced,
        }
    }

    fn word(&self, addr: u64) -> &AtomicU16 {
        &self.words[usize::try_from(addr / 2).unwrap()]
    }

    fn load(&self, word: usize) -> u16 {
        self.words[word].load(Ordering::Acquire)
    }

    fn store(&self, word: usize, value: u16) {
        self.words[word].store(value, Ordering::Release);
    }
}

impl Memory for Ram {
    type Error = ();

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ()> {
        for (at, bytes) in (addr..).step_by(2).zip(buf.chunks_mut(2)) {
            bytes.copy_from_slice(&self.word(at).load(Ordering::Relaxed).to_le_bytes());
        }
        Ok(())
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), ()> {
        for (at, bytes) in (addr..).step_by(2).zip(buf.chunks(2)) {
            let value = u16::from_le_bytes(bytes.try_into().unwrap());
            self.word(at).store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_index(&self, addr: u64) -> Result<u16, ()> {
        Ok(self.word(addr).load(Ordering::Acquire))
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), ()> {
        self.word(addr).store(index, Ordering::Release);
        Ok(())
    }

    fn full_barrier(&self) {
        if self.fenced {
            fence(Ordering::SeqCst);
        }
    }
}

/// What the relay shares with the others.
struct World {
    gate: Gate<Word>,
    guest: Ram,
    shadow: Ram,
    event_idx: bool,
    /// The work item is to run: kicks and interrupts lead here.
    queued: AtomicBool,
    /// It is being cancelled, and cannot be queued.
    disabled: AtomicBool,
    /// The relay has told the other side.
    told: AtomicBool,
    /// The other side has seen by itself what it would be told of.
    seen: AtomicBool,
}

/// Nobody is reached past the relay.
impl Sides for World {
    fn tell_device(&self, _: Doorbell) {}

    fn tell_driver(&self) {}
}

impl World {
    /// Somebody has moved the index of a ring by one, to `new`, and tells the relay of it if that
    /// wants to be told: by the word `flag`, or by `event`.
    fn tell(&self, ram: &Ram, new: u16, flag: usize, event: usize, gate: fn(&Self) -> Look) {
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            ram.load(event) == new.wrapping_sub(1)
        } else {
            ram.load(flag) == 0
        };
        if wanted && gate(self) == Look::Needed {
            self.queue();
        }
    }

    /// Somebody wants to be told when `index` moves from `old`, and looks once more.
    fn listen(&self, ram: &Ram, old: u16, flag: usize, event: usize, index: usize) {
        if self.event_idx {
            ram.store(event, old);
        } else {
            ram.store(flag, 0);
        }
        fence(Ordering::SeqCst);
        self.seen.store(ram.load(index) != old, Ordering::Release);
    }

    fn guest_adds(&self) {
        self.guest.store(AVAIL_INDEX, BASE + 1);
        self.tell(&self.guest, BASE + 1, NO_NOTIFY, AVAIL_EVENT, |world| {
            world.gate.kick(world)
        });
    }

    fn device_uses(&self) {
        self.shadow.store(USED_INDEX, 1);
        self.tell(&self.shadow, 1, NO_INTERRUPT, USED_EVENT, |world| {
            world.gate.interrupt(world)
        });
    }

    fn guest_sleeps(&self) {
        self.listen(&self.guest, BASE, NO_INTERRUPT, USED_EVENT, USED_INDEX);
    }

    fn device_sleeps(&self) {
        self.listen(&self.shadow, 0, NO_NOTIFY, AVAIL_EVENT, AVAIL_INDEX);
    }

    fn queue(&self) {
        fence(Ordering::SeqCst);
        if !self.disabled.load(Ordering::Acquire) {
            self.queued.swap(true, Ordering::AcqRel);
        }
    }

    /// What whoever stops a device does to its relay.
    fn pause(&self) {
        self.gate.close();
        self.disabled.store(true, Ordering::Release);
        self.queued.swap(false, Ordering::AcqRel);
        self.disabled.store(false, Ordering::Release);
    }

    /// What whoever has the relay go on does.
    fn begin(&self) {
        self.gate.serve(true);
        self.queue();
    }

    /// The work item: runs if it is queued, and whoever queues it from then on has it run again. Either
    /// is a full barrier, as in the kernel.
    fn work(&self, relay: &mut Relay) {
        if !self.queued.swap(false, Ordering::AcqRel) {
            return;
        }
        fence(Ordering::SeqCst);
        loop {
            let back = relay.give_back(&self.guest, &self.shadow).unwrap();
            let forth = relay.forward(&self.guest, &self.shadow, false).unwrap();
            if back.tell || forth.tell {
                self.told.store(true, Ordering::Release);
            }
            if !relay.listen(&self.guest, &self.shadow, false).unwrap().more {
                break;
            }
        }
    }
}

/// Runs `other` while the relay does `this`, in every order, then what was queued, and asks `fine`.
fn interleave(
    [event_idx, fenced]: [bool; 2],
    before: fn(&World, &mut Relay),
    this: fn(&World, &mut Relay),
    other: fn(&World),
    fine: fn(&World, &Relay) -> bool,
) {
    loom::model(move || {
        let world = Arc::new(World {
            guest: Ram::new(BASE, true, fenced),
            shadow: Ram::new(0, false, fenced),
            event_idx,
            gate: Gate::new(),
            queued: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            told: AtomicBool::new(false),
            seen: AtomicBool::new(false),
        });
        let size = Size::new(1, 1, RingKind::Split).unwrap();
        let mut relay = Relay::new(
            size,
            RINGS,
            RINGS,
            BASE,
            event_idx,
            Returns::Promptly,
            vec![0],
        )
        .unwrap();
        before(&world, &mut relay);
        world.begin();
        let thread = {
            let world = world.clone();
            thread::spawn(move || other(&world))
        };
        this(&world, &mut relay);
        thread.join().unwrap();
        world.work(&mut relay);
        assert!(fine(&world, &relay), "somebody sleeps for ever");
    });
}

/// As above, in both modes; and the model can fail: without the relay's barrier it does, in those that
/// `matters` says.
fn wakes(
    matters: [bool; 2],
    before: fn(&World, &mut Relay),
    other: fn(&World),
    fine: fn(&World, &Relay) -> bool,
) {
    for (event_idx, matters) in [false, true].into_iter().zip(matters) {
        interleave([event_idx, true], before, World::work, other, fine);
        let sleeps =
            catch_unwind(|| interleave([event_idx, false], before, World::work, other, fine));
        assert_eq!(sleeps.is_err(), matters, "{event_idx}");
    }
}

fn in_flight(world: &World, relay: &mut Relay) {
    world.guest.store(AVAIL_INDEX, BASE + 1);
    relay.forward(&world.guest, &world.shadow, false).unwrap();
}

#[test]
fn a_relay_that_falls_asleep_hears_the_guest() {
    wakes(
        [true; 2],
        |_, _| (),
        World::guest_adds,
        |_, relay| relay.next_avail() == BASE + 1,
    );
}

#[test]
fn a_relay_that_falls_asleep_hears_the_device() {
    // Without events it never says that it wants no interrupt.
    wakes([false, true], in_flight, World::device_uses, |_, relay| {
        relay.next_used() == BASE + 1
    });
}

fn told_or_seen(world: &World, _: &Relay) -> bool {
    world.told.load(Ordering::Acquire) || world.seen.load(Ordering::Acquire)
}

#[test]
fn a_device_that_falls_asleep_hears_the_relay() {
    wakes(
        [true; 2],
        |world, _| world.guest.store(AVAIL_INDEX, BASE + 1),
        World::device_sleeps,
        told_or_seen,
    );
}

#[test]
fn a_guest_that_falls_asleep_hears_the_relay() {
    wakes(
        [true; 2],
        |world, relay| {
            in_flight(world, relay);
            world.shadow.store(USED_INDEX, 1);
        },
        World::guest_sleeps,
        told_or_seen,
    );
}

/// Paused, it may have been cancelled before it has run; what came meanwhile is found when it begins
/// again.
#[test]
fn a_relay_that_is_paused_hears_the_device_when_it_goes_on() {
    for event_idx in [false, true] {
        let run = |pause: fn(&World, &mut Relay)| {
            let fine = |_: &World, relay: &Relay| relay.next_used() == BASE + 1;
            interleave(
                [event_idx, true],
                in_flight,
                pause,
                World::device_uses,
                fine,
            );
        };
        run(|world, relay| {
            world.work(relay);
            world.pause();
            world.begin();
        });
        // The model can fail: nobody looks once.
        let lost = catch_unwind(|| {
            run(|world, relay| {
                world.work(relay);
                world.pause();
                world.gate.serve(true);
            });
        });
        assert!(lost.is_err());
    }
}
