// SPDX-License-Identifier: GPL-2.0

//! What a relay holds back, and for how long.

use proptest::prelude::*;
use virtio::boundary::Boundary;
use virtio::boundary::Needs;
use virtio::boundary::Sight;
use virtio::device_id::DeviceId;
use virtio::features::net;
use virtio::features::Features;

const STUCK: Sight = Sight {
    there: true,
    more: true,
    in_flight: 3,
    progress: false,
    blocked: false,
};

#[test]
fn a_device_that_may_wait_for_more_gets_it() {
    let mut boundary = Boundary::new(Needs::Several);
    assert!(boundary.holds());
    assert!(!boundary.watches());
    assert!(!boundary.look(STUCK, 1000));
    assert!(boundary.holds() && boundary.watches());
    assert!(!boundary.look(STUCK, 1099));
    assert!(boundary.holds() && boundary.watches());
    assert!(boundary.look(STUCK, 1100));
    assert!(!boundary.holds() && !boundary.watches());
    // Until the boundary is behind.
    assert!(boundary.look(STUCK, 1101));
    assert!(!boundary.look(
        Sight {
            there: false,
            ..STUCK
        },
        1102
    ));
    assert!(boundary.holds() && !boundary.watches());
}

/// A driver may take back what it has made available: then there is nothing to look at.
#[test]
fn a_boundary_that_is_passed_is_no_reason_to_look() {
    let mut boundary = Boundary::new(Needs::Several);
    boundary.look(STUCK, 1000);
    assert!(boundary.look(STUCK, 2000));
    let nothing = Sight {
        more: false,
        ..STUCK
    };
    for now in 2001..2010 {
        assert!(!boundary.look(nothing, now));
        assert!(!boundary.holds() && !boundary.watches());
    }
}

#[test]
fn progress_keeps_it_waiting() {
    for sight in [
        Sight {
            progress: true,
            ..STUCK
        },
        Sight {
            more: false,
            ..STUCK
        },
        Sight {
            in_flight: 0,
            ..STUCK
        },
        Sight {
            there: false,
            ..STUCK
        },
    ] {
        let mut boundary = Boundary::new(Needs::Several);
        for now in (0..10_000).step_by(50) {
            assert!(!boundary.look(STUCK, now));
            assert!(!boundary.look(sight, now + 1));
            assert!(boundary.holds(), "{sight:?}");
        }
    }
}

/// A device that has plenty is given more time, but not for ever: a packet may need more than plenty.
#[test]
fn plenty_only_takes_longer() {
    for (in_flight, patience) in [(1, 100), (63, 100), (64, 2000), (65, 2000), (32_768, 2000)] {
        let sight = Sight { in_flight, ..STUCK };
        let mut boundary = Boundary::new(Needs::Several);
        assert!(!boundary.look(sight, 1000));
        assert!(boundary.holds() && boundary.watches());
        assert!(!boundary.look(sight, 1000 + patience - 1), "{in_flight}");
        assert!(boundary.holds() && boundary.watches());
        assert!(boundary.look(sight, 1000 + patience), "{in_flight}");
        assert!(!boundary.holds() && !boundary.watches());
    }
}

/// With any number of chains that a ring can hold, each look is followed by another until the rest is
/// passed on.
#[test]
fn nothing_is_held_back_for_ever() {
    for in_flight in 1..=32_768 {
        let sight = Sight { in_flight, ..STUCK };
        let mut boundary = Boundary::new(Needs::Several);
        let passed = (0..).step_by(500).find(|now| {
            let passed = boundary.look(sight, *now);
            assert!(passed || boundary.watches(), "{in_flight}");
            passed || *now > 2000
        });
        assert!(passed.is_some_and(|now| now <= 2000), "{in_flight}");
        assert!(!boundary.holds(), "{in_flight}");
    }
}

