// SPDX-License-Identifier: GPL-2.0

//! A guest, a relay and a device that keep to the rules, in whatever order they are called.

use std::cell::RefCell;
use std::collections::VecDeque;

use virtio::boundary::Boundary;
use virtio::boundary::Needs;
use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Relay;
use virtio::relay::Returns;
use virtio::relay::Rings;
use virtio::relayed::Pass;
use virtio::relayed::Passed;
use virtio::relayed::Relayed;
use virtio::relayed::Unclear;
use virtio::split::SplitQueue;
use virtio::standing;

use crate::kind::Act;
use crate::kind::Kind;
use crate::reach::Both;
use crate::reach::Watched;
use crate::reach::SHADOW;
use crate::ring::Driver;
use crate::ring::Ram;
use crate::ring::Unmapped;

pub(crate) type TestRelay = Relay<Vec<u64>>;
pub(crate) type TestRelayed = Relayed<Vec<u64>, Unmapped, Unmapped>;

/// What somebody else does with a chain that he takes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    ComesBack,
    /// He loses track of it.
    IsLost,
    /// As QEMU: in its place comes back one that was made available so many later, if there is one, and that has no
    /// turn any more.
    IsTakenFor(u16),
}

/// A guest, a relay and a device, and who has to be told what.
pub(crate) struct World {
    pub(crate) driver: Driver,
    pub(crate) guest: Ram,
    pub(crate) shadow: Ram,
    /// None once the device has the guest's rings, and while it is at work.
    pub(crate) relay: Option<TestRelayed>,
    /// Kicks and interrupts are for the relay.
    relayed: bool,
    pub(crate) device: SplitQueue,
    /// Chains that the device has taken.
    taken: VecDeque<u16>,
    /// It has returned them in the order in which they came, since it began.
    ordered: bool,
    /// The queue can be handed back.
    hold: bool,
    returns: Returns,
    /// Milliseconds.
    now: u64,
    /// Somebody else has the lock without which no queue is handed back.
    pub(crate) locked: bool,
    /// The relay sleeps.
    asleep: bool,
    /// The relay was told something by the guest.
    pub(crate) kicked: bool,
    /// It was told something by the device, or has seen that there is more to do.
    pub(crate) relay_awake: bool,
    pub(crate) device_awake: bool,
    guest_awake: bool,
    /// It looks at nothing before it is told.
    guest_asleep: bool,
    /// What others do at which access of the relay's.
    plan: Vec<(u8, Act)>,
    /// How many there were since it was woken.
    pub(crate) accesses: u8,
    pub(crate) added: u32,
    pub(crate) reaped: u32,
    /// Chains that a device has begun, counted each time.
    pub(crate) popped: u32,
    /// Those that a device had begun and not returned when it was stopped.
    pub(crate) redone: u32,
    /// Chains that somebody else has taken.
    elsewhere: u32,
    /// The device returns chains in the order in which they came: else nobody can tell which are lost.
    pub(crate) keeps_order: bool,
    /// Those of which he has lost track, by their heads.
    pub(crate) lost: Vec<u16>,
    pub(crate) stops: u32,
    pub(crate) hand_backs: u32,
}

impl World {
    pub(crate) fn new(size: u16, start: u16, (event_idx, returns): Kind, hold: bool) -> Self {
        let (driver, guest) = Driver::new(size, start, event_idx);
        let (relay, device, shadow) = Self::begin(&driver, start, returns);
        let relay = Self::queue(relay, hold, returns);
        Self {
            device,
            driver,
            guest,
            shadow,
            relay: Some(relay),
            relayed: true,
            taken: VecDeque::new(),
            ordered: true,
            hold,
            returns,
            now: 0,
            locked: false,
            asleep: false,
            kicked: false,
            relay_awake: true,
            device_awake: true,
            guest_awake: false,
            guest_asleep: false,
            plan: Vec::new(),
            accesses: 0,
            added: 0,
            reaped: 0,
            popped: 0,
            redone: 0,
            elsewhere: 0,
            keeps_order: false,
            lost: Vec::new(),
            stops: 0,
            hand_backs: 0,
        }
    }

