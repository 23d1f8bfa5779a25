// SPDX-License-Identifier: GPL-2.0

//! Rings of every size, as full as they can be, where the 16 bits of an index wrap.

use virtio::queue::MAX_SIZE;
use virtio::relay::Moved;
use virtio::relay::RelayError;

use crate::kind::kinds_and_hold;
use crate::kind::KINDS;
use crate::world::World;

fn sizes() -> impl Iterator<Item = u16> {
    (0..16).map(|order| 1 << order)
}

/// Makes all descriptors available, and has the relay pass on what it may.
fn fill(world: &mut World) {
    (0..world.driver.size).for_each(|_| world.add());
    world.relay_awake = true;
    world.relay(&[]);
}

/// All chains are in flight at once, before, over and behind the wrap, and come back in another order.
#[test]
fn full_rings_wrap() {
    for size in sizes() {
        for (kind, hold) in kinds_and_hold() {
            // The boundary is in the middle of the first filling, or right behind it.
            for before in [size / 2 + 1, size] {
                let mut world = World::new(size, before.wrapping_neg(), kind, hold);
                fill(&mut world);
                let passed = if hold { before } else { size };
                assert_eq!(world.relay.as_ref().unwrap().relay().in_flight(), passed);
                world.serve(usize::from(size / 4), usize::from(size / 3));
                world.relay(&[]);
                world.sleep();
                fill(&mut world);
                world.end();
                fill(&mut world);
                world.end();
                assert_eq!(world.hand_backs, u32::from(hold), "{size}");
                assert!(world.added >= 2 * u32::from(size), "{size}");
                // The device has the guest's rings now, or not: where it stands is known.
                fill(&mut world);
                world.serve(usize::from(size / 4), 0);
                world.stop(&[]);
                assert_eq!(world.stops, 1, "{size}");
                world.end();
            }
        }
    }
}

/// The device is stopped with all chains in flight, then with some of them returned, before and behind
/// the wrap.
#[test]
fn full_rings_are_stopped() {
    for size in sizes() {
        for kind in KINDS {
            let mut world = World::new(size, (size / 2 + 1).wrapping_neg(), kind, false);
            for returned in [0, size / 4, size - 1] {
                fill(&mut world);
                world.serve(returned.into(), 0);
                world.stop(&[]);
                fill(&mut world);
                assert_eq!(
                    world.relay.as_ref().unwrap().relay().in_flight(),
                    size - returned,
                    "the guest has not taken what was returned"
                );
                world.end();
            }
            assert_eq!(world.stops, 3, "{size}");
        }
    }
}

/// The chains that are passed on until there are none, in parts that take no longer than they may.
fn in_parts(mut pass: impl FnMut() -> Moved) -> u16 {
    let mut sum = 0;
    loop {
        let moved = pass();
        assert!(moved.chains <= 256 && (moved.chains == 256 || !moved.more));
        sum += moved.chains;
        if !moved.more {
            return sum;
        }
    }
}

