// SPDX-License-Identifier: GPL-2.0

//! A guest, a relay and a device that keep to the rules, in whatever order they are called.

use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Relay;
use virtio::relay::Rings;
use virtio::split::Memory;
use virtio::split::SplitQueue;
use virtio::standing;

use crate::ring::Driver;
use crate::ring::Ram;
use crate::ring::Unmapped;

/// What a device reaches: the guest's memory, and the shadow rings far above.
struct Both<'a> {
    guest: &'a Ram,
    shadow: &'a Ram,
}

const SHADOW: u64 = 1 << 40;

impl Both<'_> {
    fn at(&self, addr: u64) -> (&Ram, u64) {
        match addr.checked_sub(SHADOW) {
            Some(addr) => (self.shadow, addr),
            None => (self.guest, addr),
        }
    }
}

impl Memory for Both<'_> {
    type Error = Unmapped;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.read(addr, buf)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.write(addr, buf)
    }

    fn read_index(&self, addr: u64) -> Result<u16, Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.read_index(addr)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Unmapped> {
        let (ram, addr) = self.at(addr);
        ram.write_index(addr, index)
    }

    fn full_barrier(&self) {}
}

pub(crate) type TestRelay = Relay<Vec<u64>>;

/// A guest, a relay and a device, and who has to be told what.
pub(crate) struct World {
    pub(crate) driver: Driver,
    pub(crate) guest: Ram,
    pub(crate) shadow: Ram,
    /// None once the device has the guest's rings.
    pub(crate) relay: Option<TestRelay>,
    pub(crate) device: SplitQueue,
    /// Chains that the device has taken.
    taken: Vec<u16>,
    /// It has returned them in the order in which they came, since it began.
    ordered: bool,
    pub(crate) hold: bool,
    /// The relay sleeps.
    asleep: bool,
    /// It knows that it holds something back, and will look again without being told.
    held: bool,
    /// The relay was told something, by either side.
    pub(crate) relay_awake: bool,
    pub(crate) device_awake: bool,
    guest_awake: bool,
    pub(crate) added: u32,
    pub(crate) reaped: u32,
    /// Chains that a device has begun, counted each time.
    pub(crate) popped: u32,
    /// Those that a device had begun and not returned when it was stopped.
    pub(crate) redone: u32,
    pub(crate) stops: u32,
    pub(crate) hand_backs: u32,
}

impl World {
    pub(crate) fn new(size: u16, start: u16, event_idx: bool, hold: bool) -> Self {
        let (driver, guest) = Driver::new(size, start, event_idx);
        let (relay, device, shadow) = Self::begin(&driver, start);
        Self {
            device,
            driver,
            guest,
            shadow,
            relay: Some(relay),
            taken: Vec::new(),
            ordered: true,
            hold,
            asleep: false,
            held: false,
            relay_awake: true,
            device_awake: true,
            guest_awake: false,
            added: 0,
            reaped: 0,
            popped: 0,
            redone: 0,
            stops: 0,
            hand_backs: 0,
        }
    }

