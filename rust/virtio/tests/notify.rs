// SPDX-License-Identifier: GPL-2.0

//! Doorbells.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use virtio::capability::Bar;
use virtio::capability::Notify;
use virtio::notify::doorbell;
use virtio::notify::doorbell_page;

const BARS: [Option<Bar>; 6] = [Some(Bar { len: 1 << 40 }), None, None, None, None, None];

fn notify(offset: u32, length: u32, multiplier: u32) -> Notify {
    Notify::new(0, offset, length, multiplier, &BARS).unwrap()
}

#[test]
fn doorbells_lie_side_by_side() {
    let notify = notify(0x3000, 0x1000, 4);
    assert_eq!(doorbell(&notify, 0), Ok(0x3000));
    assert_eq!(doorbell(&notify, 1), Ok(0x3004));
    assert_eq!(doorbell(&notify, 0x3ff), Ok(0x3ffc));
    assert_eq!(
        doorbell(&notify, 0x400).unwrap_err().to_string(),
        "doorbell at queue_notify_off 1024 times 4 is outside the notification window of 0x1000 \
         bytes"
    );
}

#[test]
fn without_a_multiplier_all_share_one() {
    let notify = notify(0x3000, 2, 0);
    assert_eq!(doorbell(&notify, 0), Ok(0x3000));
    assert_eq!(doorbell(&notify, 0xffff), Ok(0x3000));
}

#[test]
fn the_second_byte_counts() {
    assert!(doorbell(&notify(0, 6, 4), 1).is_ok());
    assert!(doorbell(&notify(0, 5, 4), 1).is_err());
}

#[test]
fn nothing_wraps() {
    // 0xffff times 2^31 needs 47 bits.
    assert!(doorbell(&notify(0, 0xffff_ffff, 1 << 31), 0xffff).is_err());
    // Behind the 4 GiB that an offset can say.
    let far = notify(0xffff_f000, 0xffff_0000, 0x1000);
    assert_eq!(doorbell(&far, 0), Ok(0xffff_f000));
    assert!(doorbell(&far, 1).is_err());
}

#[test]
fn a_page_of_its_own_may_be_mapped() {
    let notify = notify(0x4000, 0x4000, 0x1000);
    let page = |start, offset| doorbell_page(&notify, start, offset, 0x1000);
    assert_eq!(page(0xfe00_0000, 0x4000), Some(0xfe00_4000));
    assert_eq!(page(0xfe00_0000, 0x7000), Some(0xfe00_7000));
    // Outside of the window, though in the BAR.
    assert_eq!(page(0xfe00_0000, 0x3000), None);
    assert_eq!(page(0xfe00_0000, 0x8000), None);
    // Not at the start of a page.
    assert_eq!(page(0xfe00_0000, 0x4004), None);
    assert_eq!(page(0xfe00_0800, 0x4000), None);
    // A BAR that starts in the middle of a page, with the doorbell at the start of one.
    assert_eq!(page(0xfe00_0800, 0x4800), Some(0xfe00_5000));
    // The end of the page is outside of the window.
    assert_eq!(page(0xfe00_0800, 0x7800), None);
    assert_eq!(page(u64::MAX - 0x4fff, 0x4000), None);
}

#[test]
fn a_shared_page_may_not() {
    for multiplier in [0, 2, 4, 0x800] {
        let notify = notify(0x4000, 0x4000, multiplier);
        assert_eq!(doorbell_page(&notify, 0xfe00_0000, 0x4000, 0x1000), None);
    }
    // 4 KiB apart is too near for a host with pages of 64 KiB.
    let notify = notify(0x10000, 0x40000, 0x1000);
    assert_eq!(doorbell_page(&notify, 0xfe00_0000, 0x10000, 0x10000), None);
    assert!(doorbell_page(&notify, 0xfe00_0000, 0x10000, 0x1000).is_some());
}

#[test]
fn a_page_has_a_size() {
    let notify = notify(0x4000, 0x4000, 0x1000);
    for size in [0, 3, 0x1800, u64::MAX, 1 << 63] {
        assert_eq!(doorbell_page(&notify, 0, 0x4000, size), None);
    }
}

proptest! {
    #[test]
    fn a_doorbell_lies_in_the_window(
        offset in (0u32..=u32::MAX / 2).prop_map(|n| n * 2),
        length in 2u32..,
        shift in 0u32..32,
        queue: u16,
    ) {
        let multiplier = if shift == 0 { 0 } else { 1 << shift };
        let notify = notify(offset, length, multiplier);
        let exact = u128::from(offset) + u128::from(queue) * u128::from(multiplier);
        let fits = exact + 2 <= u128::from(notify.window().end()) && exact <= u128::from(u32::MAX);
        match doorbell(&notify, queue) {
            Ok(doorbell) => {
                prop_assert!(fits);
                prop_assert_eq!(u128::from(doorbell), exact);
                prop_assert_eq!(doorbell % 2, 0);
            }
            Err(_) => prop_assert!(!fits),
        }
    }
}

/// Random windows, of which enough must have pages to map for the test to mean something.
#[test]
fn a_page_holds_one_doorbell() {
    let (mapped, refused) = (Cell::new(0), Cell::new(0));
    let cases = (
        prop_oneof![0u32..16, 0u32..64].prop_map(|n| n * 0x800),
        0u32..0x40000,
        prop_oneof![3 => 11u32..17, 1 => 1u32..18],
        0u16..8,
        prop_oneof![
            3 => (0u64..1 << 40).prop_map(|n| n * 0x10000),
            1 => (0u64..1 << 50).prop_map(|n| n * 0x800)
        ],
        prop_oneof![8 => Just(0x1000u64), 2 => Just(0x4000), 1 => Just(0x10000), 1 => any::<u64>()],
    );
    TestRunner::new(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
    .run(&cases, |(offset, length, shift, queue, start, page)| {
        let notify = notify(offset, length + 2, 1 << shift);
        let Ok(bell) = doorbell(&notify, queue) else {
            return Ok(());
        };
        let Some(address) = doorbell_page(&notify, start, bell, page) else {
            refused.set(refused.get() + 1);
            return Ok(());
        };
        mapped.set(mapped.get() + 1);
        prop_assert_eq!(address % page, 0);
        prop_assert_eq!(address, start + u64::from(bell));
        // Wholly in the window.
        let window = notify.window();
        prop_assert!(address >= start + u64::from(window.offset()));
        prop_assert!(address + page <= start + window.end());
        // No other doorbell in it.
        for other in (0u16..64).filter(|other| *other != queue) {
            if let Ok(other) = doorbell(&notify, other) {
                let other = start + u64::from(other);
                prop_assert!(other < address || other >= address + page);
            }
        }
        Ok(())
    })
    .unwrap();
    let (mapped, refused) = (mapped.get(), refused.get());
    assert!(
        mapped > 100 && refused > 100,
        "{mapped} mapped, {refused} refused"
    );
}