/// A driver that finds the first buffer of a frame expects the others to be there: what a device has shown
/// at once is shown at once, though the relay takes several turns for it, and what the device shows
/// meanwhile comes later.
#[test]
fn what_is_shown_together_stays_together() {
    for size in sizes().filter(|size| *size > 256) {
        for event in [0, 255, 256, size / 2, size - 1] {
            let start = (size / 2 + 1).wrapping_neg();
            // Its interrupts are asked for by an index.
            let mut world = World::new(size, start, KINDS[1], false);
            let mut relay = world.alone();
            let (guest, shadow) = (&world.guest, &world.shadow);
            (0..size).for_each(|head| world.driver.offer(guest, head));
            in_parts(|| relay.forward(guest, shadow, false).unwrap());

            let used = relay.shadow().device;
            for slot in 0..size {
                shadow.poke(
                    used + 4 + 8 * u64::from(slot),
                    &u32::from(slot).to_le_bytes(),
                );
            }
            let ours = world.driver.addresses.device + 2;
            let avail = world.driver.addresses.driver;
            guest.poke16(avail + 4 + 2 * u64::from(size), start.wrapping_add(event));
            let mut looks = 0;
            // All but one, and the last one while the relay is busy with them.
            shadow.poke16(used + 2, size - 1);
            for shown in [size - 1, size] {
                loop {
                    let moved = relay.give_back(guest, shadow).unwrap();
                    shadow.poke16(used + 2, size);
                    looks += 1;
                    if !moved.more {
                        let before = if shown < size { 0 } else { size - 1 };
                        assert_eq!(moved.tell, (before..shown).contains(&event));
                        break;
                    }
                    assert_eq!(guest.peek16(ours), start, "turn {looks}");
                    assert!(!moved.tell);
                }
                assert_eq!(guest.peek16(ours), start.wrapping_add(shown));
            }
            assert_eq!(looks, (size - 1).div_ceil(256) + 1);
        }
    }
}

/// The device is stopped when the relay has returned a part, and has used some more meanwhile.
#[test]
fn a_part_is_no_place_to_stop() {
    for size in sizes().filter(|size| *size > 512) {
        for kind in KINDS {
            let mut world = World::new(size, 7, kind, false);
            fill(&mut world);
            world.serve(500, 0);
            world.relay_once();
            let ours = world.driver.addresses.device + 2;
            assert_eq!(world.guest.peek16(ours), 7, "a part is not shown");
            world.serve(10, 0);
            world.stop(&[]);
            assert_eq!(world.guest.peek16(ours), 7 + 510);
            world.end();
            assert_eq!(world.redone, u32::from(size) - 510);
        }
    }
}

/// No side can have more in flight than there are descriptors, whatever its index wraps to.
#[test]
fn more_than_full_is_refused() {
    for size in sizes() {
        for start in [1, size.wrapping_neg(), (size / 2).wrapping_neg(), u16::MAX] {
            let mut world = World::new(size, start, KINDS[0], false);
            let mut relay = world.alone();
            let (guest, shadow) = (&world.guest, &world.shadow);
            let avail = world.driver.addresses.driver + 2;
            let used = relay.shadow().device;

            guest.poke16(avail, start.wrapping_add(size).wrapping_add(1));
            let error = relay.forward(guest, shadow, false).unwrap_err();
            let index = start.wrapping_add(size).wrapping_add(1);
            assert_eq!(
                error,
                RelayError::AvailIndex {
                    index,
                    taken: start
                }
            );

            (0..size).for_each(|head| world.driver.offer(guest, head));
            assert_eq!(
                in_parts(|| relay.forward(guest, shadow, false).unwrap()),
                size
            );
            let taken = start.wrapping_add(size);
            for index in [taken.wrapping_add(1), taken.wrapping_sub(1), start] {
                guest.poke16(avail, index);
                let error = relay.forward(guest, shadow, false).unwrap_err();
                // Half of all numbers before is half of them behind.
                if size == MAX_SIZE && index == start {
                    assert_eq!(error, RelayError::Twice(0));
                } else {
                    assert_eq!(error, RelayError::AvailIndex { index, taken });
                }
            }

            shadow.poke16(used + 2, size + 1);
            let error = relay.give_back(guest, shadow).unwrap_err();
            let (index, returned) = (size + 1, 0);
            assert_eq!(error, RelayError::UsedIndex { index, returned });
            // The last one first.
            for slot in 0..size {
                let id = u32::from(size - 1 - slot);
                shadow.poke(used + 4 + 8 * u64::from(slot), &id.to_le_bytes());
            }
            shadow.poke16(used + 2, size);
            assert_eq!(in_parts(|| relay.give_back(guest, shadow).unwrap()), size);
            assert_eq!((relay.in_flight(), relay.next_used()), (0, taken));
        }
    }
}
