// SPDX-License-Identifier: GPL-2.0

//! Where a ring stands after devices that keep the order, and one that does not.

mod ring;

use proptest::prelude::*;
use ring::Driver;
use ring::Ram;
use virtio::memory::Memory;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::split::SplitQueue;
use virtio::standing::available;
use virtio::standing::find;
use virtio::standing::has_returned;
use virtio::standing::is_behind_start;
use virtio::standing::Standing;
use virtio::standing::StandingError;

struct World {
    driver: Driver,
    ram: Ram,
    device: SplitQueue,
    /// The chains that the device has, the oldest first.
    taken: Vec<u16>,
    start: u16,
}

impl World {
    fn new(order: u32, start: u16) -> Self {
        let (driver, ram) = Driver::new(1 << order, start, false);
        let device = driver.device().with_state(start, start);
        Self {
            driver,
            ram,
            device,
            taken: Vec::new(),
            start,
        }
    }

    fn add(&mut self, count: u8) {
        for _ in 0..count {
            self.driver.add(&self.ram, &[], &[4], usize::MAX);
        }
    }

    fn serve(&mut self, count: u8, pick: usize) {
        while let Some(chain) = self.device.pop(&self.ram).unwrap() {
            self.taken.push(chain.head());
        }
        for _ in 0..usize::from(count).min(self.taken.len()) {
            let head = self.taken.remove(pick % self.taken.len());
            self.device.push_used(&self.ram, head, 4).unwrap();
        }
        while self.driver.reap(&self.ram).is_some() {}
    }

    /// The driver has written which chains are next, as far as there is room, and not shown the index yet.
    fn begin_to_add(&self, count: u16) {
        let (avail, size) = (self.driver.avail, self.driver.size);
        let room = size - u16::try_from(self.taken.len()).unwrap();
        for ahead in 0..count.min(room) {
            let slot = avail.wrapping_add(ahead) % size;
            let at = self.driver.addresses.driver + 4 + 2 * u64::from(slot);
            self.ram.write(at, &[0xff; 2]).unwrap();
        }
    }

    fn find(&self) -> Result<Standing, StandingError<ring::Unmapped>> {
        let size = Size::new(self.driver.size.into(), self.driver.size, RingKind::Split).unwrap();
        find(&self.ram, size, self.driver.addresses, self.start, &mut [0])
    }
}

proptest! {
    /// A device that keeps the order stands where it has stopped, with what it has still to do.
    #[test]
    fn an_orderly_device_is_believed(
        order in 0_u32..6,
        start: u16,
        steps in prop::collection::vec((0_u8..20, 0_u8..20), 1..200),
    ) {
        let mut world = World::new(order, start);
        for (add, serve) in steps {
            world.add(add);
            world.serve(serve, 0);
            world.begin_to_add(1);
            let standing = world.find().unwrap();
            prop_assert_eq!(standing.index, world.device.next_used());
            prop_assert_eq!(usize::from(standing.out), world.taken.len());
        }
    }

    /// What a driver writes ahead of its index may look like another order, but only until it shows it.
    #[test]
    fn what_is_written_ahead_passes(
        order in 0_u32..6,
        start: u16,
        steps in prop::collection::vec((0_u8..20, 0_u8..20, 0_u8..20), 1..100),
    ) {
        let mut world = World::new(order, start);
        for (add, serve, ahead) in steps {
            world.add(add);
            world.serve(serve, 0);
            let used = world.device.next_used();
            let out = u16::try_from(world.taken.len()).unwrap();
            let stands = Standing { index: used, out };
            world.begin_to_add(ahead.into());
            // The last of the oldest ones that were written over.
            let kept = world.driver.size - out;
            let distance = kept + 1 - u16::from(ahead).min(kept);
            let compared = out > 0 && distance <= kept.min(used.wrapping_sub(start));
            let early = if compared && distance < kept {
                Err(StandingError::Order { index: used.wrapping_sub(distance) })
            } else {
                Ok(stands)
            };
            prop_assert_eq!(world.find(), early);
            // Shown.
            world.add(ahead);
            let standing = world.find().unwrap();
            prop_assert_eq!(standing.index, used);
        }
    }

    /// Whatever the order was: once everything is returned, it makes no difference.
    #[test]
    fn a_drained_ring_needs_no_order(
        order in 0_u32..6,
        start: u16,
        steps in prop::collection::vec((1_u8..20, 1_u8..20, any::<usize>()), 1..50),
    ) {
        let mut world = World::new(order, start);
        for (add, serve, pick) in steps {
            world.add(add);
            world.serve(serve, pick);
        }
        world.serve(u8::MAX, 0);
        let index = world.driver.avail;
        prop_assert_eq!(world.find(), Ok(Standing { index, out: 0 }));
    }

    /// What was available at some time has been returned once as many chains have been.
    #[test]
    fn what_was_available_is_waited_for(
        order in 0_u32..6,
        start: u16,
        before in 0_u8..40,
        later in 0_u8..40,
    ) {
        let mut world = World::new(order, start);
        world.add(before);
        let aim = available(&world.ram, world.driver.addresses).unwrap();
        let mut due = aim.wrapping_sub(start);
        loop {
            let returned = has_returned(&world.ram, world.driver.addresses, aim).unwrap();
            prop_assert_eq!(returned, due == 0);
            if due == 0 {
                break;
            }
            world.add(later);
            world.serve(1, 0);
            due -= 1;
        }
        // More than that makes no difference.
        world.add(1);
        world.serve(1, 0);
        prop_assert!(has_returned(&world.ram, world.driver.addresses, aim).unwrap());
    }

    /// One that has left out a chain, which is still there to see, is found out.
    #[test]
    fn a_chain_left_out_is_found(
        order in 2_u32..6,
        start: u16,
        before in 0_u8..100,
        left in 1_u8..4,
    ) {
        let mut world = World::new(order, start);
        for _ in 0..before {
            world.add(1);
            world.serve(1, 0);
        }
        world.add(left + 1);
        // All but the first.
        for _ in 0..left {
            world.serve(1, 1);
        }
        let first = start.wrapping_add(before.into());
        let Err(StandingError::Order { index }) = world.find() else {
            return Err(TestCaseError::fail("it was believed"));
        };
        prop_assert!(index.wrapping_sub(first) < u16::from(left));
    }

    /// Nor does one get away with it whose driver has filled the ring again, so that none of the chains that
    /// were returned is there to compare.
    #[test]
    fn a_chain_left_out_of_a_full_ring_is_found(
        order in 1_u32..6,
        start: u16,
        before in 0_u8..100,
        others in prop::collection::vec(any::<usize>(), 1..100),
    ) {
        let mut world = World::new(order, start);
        world.add(u8::MAX);
        for _ in 0..before {
            world.serve(1, 0);
            world.add(1);
        }
        let full = Standing { index: world.device.next_used(), out: world.driver.size };
        prop_assert_eq!(world.find(), Ok(full));
        // Never the first.
        let rest = usize::from(world.driver.size) - 1;
        for other in others.iter().take(rest) {
            world.serve(1, 1 + other % rest);
            world.add(1);
        }
        let found = matches!(world.find(), Err(StandingError::Twice { .. }));
        prop_assert!(found, "{:?}", world.find());
    }
}

