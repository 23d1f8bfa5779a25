// SPDX-License-Identifier: GPL-2.0

//! A relayed queue, and a guest or a device beside it, as loom runs them. Who may look at the rings, and
//! when, is as `drivers/vdpa/vf_vdpa/served.rs` and `hand_back.rs` have it.

use loom::sync::atomic::fence;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::AtomicU16;
use loom::sync::atomic::Ordering;
use loom::sync::Arc;
use loom::sync::Mutex;
use loom::thread;
use virtio::boundary::Boundary;
use virtio::boundary::Needs;
use virtio::gate::Gate;
use virtio::gate::Look;
use virtio::gate::Sides;
use virtio::memory::Memory;
use virtio::notify::Doorbell;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Relay;
use virtio::relay::Returns;
use virtio::relay::Rings;
use virtio::relayed::Pass;
use virtio::relayed::Passed;
use virtio::relayed::Relayed;

use crate::words::Word;

/// The rings of a queue, and what the words in them mean.
const RINGS: Rings = Rings {
    driver: 0,
    device: 40,
};
/// So many that one in flight is not plenty.
const SIZE: u16 = 16;
const NO_INTERRUPT: usize = 0;
pub(crate) const AVAIL_INDEX: usize = 1;
const HEADS: usize = 2;
const USED_EVENT: usize = 18;
const NO_NOTIFY: usize = 20;
pub(crate) const USED_INDEX: usize = 21;
const IDS: usize = 22;
const AVAIL_EVENT: usize = 86;
const WORDS: usize = 87;

/// Where the guest is when the relay begins: one before the beginning, and before the boundary.
pub(crate) const BASE: u16 = 0xffff;
const DOORBELL: Doorbell = Doorbell {
    index: 0,
    offset: 0,
};

/// Whether indices say who wants to be told, and how soon chains have to come back.
pub(crate) type Kind = (bool, Returns);

pub(crate) const KINDS: [Kind; 3] = [
    (false, Returns::Promptly),
    (true, Returns::Promptly),
    (true, Returns::Together),
];

/// What becomes of the queue at the boundary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It stays relayed.
    Never,
    /// The device gets it back.
    HandedBack,
    /// The same, but nobody is told of what came meanwhile.
    Unheard,
}

/// Who is not told.
struct Deaf;

impl Sides for Deaf {
    fn tell_device(&self, _: Doorbell) {}

    fn tell_driver(&self) {}
}

/// No more than the contract of [`Memory`], and less if its barrier is none.
pub(crate) struct Ram {
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
            // In order: the first chain is the first descriptor.
            HEADS..USED_EVENT => {
                let slot = u16::try_from(word - HEADS).unwrap();
                AtomicU16::new(slot.wrapping_sub(index) % SIZE)
            }
            IDS..AVAIL_EVENT if (word - IDS) % 4 == 0 => {
                AtomicU16::new(u16::try_from((word - IDS) / 4).unwrap())
            }
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

    pub(crate) fn load(&self, word: usize) -> u16 {
        self.words[word].load(Ordering::Acquire)
    }

