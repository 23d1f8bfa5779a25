// SPDX-License-Identifier: GPL-2.0

//! What a guest and a device do at every moment in which a relay is at work, and stops between any two
//! steps.

use virtio::relay::Returns;

use crate::kind::kinds_and_hold;
use crate::kind::Act;
use crate::kind::Kind;
use crate::world::World;

const ACTS: [Act; 7] = [
    Act::Add,
    Act::Sleep,
    Act::Doze,
    Act::Poll,
    Act::Work(0),
    Act::Serve(0),
    Act::Serve(1),
];

/// A relay is woken: by a guest that has added one chain to the three that the device has, and if it is
/// not `alone` by the device, too, which has returned one. Everybody else sleeps.
fn scene(left: u16, kind: Kind, hold: bool, alone: bool) -> World {
    let mut world = World::new(4, left.wrapping_neg(), kind, hold);
    (0..3).for_each(|_| world.add());
    world.relay(&[]);
    world.sleep();
    world.serve(usize::from(!alone), 0);
    world.add();
    // A device with enough to send is not told of more, nor does it tell of the first that was sent. At
    // the boundary the relay hears of the first chain behind it, and looks at the next by itself.
    let promptly = kind.1 == Returns::Promptly;
    let by_event = (hold && left == 3) || (promptly && !(hold && left == 2));
    let kicked = !kind.0 || by_event;
    assert_eq!(
        (world.kicked, world.relay_awake),
        (kicked, promptly && !alone)
    );
    world.kicked = true;
    world.relay_awake |= !alone;
    world
}

/// Each act at each access, and any two at any two, or at the same one. The last three moments of a
/// relay that ends are those around the start of the device.
#[test]
fn nobody_is_missed_at_any_moment() {
    let mut hand_backs = 0;
    // The boundary is behind the chains that the device has, in the middle of them, or far.
    for left in [4, 3, 2, 100] {
        for ((kind, hold), alone) in
            kinds_and_hold().flat_map(|scene| [(scene, false), (scene, true)])
        {
            for (first, second) in ACTS.iter().flat_map(|act| ACTS.map(|other| (*act, other))) {
                for at in 0_u8.. {
                    let mut moments = 0;
                    for after in at.. {
                        let mut world = scene(left, kind, hold, alone);
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
        for (kind, hold) in kinds_and_hold() {
            for first in 0..=2 * STEPS.len() {
                for second in first..=2 * STEPS.len() {
                    let mut world = World::new(4, 0_u16.wrapping_sub(left), kind, hold);
                    for (now, step) in STEPS.iter().chain(&STEPS).enumerate() {
                        for _ in [first, second].iter().filter(|stop| **stop == now) {
                            world.stop(&[]);
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
