// SPDX-License-Identifier: GPL-2.0

//! How often a device has to tell of what it has returned.

use virtio::device_id::DeviceId;
use virtio::features::net;
use virtio::features::Features;
use virtio::relay::Returns;

use crate::kind::Kind;
use crate::world::World;

/// Has the relay pass `count` chains on, and the device return one after the other. Returns after how
/// many each the relay was told. The guest gets `ready` before.
fn told(count: u16, kind: Kind, ready: fn(&mut World)) -> Vec<u16> {
    told_when(count, kind, ready, |_| ())
}

/// As above; and whenever the relay sleeps, the guest does what comes to its mind `then`.
fn told_when(count: u16, kind: Kind, ready: fn(&mut World), then: fn(&mut World)) -> Vec<u16> {
    let mut world = World::new(256, 1000, kind, false);
    (0..count).for_each(|_| world.add());
    ready(&mut world);
    world.relay(&[]);
    then(&mut world);
    let mut told = Vec::new();
    for done in 1..=count {
        world.serve(1, 0);
        if world.relay_awake {
            told.push(done);
            world.relay(&[]);
            then(&mut world);
            assert_eq!(
                world.relay.as_ref().unwrap().relay().in_flight(),
                count - done
            );
        }
    }
    world.end();
    told
}

const TOGETHER: Kind = (true, Returns::Together);

#[test]
fn what_is_waited_for_comes_back_at_once() {
    for kind in [(false, Returns::Promptly), (true, Returns::Promptly)] {
        for ready in [World::sleep, World::doze, World::poll] {
            assert_eq!(told(16, kind, ready), (1..=16).collect::<Vec<_>>());
        }
    }
    // There is nothing to say more with.
    let flags = (false, Returns::Together);
    assert_eq!(told(8, flags, World::poll), (1..=8).collect::<Vec<_>>());
    // The guest is told of the next one.
    assert_eq!(told(4, TOGETHER, World::sleep)[0], 1);
}

/// However few there are, the last one comes back, too.
#[test]
fn what_is_not_waited_for_comes_back_in_quarters() {
    for ready in [World::poll, World::doze] {
        assert_eq!(told(1, TOGETHER, ready), [1]);
        assert_eq!(told(2, TOGETHER, ready), [2]);
        assert_eq!(told(3, TOGETHER, ready), [3]);
        assert_eq!(told(4, TOGETHER, ready), [4]);
        assert_eq!(told(5, TOGETHER, ready), [4, 5]);
        assert_eq!(told(64, TOGETHER, ready), [49, 61, 64]);
        assert_eq!(told(256, TOGETHER, ready), [193, 241, 253, 256]);
    }
}

/// The guest asks for an interrupt earlier than that.
#[test]
fn who_asks_is_told() {
    let ask = |world: &mut World| {
        let event = world.driver.used.wrapping_add(10);
        world.driver.want_interrupt_at(&world.guest, event);
    };
    // It asks once.
    assert_eq!(told(64, TOGETHER, ask), [11, 51, 61, 64]);
}

/// Linux kicks first, and says then what it wants to be told of. A relay that sleeps does not hear of it,
/// but there is an end to that, and what it returns later is told in time.
#[test]
fn who_asks_late_is_told_at_three_quarters() {
    let late = told_when(64, TOGETHER, World::poll, World::sleep);
    assert_eq!(late, [49, 61, 64]);
}

#[test]
fn only_what_a_network_device_sends_may_wait() {
    let none = Features::VERSION_1;
    for vq in [0, 2, 6] {
        assert_eq!(Returns::of(DeviceId::NET, none, vq), Returns::Promptly);
    }
    for vq in [1, 3, 7] {
        assert_eq!(Returns::of(DeviceId::NET, none, vq), Returns::Together);
        assert_eq!(Returns::of(DeviceId::BLOCK, none, vq), Returns::Promptly);
        // Its device may keep notifications back for as long as the driver likes.
        for late in [net::NOTF_COAL, net::VQ_NOTF_COAL] {
            let accepted = none | late;
            assert_eq!(Returns::of(DeviceId::NET, accepted, vq), Returns::Promptly);
        }
    }
}

