// SPDX-License-Identifier: GPL-2.0

//! Any bytes at all: what is accepted is safe.

use super::*;

fn any_bars() -> impl Strategy<Value = [Option<Bar>; 6]> {
    let len = prop_oneof![
        1 => Just(0),
        1 => Just(0x1000),
        12 => Just(0x8000),
        1 => Just(1 << 32),
        1 => any::<u64>()
    ];
    proptest::array::uniform6(proptest::option::weighted(
        0.95,
        len.prop_map(|len| Bar { len }),
    ))
}

/// Capabilities that are good more often than not, in places that collide now and then.
fn any_cap() -> impl Strategy<Value = Cap> {
    (
        (3u8..10).prop_map(|at| at * 24),
        prop_oneof![30 => Just(9u8), 1 => any::<u8>()],
        prop_oneof![30 => Just(20u8), 1 => any::<u8>()],
        prop_oneof![30 => 1u8..5, 1 => any::<u8>()],
        prop_oneof![30 => 0u8..6, 1 => any::<u8>()],
        prop_oneof![30 => (0u32..0x70).prop_map(|n| n * 0x100), 1 => any::<u32>()],
        prop_oneof![30 => 56u32..0x800, 1 => 0u32..60, 1 => any::<u32>()],
        prop_oneof![30 => (1u32..32).prop_map(|n| 1 << n), 1 => 0u32..9, 1 => any::<u32>()],
    )
        .prop_map(
            |(at, id, len, cfg_type, bar, offset, length, multiplier)| Cap {
                at,
                id,
                len,
                cfg_type,
                bar,
                offset,
                length,
                multiplier,
            },
        )
}

fn check(layout: &Layout, bars: &[Option<Bar>; 6]) -> Result<(), TestCaseError> {
    let multiplier = layout.notify().multiplier();
    prop_assert!(multiplier == 0 || multiplier >= 2 && multiplier.count_ones() == 1);
    let mut windows = vec![(*layout.common(), 56, 4), (*layout.notify().window(), 2, 2)];
    windows.extend(layout.isr().map(|window| (*window, 1, 1)));
    windows.extend(layout.device().map(|window| (*window, 1, 4)));
    for (window, len, alignment) in &windows {
        let bar = bars[usize::from(window.bar())].unwrap();
        let end = u128::from(window.offset()) + u128::from(window.length());
        prop_assert!(end <= u128::from(bar.len));
        prop_assert_eq!(u128::from(window.end()), end);
        prop_assert!(window.length() >= *len);
        prop_assert_eq!(window.offset() % alignment, 0);
    }
    for (index, (one, ..)) in windows.iter().enumerate() {
        for (other, ..) in windows.iter().skip(index + 1) {
            prop_assert!(
                one.bar() != other.bar()
                    || one.end() <= u64::from(other.offset())
                    || other.end() <= u64::from(one.offset())
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_is_survived(
        mut config in proptest::collection::vec(any::<u8>(), 0..=256),
        bars in any_bars(),
    ) {
        // Almost never a layout, so this is about panics and endless walks.
        if let Some(status) = config.get_mut(6) {
            *status |= 0x10;
        }
        if let Ok(layout) = parse(&config, &bars) {
            check(&layout, &bars)?;
        }
    }

    #[test]
    fn a_good_function_with_wrong_bytes_is_refused_or_safe(
        changes in proptest::collection::vec((0x34usize..0x98, any::<u8>()), 0..4),
    ) {
        let mut config = space(&good());
        for (at, byte) in changes {
            config[at] = byte;
        }
        if let Ok(layout) = parse(&config, &BARS) {
            check(&layout, &BARS)?;
        }
    }
}

/// Random lists, of which enough must come out either way for the test to mean something.
#[test]
fn what_is_accepted_is_safe() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let lists = (
        proptest::collection::vec(any_cap(), 3..10),
        any_bars(),
        prop_oneof![4 => Just(256usize), 1 => 0usize..=256],
    );
    TestRunner::new(ProptestConfig {
        cases: 5000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
    .run(&lists, |(mut caps, bars, len)| {
        // Two of them in one place would make a loop of the list.
        caps.sort_by_key(|cap| cap.at);
        caps.dedup_by_key(|cap| cap.at);
        match parse(&space(&caps)[..len], &bars) {
            Ok(layout) => {
                accepted.set(accepted.get() + 1);
                check(&layout, &bars)?;
            }
            Err(_) => refused.set(refused.get() + 1),
        }
        Ok(())
    })
    .unwrap();
    let (accepted, refused) = (accepted.get(), refused.get());
    assert!(
        accepted > 200 && refused > 200,
        "{accepted} accepted, {refused} refused"
    );
}