    /// A relay that goes on at `start`, and a device that begins on its shadow rings.
    fn begin(driver: &Driver, start: u16) -> (TestRelay, SplitQueue, Ram) {
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
        let relay = Relay::new(size, own, rings, start, driver.event_idx, words).unwrap();
        let addresses = Addresses {
            desc: driver.addresses.desc,
            driver: SHADOW + rings.driver,
            device: SHADOW + rings.device,
        };
        let device = Self::device(driver, addresses);
        (relay, device, Ram::new(vec![0; bytes]))
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
            match self.relay {
                Some(_) => self.relay_awake = true,
                None => self.device_awake = true,
            }
        }
        self.nobody_is_forgotten();
    }

    /// A relay that sleeps at the boundary is told of the first chain behind it, or knows of it.
    fn nobody_is_forgotten(&self) {
        let waits =
            self.relay.as_ref().is_some_and(Relay::is_at_boundary) && self.driver.avail != 0;
        assert!(!(self.asleep && waits) || self.held || self.relay_awake);
    }

    /// The device takes what there is, and returns up to `count` of what it has, from `pick` on.
    pub(crate) fn serve(&mut self, count: usize, pick: usize) {
        let memory = Both {
            guest: &self.guest,
            shadow: &self.shadow,
        };
        if self.device_awake {
            loop {
                while let Some(chain) = self.device.pop(&memory).unwrap() {
                    self.taken.push(chain.head());
                    self.popped += 1;
                }
                if !self.device.enable_notifications(&memory).unwrap() {
                    break;
                }
            }
            self.device_awake = false;
        }
        let old = self.device.next_used();
        for _ in 0..count.min(self.taken.len()) {
            let pick = pick % self.taken.len();
            self.ordered &= pick == 0;
            let head = self.taken.remove(pick);
            self.device
                .push_used(&memory, head, u32::from(head) + 1)
                .unwrap();
        }
        if self.device.needs_interrupt(&memory, old).unwrap() {
            match self.relay {
                Some(_) => self.relay_awake = true,
                None => self.guest_awake = true,
            }
        }
    }

    /// The relay does what it was woken for. Before it goes to sleep the guest adds, and the device
    /// returns, a few chains.
    pub(crate) fn relay(&mut self, mut adds: u8, mut returns: u8) {
        if !std::mem::take(&mut self.relay_awake) {
            return;
        }
        let Some(mut relay) = self.relay.take() else {
            return;
        };
        self.asleep = false;
        loop {
            let back = relay.give_back(&self.guest, &self.shadow).unwrap();
            let forth = relay.forward(&self.guest, &self.shadow, self.hold).unwrap();
            self.guest_awake |= back.tell;
            self.device_awake |= forth.tell;
            self.relay = Some(relay);
            (0..std::mem::take(&mut adds)).for_each(|_| self.add());
            self.serve(std::mem::take(&mut returns).into(), 0);
            relay = self.relay.take().unwrap();
            let left = relay.listen(&self.guest, &self.shadow, self.hold).unwrap();
            if !left.more {
                self.held = left.held;
                break;
            }
        }
        self.relay = Some(relay);
        self.asleep = true;
        self.nobody_is_forgotten();
        let relay = self.relay.as_ref().unwrap();
        if self.hold && relay.is_drained() {
            assert!(self.taken.is_empty());
            self.relay = None;
            self.device = Self::device(&self.driver, self.driver.addresses);
            self.device_awake = true;
            self.ordered = true;
            self.hand_backs += 1;
        }
    }

    /// The device stops, and another one goes on where the rings say that it was, by way of a relay. If
    /// they do not say so, everything is as it was.
    pub(crate) fn stop(&mut self) {
        let index = match &mut self.relay {
            Some(relay) => {
                relay.give_back(&self.guest, &self.shadow).unwrap();
                relay
                    .is_in_order(&self.guest)
                    .unwrap()
                    .then(|| relay.next_used())
            }
            // The rings forget who was not in order, and no device says it.
            None if !self.ordered && !self.taken.is_empty() => None,
            None => {
                let size = self.driver.size;
                let size = Size::new(size.into(), size, RingKind::Split).unwrap();
                standing::find(&self.guest, size, self.driver.addresses, 0)
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
        let (relay, device, shadow) = Self::begin(&self.driver, index);
        (self.relay, self.device, self.shadow) = (Some(relay), device, shadow);
        (self.asleep, self.held) = (false, false);
        self.relay_awake = true;
        self.device_awake = true;
    }

    /// The guest takes back what has come, without being told or because it was.
    pub(crate) fn reap(&mut self) {
        while let Some(used) = self.driver.reap(&self.guest) {
            assert_eq!(used.written, u32::from(used.head) + 1);
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
    }

    /// Lets everybody do what they were told of, until nobody is told any more.
    pub(crate) fn settle(&mut self) {
        self.sleep();
        for _ in 0..1000 {
            self.serve(usize::MAX, 0);
            self.relay(0, 0);
            if std::mem::take(&mut self.guest_awake) {
                self.sleep();
            }
            if !self.device_awake && !self.relay_awake && !self.guest_awake && self.taken.is_empty()
            {
                return;
            }
        }
        panic!("does not come to rest");
    }
}