    pub(crate) fn store(&self, word: usize, value: u16) {
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
pub(crate) struct World {
    pub(crate) gate: Gate<Word>,
    pub(crate) guest: Ram,
    pub(crate) shadow: Ram,
    event_idx: bool,
    /// Whoever passes something on has it.
    relay: Mutex<Option<Relayed<Vec<u64>, (), ()>>>,
    /// The relay is not to be looked at.
    stop: AtomicBool,
    /// The work item is to run.
    queued: AtomicBool,
    /// It is being cancelled, and cannot be queued.
    disabled: AtomicBool,
    /// The relay has told the other side.
    pub(crate) told: AtomicBool,
    /// The other side has seen by itself what it would be told of.
    pub(crate) seen: AtomicBool,
    /// The index of the guest's ring that the device has seen there, when it was notified of it.
    reached: AtomicU16,
    end: End,
}

/// Past the relay: once the device has its queue back.
impl Sides for World {
    fn tell_device(&self, _: Doorbell) {
        fence(Ordering::SeqCst);
        self.reached
            .fetch_max(self.guest.load(AVAIL_INDEX), Ordering::AcqRel);
    }

    fn tell_driver(&self) {}
}

impl World {
    /// Somebody has moved the index of a ring by one, to `new`. Returns whether the relay wants to be
    /// told of it, by the word `flag` or by `event`.
    fn wants(&self, ram: &Ram, new: u16, flag: usize, event: usize) -> bool {
        fence(Ordering::SeqCst);
        if self.event_idx {
            ram.load(event) == new.wrapping_sub(1)
        } else {
            ram.load(flag) == 0
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

    pub(crate) fn guest_adds(&self) {
        let new = self.guest.load(AVAIL_INDEX).wrapping_add(1);
        self.guest.store(AVAIL_INDEX, new);
        let wanted = self.wants(&self.guest, new, NO_NOTIFY, AVAIL_EVENT);
        if wanted && self.gate.kick(self) == Look::Needed {
            self.serve_now(Pass::Kick);
        }
    }

    pub(crate) fn device_uses(&self) {
        let new = self.shadow.load(USED_INDEX).wrapping_add(1);
        self.shadow.store(USED_INDEX, new);
        let wanted = self.wants(&self.shadow, new, NO_INTERRUPT, USED_EVENT);
        if wanted && self.gate.interrupt(self) == Look::Needed {
            self.serve_now(Pass::Interrupt);
        }
    }

    /// The device uses all that it has, and what it is given meanwhile. Returns whether these are two,
    /// and the guest has both back.
    pub(crate) fn device_finishes(&self) -> bool {
        while self.shadow.load(USED_INDEX) != self.shadow.load(AVAIL_INDEX) {
            self.device_uses();
            self.work();
        }
        self.passed() == [2, 2]
    }

    pub(crate) fn guest_sleeps(&self) {
        self.listen(&self.guest, BASE, NO_INTERRUPT, USED_EVENT, USED_INDEX);
    }

    pub(crate) fn device_sleeps(&self) {
        self.listen(&self.shadow, 0, NO_NOTIFY, AVAIL_EVENT, AVAIL_INDEX);
    }

    fn queue(&self) {
        fence(Ordering::SeqCst);
        if !self.disabled.load(Ordering::Acquire) {
            self.queued.swap(true, Ordering::AcqRel);
        }
    }

    /// What whoever stops a device does to its relay.
    pub(crate) fn pause(&self) {
        self.gate.close();
        self.set_stop(true);
        drop(self.relay.lock().unwrap());
        self.disabled.store(true, Ordering::Release);
        self.queued.swap(false, Ordering::AcqRel);
        self.disabled.store(false, Ordering::Release);
    }

    /// What whoever has the relay go on does.
    pub(crate) fn begin(&self) {
        self.set_stop(false);
        self.gate.serve(true);
        self.queue();
    }

    pub(crate) fn set_stop(&self, stop: bool) {
        fence(Ordering::SeqCst);
        self.stop.swap(stop, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Looks at the rings once. Returns [`None`] if that is over.
    fn pass(&self, pass: Pass) -> Option<Passed> {
        let mut relay = self.relay.lock().unwrap();
        if self.stop.load(Ordering::Acquire) {
            return None;
        }
        let passed = (*relay)
            .as_mut()?
            .pass(Some(&self.guest), &self.shadow, pass, 0, || ());
        if passed.back.tell || passed.forth.tell {
            self.told.store(true, Ordering::Release);
        }
        Some(passed)
    }

    /// A kick, or an interrupt.
    pub(crate) fn serve_now(&self, pass: Pass) {
        let left = match self.pass(pass) {
            Some(passed) => passed.has_left_something(),
            None => !self.stop.load(Ordering::Acquire),
        };
        if left {
            self.queue();
        }
    }

    /// How the work item looks.
    fn rested(&self) -> Pass {
        match &*self.relay.lock().unwrap() {
            Some(relay) if relay.rests() => Pass::Rested,
            _ => Pass::Work,
        }
    }

    /// The work item: runs if it is queued, and whoever queues it from then on has it run again. Either
    /// is a full barrier, as in the kernel.
    pub(crate) fn work(&self) {
        if self.queued.swap(false, Ordering::AcqRel) {
            fence(Ordering::SeqCst);
            while let Some(passed) = self.pass(self.rested()) {
                if passed.drained {
                    self.hand_back();
                    break;
                }
                if !passed.more && !passed.paced {
                    break;
                }
            }
        }
    }

    /// The device gets its queue back, if that can still be done.
    fn hand_back(&self) {
        let leaves = (*self.relay.lock().unwrap())
            .as_mut()
            .is_some_and(Relayed::leave);
        if leaves {
            // The device begins anew, on the guest's rings.
            drop(self.relay.lock().unwrap().take());
            match self.end {
                End::Unheard => self.gate.hand_over(DOORBELL, &Deaf),
                _ => self.gate.hand_over(DOORBELL, self),
            }
        }
    }

    /// How many chains the device was given, and how many the guest has got back. A device that has its
    /// queue back was given what it has seen when it was notified.
    pub(crate) fn passed(&self) -> [u16; 2] {
        let (given, back) = match &*self.relay.lock().unwrap() {
            Some(relay) => (relay.relay().next_avail(), relay.relay().next_used()),
            None => (self.reached.load(Ordering::Acquire), 0),
        };
        [given, back].map(|index| index.wrapping_sub(BASE))
    }

    /// Whether the device has its queue back.
    pub(crate) fn is_handed_back(&self) -> bool {
        self.relay.lock().unwrap().is_none()
    }
}

/// What there was before: chains that the device has, and what else has happened.
pub(crate) type Before = (u16, fn(&World));

/// Runs `other` while the relay does `this`, in every order, then what was queued, and asks `fine`.
pub(crate) fn interleave(
    (event_idx, returns): Kind,
    fenced: bool,
    end: End,
    (in_flight, before): Before,
    this: fn(&World),
    other: fn(&World),
    fine: fn(&World) -> bool,
) {
    loom::model(move || {
        let size = Size::new(SIZE.into(), SIZE, RingKind::Split).unwrap();
        let mut relay = Relay::new(size, RINGS, RINGS, BASE, event_idx, returns, vec![0]).unwrap();
        let guest = Ram::new(BASE, true, fenced);
        let shadow = Ram::new(0, false, fenced);
        guest.store(AVAIL_INDEX, BASE.wrapping_add(in_flight));
        relay.begin::<_, ()>(&guest).unwrap();
        relay.forward(&guest, &shadow, false).unwrap();
        let boundary = match end {
            End::Never => Boundary::never(),
            End::HandedBack | End::Unheard => Boundary::new(Needs::One),
        };
        let world = Arc::new(World {
            guest,
            shadow,
            event_idx,
            gate: Gate::new(),
            relay: Mutex::new(Some(Relayed::new(relay, boundary, false))),
            stop: AtomicBool::new(true),
            queued: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            told: AtomicBool::new(false),
            seen: AtomicBool::new(false),
            reached: AtomicU16::new(0),
            end,
        });
        before(&world);
        world.begin();
        let thread = {
            let world = world.clone();
            thread::spawn(move || other(&world))
        };
        this(&world);
        thread.join().unwrap();
        world.work();
        assert!(fine(&world), "somebody sleeps for ever");
    });
}
