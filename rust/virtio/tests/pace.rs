// SPDX-License-Identifier: GPL-2.0

//! When a relay looks again by itself.

use proptest::prelude::*;
use virtio::pace::Pace;

/// How many kicks it takes until a pace is set.
fn kicks(pace: &mut Pace) -> u32 {
    for kicks in 1..5000 {
        pace.kick(1);
        if pace.is_set() {
            return kicks;
        }
    }
    panic!("it is never tried again");
}

#[test]
fn a_kick_sets_a_pace_that_lasts_while_there_is_enough() {
    let mut pace = Pace::default();
    assert!(!pace.is_set());
    assert_eq!(kicks(&mut pace), 1);
    for chains in [4, 256, 5] {
        pace.look(chains);
        assert!(pace.is_set());
        pace.kick(1);
    }
    pace.look(3);
    assert!(!pace.is_set());
}

#[test]
fn a_kick_for_enough_sets_none() {
    let mut pace = Pace::default();
    pace.kick(4);
    pace.kick(256);
    assert!(!pace.is_set());
    pace.kick(3);
    assert!(pace.is_set());
}

#[test]
fn what_was_tried_in_vain_is_tried_seldom() {
    let mut pace = Pace::default();
    for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024] {
        assert_eq!(kicks(&mut pace), expected);
        pace.look(1);
        // Whatever else somebody looks for.
        pace.look(0);
    }
    kicks(&mut pace);
    pace.look(4);
    pace.look(0);
    assert_eq!(kicks(&mut pace), 2, "it was worth it at last");
}

proptest! {
    /// A driver that never sends enough is kept waiting by a few of its kicks only.
    #[test]
    fn who_waits_for_answers_seldom_waits_longer(chains in 0..4_u16, count in 0..20_000_u32) {
        let mut pace = Pace::default();
        let mut late = 0;
        for _ in 0..count {
            pace.kick(1);
            late += u32::from(pace.is_set());
            pace.look(chains);
        }
        prop_assert!(late <= 11 + count / 1024, "{late} of {count}");
    }
}