/// Whoever kicks has passed on what there is to do for the device, which tells later then.
#[test]
fn a_kick_puts_off_what_the_device_tells() {
    for (kind, first) in [(TOGETHER, 49), ((true, Returns::Promptly), 1)] {
        let mut world = World::new(256, 1000, kind, false);
        world.poll();
        world.relay(&[]);
        (0..64).for_each(|_| world.add());
        assert!(world.kicked && !world.relay_awake);
        world.relay(&[]);
        let told = (1..=64).find(|_| {
            world.serve(1, 0);
            world.relay_awake
        });
        assert_eq!(told, Some(first));
        world.end();
    }
}

/// A guest that goes on sending kicks as long as the device has few, and then no more before the device
/// has told of them.
#[test]
fn a_busy_device_needs_no_kicks() {
    for (kind, kicks) in [(TOGETHER, 32), ((true, Returns::Promptly), 192)] {
        let mut world = World::new(256, 1000, kind, false);
        world.poll();
        world.relay(&[]);
        let mut kicked = 0;
        for _ in 0..192 {
            world.add();
            kicked += i32::from(world.kicked);
            // The worker, too, who finds nothing and ends the pace that a kick has set.
            world.relay(&[]);
        }
        assert_eq!(kicked, kicks);
        world.end();
        assert_eq!(world.reaped, 192);
    }
}

/// Until its worker has looked, a relay with a pace is told of nothing: by a guest that sends, and a device
/// that returns, one by one.
#[test]
fn a_pace_needs_neither_kicks_nor_interrupts() {
    for (kind, told) in [(TOGETHER, [1, 0]), ((true, Returns::Promptly), [40, 1])] {
        let mut world = World::new(256, 1000, kind, false);
        world.poll();
        world.relay(&[]);
        let [mut kicks, mut interrupts] = [0; 2];
        for _ in 0..40 {
            world.add();
            kicks += i32::from(world.kicked);
            world.serve_kick();
            // The worker does not come to look.
            let awake = std::mem::take(&mut world.relay_awake);
            world.serve(1, 0);
            interrupts += i32::from(world.relay_awake);
            world.relay_awake = awake;
        }
        assert_eq!([kicks, interrupts], told, "{kind:?}");
        world.relay_awake = true;
        world.end();
        assert_eq!(world.reaped, 40);
    }
}

/// What an interrupt has begun to return is not left until the worker has rested, because of a kick.
#[test]
fn what_is_half_returned_does_not_rest() {
    let mut world = World::new(512, 1000, TOGETHER, false);
    let rests = |world: &World| world.relay.as_ref().unwrap().rests();
    world.poll();
    world.relay(&[]);
    world.add();
    world.serve_kick();
    assert!(rests(&world));
    (0..299).for_each(|_| world.add());
    world.relay_once();
    world.relay_once();
    world.serve(300, 0);
    world.relay_once();
    assert!(!rests(&world));
    world.kicked = true;
    world.serve_kick();
    assert!(!rests(&world));
    world.end();
    assert_eq!(world.reaped, 300);
}

/// Whether there is something to return can be seen without the driver's rings.
#[test]
fn what_is_due_is_seen_in_the_shadow_rings() {
    let mut world = World::new(4, 65_535, TOGETHER, false);
    let is_due = |world: &World| {
        let relay = world.relay.as_ref().unwrap().relay();
        relay.is_due(&world.shadow).unwrap()
    };
    (0..3).for_each(|_| world.add());
    world.relay(&[]);
    assert!(!is_due(&world));
    world.serve(2, 0);
    assert!(is_due(&world));
    world.relay_awake = true;
    world.relay(&[]);
    assert!(!is_due(&world));
}

/// What came while the relay was at work does not keep it awake, unless there is enough of it.
#[test]
fn a_few_do_not_keep_it_awake() {
    for (kind, done, more) in [
        (TOGETHER, 1, false),
        (TOGETHER, 48, false),
        (TOGETHER, 49, true),
        ((true, Returns::Promptly), 1, true),
    ] {
        let mut world = World::new(64, 1000, kind, false);
        (0..64).for_each(|_| world.add());
        world.poll();
        world.relay(&[]);
        world.serve(done, 0);
        let relay = world.relay.as_ref().unwrap().relay();
        let left = relay
            .listen(&world.guest, &world.shadow, false, false)
            .unwrap();
        assert_eq!(left.more, more, "{done}");
        // Whoever only passes on leaves what a device tells of each time to its interrupt.
        let left = relay.listen_forward(&world.guest, &world.shadow, false, false);
        assert_eq!(left.unwrap().more, more && kind == TOGETHER, "{done}");
    }
}
