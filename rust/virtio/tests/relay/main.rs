// SPDX-License-Identifier: GPL-2.0

//! A relay between a guest and a device that behave, and some that do not.

mod gap;
mod kind;
mod moments;
mod reach;
mod returns;
#[path = "../ring/mod.rs"]
mod ring;
mod sizes;
mod world;

use kind::Act;
use kind::KINDS;
use proptest::prelude::*;
use ring::Access;
use ring::Driver;
use ring::Ram;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Relay;
use virtio::relay::RelayError;
use virtio::relay::Returns;
use virtio::relay::Rings;
use world::Fate;
use world::TestRelay;
use world::World;

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Serve(u8, u8),
    Work(u8, u8),
    Kick,
    Relay(Vec<(u8, Act)>),
    Poll,
    Sleep,
    Doze,
    Wait(u16),
    Lock,
    Stop(Vec<(u8, Fate)>),
}

impl Step {
    /// True if somebody loses track of a chain.
    fn loses(&self) -> bool {
        matches!(self, Self::Stop(fates) if fates.iter().any(|(_, fate)| *fate != Fate::ComesBack))
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Add),
        1 => Just(Act::Sleep),
        1 => Just(Act::Doze),
        1 => Just(Act::Poll),
        1 => any::<u8>().prop_map(Act::Work),
        1 => any::<u8>().prop_map(Act::Serve),
    ]
}