    /// A relay that goes on at `start`, and a device that begins on its shadow rings.
    fn begin(driver: &Driver, start: u16, returns: Returns) -> (TestRelay, SplitQueue, Ram) {
        let size = driver.size;
        let bytes = 6 + 2 * usize::from(size) + 2 + 6 + 8 * usize::from(size);
        let rings = Rings {
            driver: Ram::BASE,
            device: (Ram::BASE + 6 + 2 * u64::from(size) + 3) & !3,
        };
        let own = Rings {
            driver: driver.addresses.driver,
            device: driver.addresses.device,
        };
        let words = vec![0; usize::from(size).div_ceil(64)];
        let size = Size::new(size.into(), size, RingKind::Split).unwrap();
        let relay = Relay::new(size, own, rings, start, driver.event_idx, returns, words).unwrap();
        let addresses = Addresses {
            desc: driver.addresses.desc,
            driver: SHADOW + rings.driver,
            device: SHADOW + rings.device,
        };
        let device = Self::device(driver, addresses);
        (relay, device, Ram::new(vec![0; bytes]))
    }

    /// The relay alone.
    pub(crate) fn alone(&mut self) -> TestRelay {
        self.relay.take().unwrap().relay().clone()
    }

    /// The queue of a relay.
    fn queue(relay: TestRelay, hold: bool, returns: Returns) -> TestRelayed {
        let boundary = match (hold, returns) {
            (false, _) => Boundary::never(),
            (true, Returns::Promptly) => Boundary::new(Needs::Several),
            (true, Returns::Together) => Boundary::new(Needs::One),
        };
        Relayed::new(relay, boundary, false)
    }

    /// A device as it is after a reset.
    fn device(driver: &Driver, addresses: Addresses) -> SplitQueue {
        let size = Size::new(driver.size.into(), driver.size, RingKind::Split).unwrap();
        let mut accepted = Features::VERSION_1;
        if driver.event_idx {
            accepted = accepted | Features::RING_EVENT_IDX;
        }
        SplitQueue::new(size, addresses, accepted).unwrap()
    }

    /// The guest makes a chain available.
    pub(crate) fn add(&mut self) {
        let old = self.driver.avail;
        if self
            .driver
            .add(&self.guest, &[], &[4], usize::MAX)
            .is_none()
        {
            return;
        }
        self.added += 1;
        if self.driver.must_notify(&self.guest, old) {
            if self.relayed {
                self.kicked = true;
            } else {
                self.device_awake = true;
            }
        }
        self.nobody_is_forgotten();
    }

    /// A relay that sleeps at the boundary is told of the first chain behind it, or knows of it.
    fn nobody_is_forgotten(&self) {
        let Some(relay) = &self.relay else {
            return;
        };
        let knows = relay.watches() || relay.needed().is_some();
        let holds = self.hold && relay.relay().gap() == 0 && relay.relay().is_at_boundary();
        let waits = self.asleep && holds && self.driver.avail != 0;
        assert!(!waits || knows || self.kicked || self.relay_awake);
        assert!(!relay.is_paced() || self.relay_awake);
    }