/// The device that is down from plenty to few is not given the time of plenty.
#[test]
fn fewer_left_is_less_patience() {
    let plenty = Sight {
        in_flight: 64,
        ..STUCK
    };
    let mut boundary = Boundary::new(Needs::Several);
    assert!(!boundary.look(plenty, 0));
    assert!(!boundary.look(
        Sight {
            progress: true,
            ..STUCK
        },
        1500
    ));
    assert!(!boundary.look(STUCK, 1599));
    assert!(boundary.look(STUCK, 1600));
}

/// It does not wait for more, but may be slow with one of them, and quick with what is held back.
#[test]
fn a_device_that_needs_one_at_a_time_has_long() {
    for in_flight in [1, 63, 64, 32_768] {
        let sight = Sight { in_flight, ..STUCK };
        let mut boundary = Boundary::new(Needs::One);
        assert!(!boundary.look(sight, 1000));
        assert!(!boundary.look(sight, 2999), "{in_flight}");
        assert!(boundary.holds() && boundary.watches());
        assert!(boundary.look(sight, 3000), "{in_flight}");
        assert!(!boundary.holds());
    }
}

/// Whoever has the lock may be waiting for what is held back; one that waits for nothing may have it.
#[test]
fn a_lock_is_not_waited_for_long() {
    for needs in [Needs::One, Needs::Several] {
        let sight = Sight {
            in_flight: 0,
            blocked: true,
            ..STUCK
        };
        let mut boundary = Boundary::new(needs);
        assert!(!boundary.look(sight, 1000));
        assert!(!boundary.look(sight, 1049));
        assert!(boundary.holds() && boundary.watches());
        assert!(boundary.look(sight, 1050));
        assert!(!boundary.holds());

        let mut boundary = Boundary::new(needs);
        for now in (0..10_000).step_by(50) {
            assert!(!boundary.look(
                Sight {
                    more: false,
                    ..sight
                },
                now
            ));
        }
        assert!(boundary.holds());
    }
}

#[test]
fn only_mergeable_buffers_and_strange_devices_need_several() {
    let merged = net::MRG_RXBUF;
    for (id, accepted, vq, needs) in [
        (DeviceId::NET, merged, 0, Needs::Several),
        (DeviceId::NET, merged, 1, Needs::One),
        (DeviceId::NET, merged, 6, Needs::Several),
        (DeviceId::NET, Features::EMPTY, 0, Needs::One),
        (DeviceId::BLOCK, Features::EMPTY, 0, Needs::Several),
        (DeviceId::BLOCK, Features::EMPTY, 1, Needs::Several),
    ] {
        assert_eq!(Needs::of(id, accepted, vq), needs);
    }
}

fn any_sight() -> impl Strategy<Value = Sight> {
    (
        any::<bool>(),
        any::<bool>(),
        0..100u16,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(there, more, in_flight, progress, blocked)| Sight {
            there,
            more,
            in_flight,
            progress,
            blocked: blocked && in_flight == 0,
        })
}

proptest! {
    #[test]
    fn without_a_way_back_nothing_is_held(sights in proptest::collection::vec(any_sight(), 0..50)) {
        let mut boundary = Boundary::never();
        for (now, sight) in (0..).step_by(40).zip(sights) {
            prop_assert!(!boundary.look(sight, now));
            prop_assert!(!boundary.holds());
            prop_assert!(!boundary.watches());
        }
    }

    /// Whatever was seen before: a device that is stuck is watched, and gets more in the end.
    #[test]
    fn nobody_is_stuck_for_long(
        sights in proptest::collection::vec(any_sight(), 0..50),
        in_flight in 1..=32_768_u16,
    ) {
        let stuck = Sight { in_flight, ..STUCK };
        let mut boundary = Boundary::new(Needs::Several);
        let mut time = 0;
        for sight in sights {
            time += 7;
            boundary.look(sight, time);
        }
        boundary.look(stuck, time);
        prop_assert!(boundary.watches() || !boundary.holds());
        boundary.look(stuck, time + if in_flight < 64 { 100 } else { 2000 });
        prop_assert!(!boundary.holds());
    }
}
