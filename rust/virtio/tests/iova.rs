// SPDX-License-Identifier: GPL-2.0

//! Ranges of addresses, and their division.

use proptest::prelude::*;
use virtio::iova::split;
use virtio::iova::Range;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn range(first: u64, last: u64) -> Range {
    Range::from_bounds(first, last).unwrap()
}

#[test]
fn a_range_is_not_empty_and_does_not_wrap() {
    assert_eq!(Range::from_bounds(1, 0), None);
    assert_eq!(Range::from_size(7, 0), None);
    assert_eq!(Range::from_size(u64::MAX, 2), None);
    let one = Range::from_size(u64::MAX, 1).unwrap();
    assert_eq!(
        (one.first(), one.last(), one.size()),
        (u64::MAX, u64::MAX, 1)
    );
    assert_eq!(
        Range::from_size(0x1000, 0x2000),
        Range::from_bounds(0x1000, 0x2fff)
    );
    assert_eq!(Range::ALL.size(), u64::MAX);
}

#[test]
fn ranges_overlap_where_they_share_an_address() {
    let middle = range(10, 20);
    for (first, last, overlaps, contains) in [
        (0, 9, false, false),
        (0, 10, true, false),
        (10, 20, true, true),
        (11, 19, true, true),
        (9, 21, true, false),
        (20, 30, true, false),
        (21, 30, false, false),
    ] {
        let other = range(first, last);
        assert_eq!(middle.overlaps(other), overlaps, "{other:?}");
        assert_eq!(other.overlaps(middle), overlaps, "{other:?}");
        assert_eq!(middle.contains(other), contains, "{other:?}");
    }
}

#[test]
fn the_window_is_at_the_upper_end() {
    // What an IOMMU with three, four levels has.
    for bits in [39, 48] {
        let end = 1_u64 << bits;
        let split = split(range(0, end - 1), &[]).unwrap();
        assert_eq!(split.own, range(end - GIB, end - 1));
        assert_eq!(split.consumer, range(0, end - GIB - 1));
    }
    // What is wider is used as far as four levels reach.
    for aperture in [Range::ALL, range(0, (1 << 57) - 1)] {
        let split = split(aperture, &[]).unwrap();
        assert_eq!(split.own, range((1 << 48) - GIB, (1 << 48) - 1));
        assert_eq!(split.consumer, range(0, (1 << 48) - GIB - 1));
    }
    assert_eq!(split(range(1 << 48, 1 << 50), &[]), None);
}

#[test]
fn reserved_addresses_are_left_out() {
    let aperture = range(0, (1 << 32) - 1);
    let interrupts = range(0xfee0_0000, 0xfeef_ffff);
    let split = split(aperture, &[interrupts]).unwrap();
    assert_eq!(
        split.own,
        range(0xfee0_0000 - 256 * MIB & !(2 * MIB - 1), 0xfedf_ffff)
    );
    assert_eq!(split.consumer, range(0, split.own.first() - 1));
}

#[test]
fn where_there_is_no_room_there_is_no_window() {
    assert_eq!(split(range(0, 16 * MIB - 1), &[]), None);
    assert!(split(range(0, 32 * MIB - 1), &[]).is_some());
    // It is not put into the middle.
    assert_eq!(
        split(range(0, 256 * MIB - 1), &[range(120 * MIB, 255 * MIB)]),
        None
    );
}

proptest! {
    #[test]
    fn nothing_belongs_to_two(
        first in 0_u64..1 << 40,
        size in 1_u64..1 << 50,
        reserved in prop::collection::vec((0_u64..1 << 51, 1_u64..1 << 40), 0..6),
    ) {
        let aperture = Range::from_size(first, size).unwrap();
        let reserved: Vec<_> = reserved
            .into_iter()
            .map(|(first, size)| Range::from_size(first, size).unwrap())
            .collect();
        if let Some(split) = split(aperture, &reserved) {
            prop_assert!(aperture.contains(split.own));
            prop_assert!(aperture.contains(split.consumer));
            prop_assert!(!split.own.overlaps(split.consumer));
            prop_assert!(split.own.size() >= 2 * MIB);
            prop_assert_eq!(split.own.first() % (2 * MIB), 0);
            prop_assert!(reserved.iter().all(|range| !range.overlaps(split.own)));
            let usable = range(first, aperture.last().min((1 << 48) - 1));
            prop_assert!(split.consumer.size() >= usable.size() / 2);
        } else if reserved.is_empty() && first % (2 * MIB) == 0 && first < 1 << 47 {
            prop_assert!(size < 32 * MIB);
        }
    }
}