    /// Some time passes. A relay that watches has looked again and again.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        for later in [1, milliseconds] {
            self.now += later;
            if self.relay.as_ref().is_some_and(Relayed::watches) {
                self.relay_awake = true;
                self.relay(&[]);
            }
        }
    }

    /// The device takes what there is, returns up to `count` of what it has, from `pick` on, and sleeps.
    pub(crate) fn serve(&mut self, count: usize, pick: usize) {
        self.work(count, pick, true);
    }

    /// As above, but the device looks again by itself, unless it `sleeps`.
    pub(crate) fn work(&mut self, count: usize, pick: usize, sleeps: bool) {
        let memory = Both {
            guest: &self.guest,
            shadow: &self.shadow,
        };
        if self.device_awake {
            loop {
                while let Some(chain) = self.device.pop(&memory).unwrap() {
                    self.taken.push_back(chain.head());
                    self.popped += 1;
                }
                if !sleeps {
                    self.device.disable_notifications(&memory).unwrap();
                    break;
                }
                if !self.device.enable_notifications(&memory).unwrap() {
                    self.device_awake = false;
                    break;
                }
            }
        }
        let old = self.device.next_used();
        for _ in 0..count.min(self.taken.len()) {
            let pick = if self.keeps_order {
                0
            } else {
                pick % self.taken.len()
            };
            self.ordered &= pick == 0;
            let head = self.taken.remove(pick).unwrap();
            self.device
                .push_used(&memory, head, u32::from(head) + 1)
                .unwrap();
        }
        if self.device.needs_interrupt(&memory, old).unwrap() {
            if self.relayed {
                self.relay_awake = true;
            } else {
                self.guest_awake = true;
            }
        }
    }

    /// What the plan says for this moment.
    pub(crate) fn interfere(&mut self) {
        let now = self.accesses;
        self.accesses = now.saturating_add(1);
        let acts = std::mem::take(&mut self.plan);
        let (due, later): (Vec<_>, _) = acts.into_iter().partition(|(at, _)| *at == now);
        self.plan = later;
        for (_, act) in due {
            match act {
                Act::Add => self.add(),
                Act::Sleep => self.sleep(),
                Act::Doze => self.doze(),
                Act::Poll => self.poll(),
                Act::Work(pick) => self.work(1, pick.into(), false),
                Act::Serve(pick) => self.work(1, pick.into(), true),
            }
        }
    }

    /// The relay does what it was told of, while others do what is planned for each access.
    pub(crate) fn relay(&mut self, plan: &[(u8, Act)]) {
        self.accesses = 0;
        self.plan = plan.to_vec();
        self.serve_kick();
        self.serve_device();
        self.plan.clear();
    }

    /// The relay passes on what a guest has kicked for, and returns nothing.
    pub(crate) fn serve_kick(&mut self) {
        if !std::mem::take(&mut self.kicked) || !self.relayed {
            return;
        }
        // It is woken to see to the rest.
        let passed = self.pass(Pass::Kick);
        self.relay_awake |= passed.has_left_something();
        self.sleeps();
    }

    /// The relay is interrupted, and leaves the rest to its worker.
    pub(crate) fn relay_once(&mut self) {
        let passed = self.pass(Pass::Interrupt);
        self.relay_awake |= passed.has_left_something();
        self.sleeps();
    }

    /// The relay does all that there is to do.
    fn serve_device(&mut self) {
        if !std::mem::take(&mut self.relay_awake) || !self.relayed {
            return;
        }
        let mut pass = match &self.relay {
            Some(relay) if relay.rests() => Pass::Rested,
            _ => Pass::Work,
        };
        let passed = loop {
            let passed = self.pass(pass);
            if !passed.more {
                break passed;
            }
            pass = Pass::Work;
        };
        let Some(relay) = self.relay.as_mut().filter(|_| passed.drained) else {
            // Its worker looks again.
            self.relay_awake |= passed.paced;
            return self.sleeps();
        };
        assert!(relay.leave());
        if self.locked {
            // It is tried again.
            relay.stay(true);
            self.relay_awake = true;
            self.sleeps();
        } else {
            self.relay = None;
            self.hand_back();
        }
    }

    fn pass(&mut self, pass: Pass) -> Passed {
        self.asleep = false;
        let now = self.now;
        let mut relay = self.relay.take().unwrap();
        let world = RefCell::new(&mut *self);
        let [guest, shadow] = [false, true].map(|shadow| Watched {
            world: &world,
            shadow,
        });
        let passed = relay.pass(Some(&guest), &shadow, pass, now, || {
            world.borrow_mut().device_awake = true;
        });
        assert_eq!(relay.broken(), None);
        self.guest_awake |= passed.back.tell;
        self.relay = Some(relay);
        passed
    }

    fn sleeps(&mut self) {
        self.asleep = true;
        self.nobody_is_forgotten();
    }

    /// The device gets the guest's rings. The guest may kick at any time, and the relay is told of it
    /// until the end.
    fn hand_back(&mut self) {
        assert!(self.taken.is_empty());
        self.interfere();
        self.device = Self::device(&self.driver, self.driver.addresses);
        self.device_awake = false;
        self.ordered = true;
        self.interfere();
        self.relayed = false;
        self.kicked = false;
        self.relay_awake = false;
        // As the gate has it.
        self.device_awake = true;
        self.guest_awake = true;
        self.hand_backs += 1;
    }

    /// The device stops, and another one goes on where the rings say that it was, by way of a relay. If
    /// they do not say so, everything is as it was.
    ///
    /// Meanwhile somebody else goes on, and does so many chains as there are `fates`: before each, the guest
    /// makes some available.
    pub(crate) fn stop(&mut self, fates: &[(u8, Fate)]) {
        let index = match &mut self.relay {
            Some(relay) => match relay.stand(&self.guest, &self.shadow, |_| ()) {
                Ok(index) => Some(index),
                Err(Unclear::Order) => None,
                Err(Unclear::Rings(error)) => panic!("{error:?}"),
            },
            // The rings forget who was not in order, and no device says it.
            None if !self.ordered && !self.taken.is_empty() => None,
            None => {
                let size = self.driver.size;
                let size = Size::new(size.into(), size, RingKind::Split).unwrap();
                let mut words = vec![0; size.words()];
                standing::find(&self.guest, size, self.driver.addresses, 0, &mut words)
                    .ok()
                    .map(|standing| standing.index)
            }
        };
        // Whoever stops a device has the guest look, whatever came of it.
        self.guest_awake = true;
        let Some(index) = index else {
            return;
        };
        self.stops += 1;
        self.redone += u32::try_from(self.taken.len()).unwrap();
        self.taken.clear();
        self.ordered = true;
        self.relayed = true;
        let index = self.goes_on_elsewhere(index, fates);
        let (relay, device, shadow) = Self::begin(&self.driver, index, self.returns);
        let skips = !self.lost.is_empty();
        let relay = Self::queue(relay.skipping(skips), self.hold, self.returns);
        (self.relay, self.device, self.shadow) = (Some(relay), device, shadow);
        self.asleep = false;
        self.relay_awake = true;
        self.device_awake = true;
    }

    /// Somebody else does chains from `index` on. Returns where the next one is.
    fn goes_on_elsewhere(&mut self, mut index: u16, fates: &[(u8, Fate)]) -> u16 {
        self.relay = None;
        // Those that have come back before their turn.
        let mut early = Vec::new();
        for (adds, fate) in fates {
            (0..*adds).for_each(|_| self.add());
            if index == self.driver.avail {
                continue;
            }
            let turn = index;
            index = index.wrapping_add(1);
            self.elsewhere += 1;
            if early.contains(&turn) {
                continue;
            }
            match *fate {
                Fate::ComesBack => self.put_back(turn),
                Fate::IsLost => self.lost.push(self.head(turn)),
                Fate::IsTakenFor(further) => {
                    self.lost.push(self.head(turn));
                    let other = turn.wrapping_add(further.max(1));
                    let there = self.driver.avail.wrapping_sub(other);
                    if (1..=self.driver.size).contains(&there) && !early.contains(&other) {
                        self.put_back(other);
                        early.push(other);
                    }
                }
            }
            self.reap();
        }
        let last = early
            .iter()
            .map(|turn| turn.wrapping_sub(index).wrapping_add(1));
        let left = last.filter(|left| *left <= self.driver.size).max();
        for _ in 0..left.unwrap_or(0) {
            if !early.contains(&index) {
                self.put_back(index);
            }
            self.elsewhere += 1;
            index = index.wrapping_add(1);
            self.reap();
        }
        index
    }

    /// The head that the guest has made available at `index`.
    fn head(&self, index: u16) -> u16 {
        let slot = u64::from(index % self.driver.size);
        self.guest
            .peek16(self.driver.addresses.driver + 4 + 2 * slot)
    }

    /// Somebody else returns the chain that was made available at `index`.
    fn put_back(&self, index: u16) {
        let device = self.driver.addresses.device;
        let head = u32::from(self.head(index));
        let used = self.guest.peek16(device + 2);
        let at = device + 4 + 8 * u64::from(used % self.driver.size);
        self.guest.poke(at, &head.to_le_bytes());
        self.guest.poke(at + 4, &(head + 1).to_le_bytes());
        self.guest.poke16(device + 2, used.wrapping_add(1));
    }

    /// The guest takes back what has come, and will look again without being told.
    pub(crate) fn poll(&mut self) {
        self.driver.set_no_interrupt(&self.guest, true);
        self.guest_asleep = false;
        self.reap();
    }

    /// The guest takes back what has come.
    fn reap(&mut self) {
        while let Some(used) = self.driver.reap(&self.guest) {
            if used.written == 0 {
                let found = self.lost.iter().position(|head| *head == used.head);
                self.lost.remove(found.expect("it was not lost"));
            } else {
                assert_eq!(used.written, u32::from(used.head) + 1);
            }
            self.reaped += 1;
        }
    }

    /// The guest says that it wants to be told of the next chain, and looks once more.
    pub(crate) fn sleep(&mut self) {
        if self.driver.event_idx {
            self.driver.want_interrupt_at(&self.guest, self.driver.used);
        } else {
            self.driver.set_no_interrupt(&self.guest, false);
        }
        self.reap();
        if self.driver.event_idx {
            self.driver.want_interrupt_at(&self.guest, self.driver.used);
        }
        self.guest_asleep = true;
    }

    /// The guest says that it wants to be told when three quarters of what it waits for are there, and
    /// looks once more. Without an index to say it with, it wants to be told of the next chain.
    pub(crate) fn doze(&mut self) {
        if !self.driver.event_idx {
            return self.sleep();
        }
        loop {
            self.reap();
            let left = self.driver.avail.wrapping_sub(self.driver.used);
            let most = left.saturating_sub(left.div_ceil(4));
            let event = self.driver.used.wrapping_add(most);
            self.driver.want_interrupt_at(&self.guest, event);
            let used = self.guest.peek16(self.driver.addresses.device + 2);
            if used.wrapping_sub(self.driver.used) <= most {
                break;
            }
        }
        self.guest_asleep = true;
    }

    /// Comes to rest, and looks whether each chain came back once, with what the device wrote. A chain is
    /// done twice only if its device was stopped in the middle of it.
    pub(crate) fn end(&mut self) {
        self.settle();
        let lost = self.lost.len();
        assert_eq!(self.added, self.reaped + u32::try_from(lost).unwrap());
        assert_eq!(self.popped + self.elsewhere, self.added + self.redone);
        let used = self.guest.peek16(self.driver.addresses.device + 2);
        let behind = self.driver.avail.wrapping_sub(used);
        assert_eq!(usize::from(behind), lost);
    }

    /// Lets everybody do what they were told of, until nobody is told any more.
    pub(crate) fn settle(&mut self) {
        if !self.guest_asleep {
            self.sleep();
        }
        self.locked = false;
        for _ in 0..1000 {
            self.serve(usize::MAX, 0);
            self.relay(&[]);
            if std::mem::take(&mut self.guest_awake) {
                self.sleep();
            }
            let awake = self.device_awake || self.kicked || self.relay_awake || self.guest_awake;
            if !awake && self.taken.is_empty() {
                return;
            }
        }
        panic!("does not come to rest");
    }
}
