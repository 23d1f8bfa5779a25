// SPDX-License-Identifier: GPL-2.0

//! Whoever goes to sleep beside a relay is told of what came before it slept: every order of what the
//! relay does on one CPU and a guest or a device on another, by loom.

#[path = "../loom/mod.rs"]
mod words;
mod world;

use std::panic::catch_unwind;

use loom::sync::atomic::Ordering;
use loom::thread;
use virtio::relayed::Pass;

use crate::world::interleave;
use crate::world::Before;
use crate::world::End;
use crate::world::World;
use crate::world::AVAIL_INDEX;
use crate::world::BASE;
use crate::world::KINDS;
use crate::world::USED_INDEX;

/// As [`interleave`], of each kind; and the model can fail: without the relay's barrier it does, for those that
/// `matters` says.
fn wakes(
    matters: [bool; 3],
    before: Before,
    this: fn(&World),
    other: fn(&World),
    fine: fn(&World) -> bool,
) {
    for (kind, matters) in KINDS.into_iter().zip(matters) {
        interleave(kind, true, End::Never, before, this, other, fine);
        let sleeps =
            catch_unwind(|| interleave(kind, false, End::Never, before, this, other, fine));
        assert_eq!(sleeps.is_err(), matters, "{kind:?}");
    }
}

#[test]
fn a_relay_that_falls_asleep_hears_the_guest() {
    wakes(
        [true; 3],
        (0, |_| ()),
        World::work,
        World::guest_adds,
        |world| world.passed()[0] == 1,
    );
}

/// A guest kicks on one CPU, and makes something available on another.
#[test]
fn a_kick_that_is_served_hears_the_guest() {
    wakes(
        [true; 3],
        (0, |_| ()),
        |world| {
            world.work();
            world.serve_now(Pass::Kick);
            // It has set a pace, of a queue that may have one.
            world.work();
        },
        World::guest_adds,
        |world| world.passed()[0] == 1,
    );
}

#[test]
fn a_relay_that_falls_asleep_hears_the_device() {
    // Without events it never says that it wants no interrupt.
    wakes(
        [false, true, true],
        (1, |_| ()),
        World::work,
        World::device_uses,
        |world| world.passed()[1] == 1,
    );
}

/// The device has two, of which the relay need not be told before the second is done.
#[test]
fn a_relay_that_waits_for_several_hears_of_the_last() {
    wakes(
        [false, true, true],
        (2, |_| ()),
        World::work,
        |world| (0..2).for_each(|_| world.device_uses()),
        |world| world.passed()[1] == 2,
    );
}

/// The device is busy: the guest is not asked for a kick, and its chain goes the way of the device's last
/// interrupt.
#[test]
fn what_comes_while_the_device_is_busy_is_passed_on() {
    for kind in KINDS {
        interleave(
            kind,
            true,
            End::Never,
            (1, |_| ()),
            World::work,
            World::guest_adds,
            World::device_finishes,
        );
    }
}

/// A guest kicks on one CPU while the device interrupts another: both look at the rings.
#[test]
fn a_kick_and_an_interrupt_come_at_once() {
    for kind in KINDS {
        interleave(
            kind,
            true,
            End::Never,
            (1, |_| ()),
            |world| {
                world.work();
                world.device_uses();
            },
            World::guest_adds,
            World::device_finishes,
        );
    }
}

fn told_or_seen(world: &World) -> bool {
    world.told.load(Ordering::Acquire) || world.seen.load(Ordering::Acquire)
}

#[test]
fn a_device_that_falls_asleep_hears_the_relay() {
    wakes(
        [true; 3],
        (0, |world| {
            world.guest.store(AVAIL_INDEX, BASE.wrapping_add(1))
        }),
        World::work,
        World::device_sleeps,
        told_or_seen,
    );
}

#[test]
fn a_guest_that_falls_asleep_hears_the_relay() {
    wakes(
        [true; 3],
        (1, |world| world.shadow.store(USED_INDEX, 1)),
        World::work,
        World::guest_sleeps,
        told_or_seen,
    );
}

/// Paused, it may have been cancelled before it has run; what came meanwhile is found when it begins
/// again.
#[test]
fn a_relay_that_is_paused_hears_the_device_when_it_goes_on() {
    for kind in KINDS {
        let run = |pause: fn(&World)| {
            let fine = |world: &World| world.passed()[1] == 1;
            interleave(
                kind,
                true,
                End::Never,
                (1, |_| ()),
                pause,
                World::device_uses,
                fine,
            );
        };
        run(|world| {
            world.work();
            world.pause();
            world.begin();
        });
        // The model can fail: nobody looks once.
        let lost = catch_unwind(|| {
            run(|world| {
                world.work();
                world.pause();
                world.set_stop(false);
                world.gate.serve(true);
            });
        });
        assert!(lost.is_err());
    }
}

/// Notes whether nobody passes anything on for some time, and has the relay go on.
fn rests(world: &World) {
    let indices = || [world.shadow.load(AVAIL_INDEX), world.guest.load(USED_INDEX)];
    let paused = indices();
    thread::yield_now();
    world.seen.store(indices() == paused, Ordering::Release);
    world.begin();
}

/// Once it is paused, nobody passes anything on, however late a kick or an interrupt comes that found the
/// gate as it was.
#[test]
fn nothing_is_passed_on_by_a_relay_that_is_paused() {
    for other in [World::guest_adds, World::device_uses] {
        let run = |this: fn(&World)| {
            let fine = |world: &World| world.seen.load(Ordering::Acquire);
            interleave(KINDS[1], true, End::Never, (1, |_| ()), this, other, fine);
        };
        run(|world| {
            world.work();
            world.pause();
            rests(world);
        });
        // The model can fail: what was on its way is still passed on.
        let late = catch_unwind(|| {
            run(|world| {
                world.work();
                world.gate.close();
                rests(world);
            });
        });
        assert!(late.is_err());
    }
}

/// At the boundary the device gets its queue back, and nothing that the guest makes available meanwhile is
/// forgotten.
#[test]
fn a_queue_that_is_handed_back_hears_the_guest() {
    for kind in KINDS {
        let run = |end| {
            let fine = |world: &World| world.is_handed_back() && world.passed()[0] == 2;
            let used: Before = (1, |world| world.shadow.store(USED_INDEX, 1));
            interleave(kind, true, end, used, World::work, World::guest_adds, fine);
        };
        run(End::HandedBack);
        // The model can fail.
        let lost = catch_unwind(|| run(End::Unheard));
        assert!(lost.is_err());
    }
}

/// The same, with the device's last interrupt still under way.
#[test]
fn a_queue_is_handed_back_by_an_interrupt() {
    interleave(
        KINDS[1],
        true,
        End::HandedBack,
        (1, |_| ()),
        |world| {
            world.work();
            world.device_uses();
        },
        World::guest_adds,
        |world| world.is_handed_back() && world.passed()[0] == 2,
    );
}