/// What somebody else does between two of our devices: mostly nothing.
fn elsewhere() -> impl Strategy<Value = Vec<(u8, Fate)>> {
    let fate = prop_oneof![
        30 => Just(Fate::ComesBack),
        1 => Just(Fate::IsLost),
        1 => prop_oneof![1_u16..5, 5_u16..100].prop_map(Fate::IsTakenFor),
    ];
    let adds = prop_oneof![30 => 0_u8..3, 1 => Just(40)];
    let fate = (adds, fate);
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(fate, 0..200)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u8..20).prop_map(Step::Add),
        6 => (0_u8..20, any::<u8>()).prop_map(|(count, pick)| Step::Serve(count, pick)),
        1 => (0_u8..20, any::<u8>()).prop_map(|(count, pick)| Step::Work(count, pick)),
        6 => prop::collection::vec((0_u8..40, act()), 0..6).prop_map(Step::Relay),
        2 => Just(Step::Kick),
        2 => Just(Step::Poll),
        4 => Just(Step::Sleep),
        2 => Just(Step::Doze),
        2 => (0_u16..3000).prop_map(Step::Wait),
        1 => Just(Step::Lock),
        1 => elsewhere().prop_map(Step::Stop),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever the order of things: each chain comes back once, with what the device wrote, and
    /// nobody waits for something that has happened.
    #[test]
    fn nothing_is_lost_or_doubled(
        // The larger ones are longer than what is copied at once.
        order in prop_oneof![4 => 0_u32..6, 1 => 6_u32..9],
        start in prop_oneof![any::<u16>(), 65_400_u16..=65_535],
        kind in prop::sample::select(&KINDS[..]),
        hold: bool,
        steps in steps(),
    ) {
        let mut world = World::new(1 << order, start, kind, hold);
        world.keeps_order = steps.iter().any(Step::loses);
        for step in steps {
            match step {
                Step::Add(count) => (0..count).for_each(|_| world.add()),
                Step::Serve(count, pick) => world.serve(count.into(), pick.into()),
                Step::Work(count, pick) => world.work(count.into(), pick.into(), false),
                Step::Kick => world.serve_kick(),
                Step::Relay(plan) => world.relay(&plan),
                Step::Poll => world.poll(),
                Step::Sleep => world.sleep(),
                Step::Doze => world.doze(),
                Step::Wait(milliseconds) => world.wait(milliseconds.into()),
                Step::Lock => world.locked = !world.locked,
                Step::Stop(fates) => world.stop(&fates),
            }
        }
        world.end();
    }

    /// A relay that holds at the boundary ends there, and the device goes on by itself.
    #[test]
    fn the_relay_ends_at_the_boundary(
        order in 0_u32..6,
        left in 1_u16..300,
        kind in prop::sample::select(&KINDS[..]),
        bursts in prop::collection::vec((1_u8..40, any::<u8>()), 600..700),
    ) {
        let mut world = World::new(1 << order, left.wrapping_neg(), kind, true);
        for (count, pick) in bursts {
            (0..count).for_each(|_| world.add());
            world.relay(&[]);
            world.serve(usize::from(count / 2), pick.into());
            world.relay(&[]);
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
    for kind in KINDS {
        for count in [31, 32, 33, 64, 65, 127, 128] {
            for left in [0, 1, 31, 32, 33, 100] {
                let mut world = World::new(128, 0_u16.wrapping_sub(left), kind, false);
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

/// Stopped again and again, with chains in flight, from before the wrap of the index until after it.
#[test]
fn stops_are_survived() {
    for kind in KINDS {
        let mut world = World::new(64, 65_500, kind, true);
        for round in 0..40 {
            (0..10).for_each(|_| world.add());
            world.relay(&[]);
            world.serve(round % 8, 0);
            world.stop(&[]);
            world.relay(&[]);
            world.serve(usize::from(u8::MAX), 0);
            world.settle();
        }
        assert_eq!(world.stops, 40);
        assert!(world.redone > 40 && world.hand_backs == 1);
        assert_eq!((world.added, world.reaped), (400, 400));
        assert_eq!(world.popped, world.added + world.redone);
    }
}

#[test]
fn a_device_that_leaves_a_chain_out_is_not_in_order() {
    let mut world = World::new(4, 65_534, KINDS[0], false);
    let in_order = |world: &mut World| {
        let mut relay = world.relay.as_ref().unwrap().relay().clone();
        relay.is_in_order(&world.guest).unwrap()
    };
    for _ in 0..4 {
        world.add();
    }
    world.relay(&[]);
    assert!(in_order(&mut world));
    world.device_awake = true;
    // The oldest of four, then not the oldest of three, then that one.
    for (pick, expected) in [(0, true), (1, false), (0, true)] {
        world.serve(1, pick);
        world.relay_awake = true;
        world.relay(&[]);
        assert_eq!(in_order(&mut world), expected, "{pick}");
    }
}

/// The oldest of two is left out, and the head of the other one is made available once more: it is
/// there twice, and the oldest is not.
#[test]
fn a_head_that_is_used_again_hides_nothing() {
    let (mut driver, guest, shadow, mut relay) = small();
    driver.offer(&guest, 1);
    driver.offer(&guest, 3);
    relay.forward(&guest, &shadow, false).unwrap();
    let used = (Ram::BASE + 6 + 8 + 3) & !3;
    shadow.poke(used + 4, &[3, 0, 0, 0]);
    shadow.poke16(used + 2, 1);
    relay.give_back(&guest, &shadow).unwrap();
    driver.offer(&guest, 3);
    relay.forward(&guest, &shadow, false).unwrap();
    assert_eq!(relay.is_in_order(&guest), Ok(false));
    // Nothing is forgotten by looking.
    shadow.poke(used + 12, &[1, 0, 0, 0]);
    shadow.poke16(used + 2, 2);
    relay.give_back(&guest, &shadow).unwrap();
    assert_eq!(relay.is_in_order(&guest), Ok(true));
}

fn small() -> (Driver, Ram, Ram, TestRelay) {
    let mut world = World::new(4, 65_534, KINDS[0], true);
    let relay = world.alone();
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
    assert!(Relay::new(size, rings, rings, 1, false, Returns::Promptly, vec![0; 1]).is_none());
    assert!(Relay::new(size, rings, rings, 1, false, Returns::Promptly, vec![0; 2]).is_some());
}

/// Each side stores what the other loads, and loads what that stores: without a barrier between the two
/// both could miss each other.
#[test]
fn a_barrier_stands_between_store_and_load() {
    let ends_so = |ram: &Ram| match ram.take_log()[..] {
        [.., Access::WriteIndex(..), Access::Barrier, Access::ReadIndex(_)] => true,
        // Nothing to store.
        [Access::Barrier, Access::ReadIndex(_)] => true,
        _ => false,
    };
    for kind in KINDS {
        let mut world = World::new(4, 7, kind, false);
        let mut relay = world.alone();
        world.driver.offer(&world.guest, 1);
        relay.forward(&world.guest, &world.shadow, false).unwrap();
        assert!(ends_so(&world.shadow), "forward");

        let used = (Ram::BASE + 6 + 8 + 3) & !3;
        world.shadow.poke(used + 4, &[1, 0, 0, 0]);
        world.shadow.poke16(used + 2, 1);
        world.guest.take_log();
        relay.give_back(&world.guest, &world.shadow).unwrap();
        assert!(ends_so(&world.guest), "give_back");

        world.shadow.take_log();
        relay
            .listen(&world.guest, &world.shadow, false, false)
            .unwrap();
        assert!(ends_so(&world.guest), "listen, guest");
        assert!(ends_so(&world.shadow), "listen, device");
    }
}
