// SPDX-License-Identifier: GPL-2.0

//! What a guest and a device do at every moment in which a relay is at work, and stops between any two
//! steps.

use crate::world::Act;
use crate::world::World;

const ACTS: [Act; 6] = [
    Act::Add,
    Act::Sleep,
    Act::Poll,
    Act::Work(0),
    Act::Serve(0),
    Act::Serve(1),
];

/// A relay is woken: the device has returned one chain of three, and the guest has added one. Everybody
/// else sleeps.
fn scene(left: u16, event_idx: bool, hold: bool) -> World {
    let mut world = World::new(4, left.wrapping_neg(), event_idx, hold);
    (0..3).for_each(|_| world.add());
    world.relay(&[]);
    world.sleep();
    world.serve(1, 0);
    world.add();
    assert!(world.relay_awake);
    world
}

/// Each act at each access, and any two at any two, or at the same one. The last three moments of a
/// relay that ends are those around the start of the device.
#[test]
fn nobody_is_missed_at_any_moment() {
    let mut hand_backs = 0;
    // The boundary is behind the chains that the device has, in the middle of them, or far.
    for left in [4, 3, 2, 100] {
        for [event_idx, hold] in [[false, false], [false, true], [true, false], [true, true]] {
            for (first, second) in ACTS.iter().flat_map(|act| ACTS.map(|other| (*act, other))) {
                for at in 0_u8.. {
                    let mut moments = 0;
                    for after in at.. {
                        let mut world = scene(left, event_idx, hold);
                        world.relay(&[(at, first), (after, second)]);
                        moments = world.accesses;
                        world.end();
                        hand_backs += world.hand_backs;
                        if after >= moments {
                            break;
                        }
                    }
                    if at >= moments {
                        break;
                    }
                }
            }
        }
    }
    assert!(hand_backs > 1000);
}

/// What happens over the boundary, in small steps.
const STEPS: [fn(&mut World); 12] = [
    |world| world.add(),
    |world| world.add(),
    |world| world.relay(&[]),
    |world| world.serve(1, 0),
    |world| world.add(),
    |world| world.relay(&[(3, Act::Add)]),
    |world| world.sleep(),
    |world| world.work(1, 0, false),
    |world| world.relay(&[(9, Act::Serve(0))]),
    |world| world.poll(),
    |world| world.serve(1, 0),
    |world| world.relay(&[]),
];

/// The device is stopped, and goes on, between any two steps, and once more between any two later ones.
#[test]
fn stops_come_at_every_step() {
    for left in 0..6 {
        for [event_idx, hold] in [[false, false], [false, true], [true, false], [true, true]] {
            for first in 0..=2 * STEPS.len() {
                for second in first..=2 * STEPS.len() {
                    let mut world = World::new(4, 0_u16.wrapping_sub(left), event_idx, hold);
                    for (now, step) in STEPS.iter().chain(&STEPS).enumerate() {
                        for _ in [first, second].iter().filter(|stop| **stop == now) {
                            world.stop();
                        }
                        step(&mut world);
                    }
                    world.end();
                    assert!(world.stops > 0 || first == 2 * STEPS.len());
                }
            }
        }
    }
}