#[test]
fn what_was_there_before_the_device_began_is_not_looked_at() {
    let mut world = World::new(2, 10);
    // Leftovers of another device.
    for slot in 0..4 {
        world
            .ram
            .poke16(world.driver.addresses.driver + 4 + 2 * slot, 7);
    }
    world.add(2);
    world.serve(1, 0);
    assert_eq!(world.find(), Ok(Standing { index: 11, out: 1 }));
    world.start = 9;
    assert_eq!(world.find(), Err(StandingError::Order { index: 9 }));
}

#[test]
fn a_chain_that_begins_nowhere_is_refused() {
    for head in [4, 63, 64, 0xffff] {
        let mut world = World::new(2, 0);
        world.add(2);
        world
            .ram
            .poke16(world.driver.addresses.driver + 4 + 2, head);
        assert_eq!(world.find(), Err(StandingError::Twice { index: 1 }));
    }
}

/// A ring whose driver shows an index when it is looked at for the second time.
struct Later<'a> {
    world: &'a World,
    avail: u16,
}

impl Memory for Later<'_> {
    type Error = ring::Unmapped;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ring::Unmapped> {
        self.world.ram.read(addr, buf)
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), ring::Unmapped> {
        self.world.ram.write(addr, buf)
    }

    fn read_index(&self, addr: u64) -> Result<u16, ring::Unmapped> {
        self.world.ram.read_index(addr)
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), ring::Unmapped> {
        self.world.ram.write_index(addr, index)
    }

    fn full_barrier(&self) {
        let at = self.world.driver.addresses.driver + 2;
        self.world.ram.poke16(at, self.avail);
    }
}

/// A driver does not get a device that has not kept the order believed by an index that cannot be.
#[test]
fn impossible_indices_hide_nothing() {
    let mut world = World::new(2, 0);
    world.add(3);
    world.serve(1, 1);
    for (avail, error) in [
        (3, StandingError::Order { index: 0 }),
        (6, StandingError::Indices { avail: 6, used: 1 }),
    ] {
        let size = Size::new(4, 4, RingKind::Split).unwrap();
        let later = Later {
            world: &world,
            avail,
        };
        let found = find(&later, size, world.driver.addresses, 0, &mut [0]);
        assert_eq!(found, Err(error));
        world.ram.poke16(world.driver.addresses.driver + 2, 3);
    }
}

#[test]
fn impossible_indices_are_refused() {
    let world = World::new(2, 0);
    world.ram.poke16(world.driver.addresses.driver + 2, 5);
    assert_eq!(
        world.find(),
        Err(StandingError::Indices { avail: 5, used: 0 })
    );
    world.ram.poke16(world.driver.addresses.driver + 2, 0xffff);
    assert!(world.find().is_err());
}

#[test]
fn a_used_ring_may_be_behind_the_start() {
    for (used, behind) in [
        (0_u16, false),
        (1, false),
        (0x8000, false),
        (0xfff7, false),
        (0xfff8, true),
        (0xffff, true),
    ] {
        let world = World::new(3, used);
        let size = Size::new(8, 8, RingKind::Split).unwrap();
        let answer = is_behind_start(&world.ram, size, world.driver.addresses);
        assert_eq!(answer, Ok(behind), "{used}");
    }
}
