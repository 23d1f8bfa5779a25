// SPDX-License-Identifier: GPL-2.0

//! A relay between a guest and a device that behave, and some that do not.

mod ring;

use proptest::prelude::*;
use ring::Driver;
use ring::Ram;
use ring::Unmapped;
use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Relay;
use virtio::relay::RelayError;
use virtio::relay::Rings;
use virtio::split::Memory;
use virtio::split::SplitQueue;

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

type TestRelay = Relay<Vec<u64>>;

/// A guest, a relay and a device, and who has to be told what.
struct World {
    driver: Driver,
    guest: Ram,
    shadow: Ram,
    /// None once the device has the guest's rings.
    relay: Option<TestRelay>,
    device: SplitQueue,
    /// Chains that the device has taken.
    taken: Vec<u16>,
    hold: bool,
    /// The relay was told something, by either side.
    relay_awake: bool,
    device_awake: bool,
    guest_awake: bool,
    added: u32,
    reaped: u32,
    hand_backs: u32,
}

impl World {
    fn new(size: u16, start: u16, event_idx: bool, hold: bool) -> Self {
        let (driver, guest) = Driver::new(size, start, event_idx);
        let bytes = 6 + 2 * usize::from(size) + 2 + 6 + 8 * usize::from(size);
        let shadow = Ram::new(vec![0; bytes]);
        let rings = Rings {
            driver: Ram::BASE,
            device: (Ram::BASE + 6 + 2 * u64::from(size) + 3) & !3,
        };
        let relay = Relay::new(
            Size::new(size.into(), size, RingKind::Split).unwrap(),
            Rings {
                driver: driver.addresses.driver,
                device: driver.addresses.device,
            },
            rings,
            start,
            event_idx,
            vec![0; usize::from(size).div_ceil(64)],
        )
        .unwrap();
        let addresses = Addresses {
            desc: driver.addresses.desc,
            driver: SHADOW + rings.driver,
            device: SHADOW + rings.device,
        };
        Self {
            device: Self::device(&driver, addresses),
            driver,
            guest,
            shadow,
            relay: Some(relay),
            taken: Vec::new(),
            hold,
            relay_awake: true,
            device_awake: true,
            guest_awake: false,
            added: 0,
            reaped: 0,
            hand_backs: 0,
        }
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
    fn add(&mut self) {
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
    }

    /// The device takes what there is, and returns up to `count` of what it has, from `pick` on.
    fn serve(&mut self, count: usize, pick: usize) {
        let memory = Both {
            guest: &self.guest,
            shadow: &self.shadow,
        };
        if self.device_awake {
            loop {
                while let Some(chain) = self.device.pop(&memory).unwrap() {
                    self.taken.push(chain.head());
                }
                if !self.device.enable_notifications(&memory).unwrap() {
                    break;
                }
            }
            self.device_awake = false;
        }
        let old = self.device.next_used();
        for _ in 0..count.min(self.taken.len()) {
            let head = self.taken.remove(pick % self.taken.len());
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
    fn relay(&mut self, mut adds: u8, mut returns: u8) {
        if !std::mem::take(&mut self.relay_awake) {
            return;
        }
        let Some(mut relay) = self.relay.take() else {
            return;
        };
        loop {
            let back = relay.give_back(&self.guest, &self.shadow).unwrap();
            let forth = relay.forward(&self.guest, &self.shadow, self.hold).unwrap();
            self.guest_awake |= back.tell;
            self.device_awake |= forth.tell;
            self.relay = Some(relay);
            (0..std::mem::take(&mut adds)).for_each(|_| self.add());
            self.serve(std::mem::take(&mut returns).into(), 0);
            relay = self.relay.take().unwrap();
            if !relay.listen(&self.guest, &self.shadow, self.hold).unwrap() {
                break;
            }
        }
        self.relay = Some(relay);
        let relay = self.relay.as_ref().unwrap();
        if self.hold && relay.is_drained() {
            assert!(self.taken.is_empty());
            self.relay = None;
            self.device = Self::device(&self.driver, self.driver.addresses);
            self.device_awake = true;
            self.hand_backs += 1;
        }
    }

    /// The guest takes back what has come, without being told or because it was.
    fn reap(&mut self) {
        while let Some(used) = self.driver.reap(&self.guest) {
            assert_eq!(used.written, u32::from(used.head) + 1);
            self.reaped += 1;
        }
    }

    /// The guest says that it wants to be told of the next chain, and looks once more.
    fn sleep(&mut self) {
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
    fn settle(&mut self) {
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

#[derive(Copy, Clone, Debug)]
enum Step {
    Add(u8),
    Serve(u8, u8),
    Relay(u8, u8),
    Reap,
    Mute,
    Sleep,
    Release,
    Hold,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u8..20).prop_map(Step::Add),
        6 => (0_u8..20, any::<u8>()).prop_map(|(count, pick)| Step::Serve(count, pick)),
        6 => (0_u8..4, 0_u8..4).prop_map(|(adds, returns)| Step::Relay(adds, returns)),
        4 => Just(Step::Reap),
        1 => Just(Step::Mute),
        2 => Just(Step::Sleep),
        1 => Just(Step::Release),
        1 => Just(Step::Hold),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever the order of things: each chain comes back once, with what the device wrote, and
    /// nobody waits for something that has happened.
    #[test]
    fn nothing_is_lost_or_doubled(
        order in 0_u32..6,
        start in prop_oneof![any::<u16>(), 65_400_u16..=65_535],
        event_idx: bool,
        hold: bool,
        steps in steps(),
    ) {
        let mut world = World::new(1 << order, start, event_idx, hold);
        for step in steps {
            match step {
                Step::Add(count) => (0..count).for_each(|_| world.add()),
                Step::Serve(count, pick) => world.serve(count.into(), pick.into()),
                Step::Relay(adds, returns) => world.relay(adds, returns),
                Step::Reap => world.reap(),
                Step::Mute => world.driver.set_no_interrupt(&world.guest, true),
                Step::Sleep => world.sleep(),
                // What is held back is passed on as soon as it may be.
                Step::Release => {
                    world.hold = false;
                    world.relay_awake = true;
                }
                Step::Hold => {
                    world.hold = true;
                    world.relay_awake = true;
                }
            }
        }
        world.settle();
        prop_assert_eq!(world.added, world.reaped);
        prop_assert_eq!(world.guest.peek16(world.driver.addresses.device + 2), world.driver.avail);
    }

    /// A relay that holds at the boundary ends there, and the device goes on by itself.
    #[test]
    fn the_relay_ends_at_the_boundary(
        order in 0_u32..6,
        left in 1_u16..300,
        event_idx: bool,
        bursts in prop::collection::vec((1_u8..40, any::<u8>()), 600..700),
    ) {
        let mut world = World::new(1 << order, left.wrapping_neg(), event_idx, true);
        for (count, pick) in bursts {
            (0..count).for_each(|_| world.add());
            world.relay(0, 0);
            world.serve(usize::from(count / 2), pick.into());
            world.relay(0, 0);
            world.reap();
            world.settle();
        }
        prop_assert_eq!(world.hand_backs, 1);
        prop_assert_eq!(world.added, world.reaped);
        prop_assert!(world.added > u32::from(left));
        prop_assert_eq!(world.device.next_used(), world.driver.used);
    }
}

/// More at once than the relay copies at once, from every place in the ring, also over its end and
/// over the wrap of the index.
#[test]
fn a_burst_of_any_length_passes() {
    for event_idx in [false, true] {
        for count in [31, 32, 33, 64, 65, 127, 128] {
            for left in [0, 1, 31, 32, 33, 100] {
                let mut world = World::new(128, 0_u16.wrapping_sub(left), event_idx, false);
                for _ in 0..3 {
                    (0..count).for_each(|_| world.add());
                    world.settle();
                }
                assert_eq!(world.added, 3 * count);
                assert_eq!(world.reaped, 3 * count);
            }
        }
    }
}

#[test]
fn a_device_that_leaves_a_chain_out_is_not_in_order() {
    let mut world = World::new(4, 65_534, false, false);
    let in_order = |world: &World| {
        let relay = world.relay.as_ref().unwrap();
        relay.is_in_order(&world.guest).unwrap()
    };
    for _ in 0..4 {
        world.add();
    }
    world.relay(0, 0);
    assert!(in_order(&world));
    world.device_awake = true;
    // The oldest of four, then not the oldest of three, then that one.
    for (pick, expected) in [(0, true), (1, false), (0, true)] {
        world.serve(1, pick);
        world.relay_awake = true;
        world.relay(0, 0);
        assert_eq!(in_order(&world), expected, "{pick}");
    }
}

fn small() -> (Driver, Ram, Ram, TestRelay) {
    let world = World::new(4, 65_534, false, true);
    let relay = world.relay.unwrap();
    (world.driver, world.guest, world.shadow, relay)
}

#[test]
fn a_guest_that_lies_is_blamed() {
    let (driver, guest, shadow, mut relay) = small();
    guest.poke16(driver.addresses.driver + 2, 65_534_u16.wrapping_add(5));
    let error = relay.forward(&guest, &shadow, false).unwrap_err();
    assert_eq!(
        error,
        RelayError::AvailIndex {
            index: 3,
            taken: 65_534
        }
    );

    // More than the ring has, with those that the device has already.
    let (mut driver, guest, shadow, mut relay) = small();
    for head in 0..3 {
        driver.offer(&guest, head);
    }
    relay.forward(&guest, &shadow, false).unwrap();
    guest.poke16(driver.addresses.driver + 2, 65_534_u16.wrapping_add(5));
    let error = relay.forward(&guest, &shadow, false).unwrap_err();
    assert_eq!(error, RelayError::AvailIndex { index: 3, taken: 1 });

    // Fewer than before.
    guest.poke16(driver.addresses.driver + 2, 0);
    let error = relay.forward(&guest, &shadow, false).unwrap_err();
    assert_eq!(error, RelayError::AvailIndex { index: 0, taken: 1 });

    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 4);
    let error = relay.forward(&guest, &shadow, false).unwrap_err();
    assert_eq!(error, RelayError::Head(4));

    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 2);
    driver.offer(&guest, 2);
    let error = relay.forward(&guest, &shadow, false).unwrap_err();
    assert_eq!(error, RelayError::Twice(2));
}

#[test]
fn a_device_that_lies_is_blamed() {
    let used = (Ram::BASE + 6 + 8 + 3) & !3;
    // It returns what it was not given,
    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 2);
    relay.forward(&guest, &shadow, false).unwrap();
    shadow.poke(used + 4, &[1, 0, 0, 0]);
    shadow.poke16(used + 2, 1);
    let error = relay.give_back(&guest, &shadow).unwrap_err();
    assert_eq!(error, RelayError::Unknown(1));
    // or the same twice,
    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 2);
    driver.offer(&guest, 1);
    relay.forward(&guest, &shadow, false).unwrap();
    shadow.poke(used + 4, &[2, 0, 0, 0]);
    shadow.poke(used + 12, &[2, 0, 0, 0]);
    shadow.poke16(used + 2, 2);
    let error = relay.give_back(&guest, &shadow).unwrap_err();
    assert_eq!(error, RelayError::Unknown(2));
    // or one that is out of the ring and looks like it,
    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 2);
    relay.forward(&guest, &shadow, false).unwrap();
    shadow.poke(used + 4, &[2, 0, 1, 0]);
    shadow.poke16(used + 2, 1);
    let error = relay.give_back(&guest, &shadow).unwrap_err();
    assert_eq!(error, RelayError::Unknown(0x1_0002));
    // or more than it was given.
    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 2);
    relay.forward(&guest, &shadow, false).unwrap();
    shadow.poke16(used + 2, 2);
    let error = relay.give_back(&guest, &shadow).unwrap_err();
    assert_eq!(
        error,
        RelayError::UsedIndex {
            index: 2,
            returned: 0
        }
    );
}

#[test]
fn too_few_words_are_refused() {
    let size = Size::new(128, 128, RingKind::Split).unwrap();
    let rings = Rings {
        driver: 0x1000,
        device: 0x2000,
    };
    assert!(Relay::new(size, rings, rings, 1, false, vec![0; 1]).is_none());
    assert!(Relay::new(size, rings, rings, 1, false, vec![0; 2]).is_some());
}
