// SPDX-License-Identifier: GPL-2.0

//! A queue that goes on after somebody has lost track of some of its chains.

use virtio::relay::Returns;

use crate::kind::Act;
use crate::kind::KINDS;
use crate::world::Fate;
use crate::world::World;

/// `many` chains or a few more that nobody loses, some of which are available together.
fn fine(many: usize) -> Vec<(u8, Fate)> {
    let mut fates = Vec::new();
    for together in [1, 2, 5, 3].into_iter().cycle() {
        fates.push((together, Fate::ComesBack));
        fates.resize(
            fates.len() + usize::from(together) - 1,
            (0, Fate::ComesBack),
        );
        if fates.len() >= many {
            break;
        }
    }
    fates
}

/// What is lost in the course of a run: two chains that are available together with some that are not
/// lost, and `behind` other ones after them.
fn loses_two(behind: usize) -> Vec<(u8, Fate)> {
    let mut fates = fine(100);
    fates.extend([
        (4, Fate::IsTakenFor(3)),
        (0, Fate::ComesBack),
        (0, Fate::IsLost),
        (0, Fate::ComesBack),
    ]);
    fates.extend(fine(behind));
    fates
}

/// All go on: chains are done, and come back.
fn goes_on(world: &mut World, many: u32) {
    for _ in 0..many {
        world.add();
        world.settle();
        let lost = u32::try_from(world.lost.len()).unwrap();
        assert_eq!(world.reaped + lost, world.added);
    }
}

#[test]
fn what_was_lost_not_long_ago_comes_back() {
    for kind in KINDS {
        for behind in [0, 1, 5, 17, 100] {
            let mut world = World::new(256, 65_000, kind, true);
            world.keeps_order = true;
            goes_on(&mut world, 10);
            world.stop(&loses_two(behind));
            assert_eq!(world.lost.len(), 2);
            world.settle();
            assert_eq!(world.lost, [], "{behind}");
            assert_eq!(world.driver.used, world.driver.avail);
            goes_on(&mut world, 600);
            assert_eq!(world.hand_backs, 1, "the device can have the queue");
            world.end();
        }
    }
}

/// Too few before them have come back in their turn to be sure.
#[test]
fn what_was_lost_at_the_edge_stays_lost() {
    for (behind, found) in [(150, true), (174, false)] {
        let mut world = World::new(256, 1000, KINDS[0], false);
        world.stop(&loses_two(behind));
        goes_on(&mut world, 10);
        assert_eq!(world.lost.is_empty(), found, "{behind}");
        world.end();
    }
}

#[test]
fn what_was_lost_long_ago_stays_lost() {
    for kind in KINDS {
        let mut world = World::new(256, 65_000, kind, true);
        world.keeps_order = true;
        world.stop(&loses_two(300));
        goes_on(&mut world, 600);
        assert_eq!((world.lost.len(), world.hand_backs), (2, 0));
        // Whoever goes on next finds the same.
        for stops in 2..4 {
            world.stop(&fine(stops * 100));
            goes_on(&mut world, 600);
            assert_eq!((world.lost.len(), world.hand_backs), (2, 0));
        }
        assert_eq!(world.stops, 3);
        world.end();
    }
}

/// The last ones, and more of them than others could outweigh.
#[test]
fn the_rings_tell_of_a_few() {
    for (size, lost, found) in [
        (256, 1, true),
        (256, 16, true),
        (256, 17, false),
        (32, 1, true),
        (4, 1, false),
        (2048, 16, true),
    ] {
        let mut world = World::new(size, 1000, KINDS[0], false);
        world.keeps_order = true;
        world.stop(&fine(300));
        world.stop(&vec![(1, Fate::IsLost); lost]);
        goes_on(&mut world, 10);
        assert_eq!(world.lost.len(), if found { 0 } else { lost });
        world.end();
    }
}

/// What was made available since is written over what the rings have told.
#[test]
fn rings_full_of_others_tell_nothing() {
    for (since, found) in [(140, true), (180, false), (220, false)] {
        let mut world = World::new(256, 1000, KINDS[0], false);
        world.keeps_order = true;
        world.stop(&loses_two(4));
        (0..since).for_each(|_| world.add());
        world.settle();
        assert_eq!(world.lost.is_empty(), found, "{since}");
        goes_on(&mut world, 300);
        world.end();
    }
}

/// It is of no matter in which order a device has returned the others.
#[test]
fn rings_tell_without_order() {
    for pick in 0..4 {
        let mut world = World::new(64, 1000, KINDS[0], false);
        world.stop(&fine(60));
        (0..4).for_each(|_| world.add());
        world.relay(&[]);
        world.serve(4, pick);
        world.settle();
        world.stop(&[
            (1, Fate::ComesBack),
            (1, Fate::IsLost),
            (1, Fate::ComesBack),
        ]);
        goes_on(&mut world, 10);
        assert_eq!(world.lost, []);
        world.end();
    }
}

/// The same chain again and again: whichever was lost, the rings look the same.
#[test]
fn rings_of_one_chain_tell_nothing() {
    for lost in [0, 1] {
        let mut world = World::new(64, 1000, KINDS[0], false);
        world.keeps_order = true;
        let again = vec![(1, Fate::ComesBack); 100];
        // What is lost first has another head than all that come after it.
        world.stop(&vec![(1, Fate::IsLost); 1 - lost]);
        world.stop(&again);
        world.stop(&vec![(1, Fate::IsLost); lost]);
        goes_on(&mut world, 100);
        assert_eq!(world.lost.len(), 1);
        world.end();
    }
}

/// Those that look as if they were lost, and are not, go on being used.
#[test]
fn what_was_in_doubt_goes_on() {
    let mut world = World::new(64, 1000, KINDS[0], false);
    world.stop(&loses_two(100));
    world.settle();
    (0..4).for_each(|_| world.add());
    world.relay(&[]);
    world.serve(4, 2);
    world.settle();
    world.stop(&[]);
    (0..4).for_each(|_| world.add());
    world.settle();
    assert_eq!(world.lost.len(), 2);
    world.end();
}

/// What the driver makes available while its rings are looked at is written over what they have told.
#[test]
fn rings_that_change_tell_nothing() {
    let found = |while_looked_at| {
        let mut world = World::new(64, 1000, KINDS[0], false);
        world.keeps_order = true;
        world.stop(&loses_two(4));
        let plan = vec![(9, Act::Add); while_looked_at];
        world.relay(&plan);
        world.poll();
        world.lost.is_empty()
    };
    assert!(found(0) && found(8));
    assert!(!found(9) && !found(40));
}

/// The driver's used ring is behind, and so is what it asks for.
#[test]
fn who_asks_behind_a_gap_is_told() {
    let mut world = World::new(256, 1000, (true, Returns::Together), false);
    world.keeps_order = true;
    world.stop(&loses_two(300));
    world.settle();
    assert_eq!(world.lost.len(), 2);
    (0..16).for_each(|_| world.add());
    let event = world.driver.used.wrapping_add(4);
    world.driver.want_interrupt_at(&world.guest, event);
    world.relay(&[]);
    let told = (1..=16).find(|_| {
        world.serve(1, 0);
        world.relay_awake
    });
    assert_eq!(told, Some(5));
    world.end();
}
