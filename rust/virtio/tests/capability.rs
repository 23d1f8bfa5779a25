// SPDX-License-Identifier: GPL-2.0

//! Capability lists, honest and hostile.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use virtio::capability::parse;
use virtio::capability::Bar;
use virtio::capability::CapabilityError;
use virtio::capability::Kind;
use virtio::capability::Layout;
use virtio::capability::Window;

const BARS: [Option<Bar>; 6] = [
    None,
    None,
    None,
    None,
    Some(Bar { len: 0x8000 }),
    Some(Bar { len: 1 << 33 }),
];

/// A capability as a device would have it.
#[derive(Copy, Clone, Debug)]
struct Cap {
    at: u8,
    id: u8,
    len: u8,
    cfg_type: u8,
    bar: u8,
    offset: u32,
    length: u32,
    multiplier: u32,
}

fn cap(at: u8, cfg_type: u8, offset: u32, length: u32) -> Cap {
    Cap {
        at,
        id: 9,
        len: if cfg_type == 2 { 20 } else { 16 },
        cfg_type,
        bar: 4,
        offset,
        length,
        multiplier: 4,
    }
}

/// The function that QEMU makes.
fn good() -> Vec<Cap> {
    vec![
        cap(0x40, 1, 0x0000, 0x1000),
        cap(0x50, 3, 0x1000, 0x1000),
        cap(0x60, 4, 0x2000, 0x1000),
        cap(0x70, 2, 0x3000, 0x1000),
        // Access through the configuration space: not ours.
        cap(0x84, 5, 0, 0),
    ]
}

fn space(caps: &[Cap]) -> Vec<u8> {
    let mut config = vec![0u8; 256];
    config[0x06] = 0x10;
    config[0x34] = caps.first().map_or(0, |cap| cap.at);
    for (index, cap) in caps.iter().enumerate() {
        let next = caps.get(index + 1).map_or(0, |cap| cap.at);
        let mut bytes = vec![cap.id, next, cap.len, cap.cfg_type, cap.bar, 0, 0, 0];
        bytes.extend(cap.offset.to_le_bytes());
        bytes.extend(cap.length.to_le_bytes());
        if cap.cfg_type == 2 {
            bytes.extend(cap.multiplier.to_le_bytes());
        }
        let at = usize::from(cap.at);
        let end = (at + bytes.len()).min(config.len());
        config[at..end].copy_from_slice(&bytes[..end - at]);
    }
    config
}

fn parse_caps(caps: &[Cap]) -> Result<Layout, CapabilityError> {
    parse(&space(caps), &BARS)
}

/// `good` with one change to the capability number `index`.
fn with(index: usize, change: impl FnOnce(&mut Cap)) -> Result<Layout, CapabilityError> {
    let mut caps = good();
    change(&mut caps[index]);
    parse_caps(&caps)
}

fn place(window: &Window) -> (u8, u32, u32) {
    (window.bar(), window.offset(), window.length())
}

#[test]
fn an_honest_function_is_understood() {
    let layout = parse_caps(&good()).unwrap();
    assert_eq!(place(layout.common()), (4, 0, 0x1000));
    assert_eq!(place(layout.isr().unwrap()), (4, 0x1000, 0x1000));
    assert_eq!(place(layout.device().unwrap()), (4, 0x2000, 0x1000));
    assert_eq!(place(layout.notify().window()), (4, 0x3000, 0x1000));
    assert_eq!(layout.notify().multiplier(), 4);
}

#[test]
fn interrupt_status_and_device_configuration_are_optional() {
    let caps: Vec<Cap> = good()
        .into_iter()
        .filter(|cap| matches!(cap.cfg_type, 1 | 2))
        .collect();
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.isr(), None);
    assert_eq!(layout.device(), None);

    // So they are with a length of 0, and the interrupt status in I/O ports.
    let layout = with(2, |cap| cap.length = 0).unwrap();
    assert_eq!(layout.device(), None);
    let layout = with(1, |cap| cap.bar = 0).unwrap();
    assert_eq!(layout.isr(), None);
    // But a device configuration that cannot be reached is not "no configuration".
    assert_eq!(
        with(2, |cap| cap.bar = 0),
        Err(CapabilityError::NoBar {
            kind: Kind::Device,
            bar: 0
        })
    );
}

#[test]
fn the_rest_is_not() {
    for (cfg_type, text) in [
        (1, "function has no common configuration capability"),
        (2, "function has no notification capability"),
    ] {
        let caps: Vec<Cap> = good()
            .into_iter()
            .filter(|cap| cap.cfg_type != cfg_type)
            .collect();
        assert_eq!(parse_caps(&caps).unwrap_err().to_string(), text);
    }
}

#[test]
fn the_first_good_capability_of_a_kind_wins() {
    let mut caps = good();
    caps.push(cap(0xa0, 1, 0x7000, 0x100));
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.common().offset(), 0);

    // I/O ports first, as legacy drivers like it, then memory.
    caps[0].bar = 0;
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.common().offset(), 0x7000);

    // Nothing good: the first error is told.
    caps[5].length = 8;
    assert_eq!(
        parse_caps(&caps).unwrap_err().to_string(),
        "common configuration window is in BAR 0, which is not a memory BAR"
    );
}

#[test]
fn capabilities_that_are_not_ours_are_ignored() {
    let mut caps = good();
    caps[4].cfg_type = 200;
    assert!(parse_caps(&caps).is_ok());
    // MSI-X with the bytes of a second common configuration.
    let mut msix = cap(0xa0, 1, 0, 1);
    msix.id = 0x11;
    caps.insert(0, msix);
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.common().length(), 0x1000);
}

#[test]
fn windows_must_lie_in_their_bar() {
    assert_eq!(
        with(0, |cap| cap.offset = 0x7004).unwrap_err().to_string(),
        "common configuration window ends at 0x8004 outside BAR 4 of 0x8000 bytes"
    );
    assert!(with(0, |cap| cap.offset = 0x7000).is_ok());
    // The end does not fit in 32 bits.
    assert_eq!(
        with(3, |cap| {
            cap.offset = 0xffff_fffe;
            cap.length = 0xffff_ffff;
        }),
        Err(CapabilityError::Outside {
            kind: Kind::Notify,
            bar: 4,
            end: 0x1_ffff_fffd,
            bar_len: 0x8000
        })
    );
    // It does in a BAR that is large enough.
    assert!(with(3, |cap| {
        cap.bar = 5;
        cap.offset = 0xffff_fffe;
        cap.length = 0xffff_ffff;
    })
    .is_ok());
    for bar in [0, 6, 7, 255] {
        assert_eq!(
            with(3, |cap| cap.bar = bar),
            Err(CapabilityError::NoBar {
                kind: Kind::Notify,
                bar
            })
        );
    }
}

#[test]
fn windows_have_a_least_length() {
    assert!(with(0, |cap| cap.length = 56).is_ok());
    assert_eq!(
        with(0, |cap| cap.length = 55).unwrap_err().to_string(),
        "common configuration window has 55 bytes, needs at least 56"
    );
    assert!(with(3, |cap| cap.length = 2).is_ok());
    assert_eq!(
        with(3, |cap| cap.length = 1),
        Err(CapabilityError::Short {
            kind: Kind::Notify,
            length: 1
        })
    );
    assert!(with(1, |cap| cap.length = 1).is_ok());
}

#[test]
fn windows_are_aligned() {
    for (index, kind, aligned, not) in [
        (0, Kind::Common, 0x7004, 0x7002),
        (2, Kind::Device, 0x7004, 0x7002),
        (3, Kind::Notify, 0x7002, 0x7001),
    ] {
        let shift = |offset| {
            with(index, |cap| {
                cap.offset = offset;
                cap.length = 0x100;
            })
        };
        assert!(shift(aligned).is_ok());
        assert_eq!(
            shift(not),
            Err(CapabilityError::Misaligned { kind, offset: not })
        );
    }
    assert!(with(1, |cap| {
        cap.offset = 0x7001;
        cap.length = 1;
    })
    .is_ok());
    assert_eq!(
        with(0, |cap| {
            cap.offset = 0x7002;
            cap.length = 0x100;
        })
        .unwrap_err()
        .to_string(),
        "common configuration window at 0x7002 is not aligned to 4 bytes"
    );
}

#[test]
fn multipliers_are_0_or_even_powers_of_two() {
    for shift in 1..32 {
        assert!(with(3, |cap| cap.multiplier = 1 << shift).is_ok());
    }
    assert!(with(3, |cap| cap.multiplier = 0).is_ok());
    for multiplier in [1, 3, 6, 0x1002, u32::MAX] {
        assert_eq!(
            with(3, |cap| cap.multiplier = multiplier),
            Err(CapabilityError::Multiplier(multiplier))
        );
    }
    assert_eq!(
        with(3, |cap| cap.multiplier = 6).unwrap_err().to_string(),
        "notification multiplier 6 is neither 0 nor a power of two from 2"
    );
}

#[test]
fn no_two_windows_overlap() {
    let kinds = [Kind::Common, Kind::Isr, Kind::Device, Kind::Notify];
    for (one, kind) in kinds.iter().enumerate() {
        for (other, other_kind) in kinds.iter().enumerate().skip(one + 1) {
            let caps = good();
            // The last 4 bytes of one, then just behind them.
            let offset = caps[one].offset + caps[one].length - 4;
            let error = with(other, |cap| {
                cap.offset = offset;
                cap.length = 0x100;
            })
            .unwrap_err();
            let CapabilityError::Overlap(a, b) = error else {
                panic!("{error}");
            };
            assert!([(a, b), (b, a)].contains(&(*kind, *other_kind)), "{error}");
        }
    }
    assert_eq!(
        with(3, |cap| cap.offset = 0xffe).unwrap_err().to_string(),
        "common configuration window overlaps the notification window"
    );
    // In another BAR it is another place.
    assert!(with(3, |cap| {
        cap.offset = 0;
        cap.bar = 5;
    })
    .is_ok());
}

#[test]
fn capabilities_have_a_least_length() {
    for (index, kind, least) in [
        (0, Kind::Common, 16),
        (1, Kind::Isr, 16),
        (2, Kind::Device, 16),
        (3, Kind::Notify, 20),
    ] {
        let at = good()[index].at;
        assert!(with(index, |cap| cap.len = least + 4).is_ok());
        for len in [0, 4, least - 1] {
            assert_eq!(
                with(index, |cap| cap.len = len),
                Err(CapabilityError::Truncated { kind, at, len })
            );
        }
    }
    // Up to the last byte of the configuration space, and one more.
    assert!(with(3, |cap| cap.at = 0xec).is_ok());
    assert!(with(3, |cap| {
        cap.at = 0xec;
        cap.len = 21;
    })
    .is_err());
    // Longer than the configuration space.
    assert_eq!(
        with(0, |cap| cap.len = 0xc4).unwrap_err().to_string(),
        "common configuration capability at 0x40 has an impossible length of 196 bytes"
    );
}

#[test]
fn the_list_must_be_one() {
    let mut config = space(&good());
    config[0x06] = 0;
    assert_eq!(parse(&config, &BARS), Err(CapabilityError::NoList));
    config[0x06] = 0x10;
    assert!(parse(&config, &BARS).is_ok());

    // Back to itself.
    config[0x85] = 0x40;
    assert_eq!(parse(&config, &BARS), Err(CapabilityError::Loop));
    config[0x85] = 0x84;
    assert_eq!(
        parse(&config, &BARS).unwrap_err().to_string(),
        "capability list does not end"
    );
    // Into the header.
    config[0x85] = 0x3c;
    assert_eq!(
        parse(&config, &BARS).unwrap_err().to_string(),
        "capability list points to 0x3c, where no capability can be"
    );
    // The two low bits do not count.
    config[0x85] = 0x03;
    config[0x34] = 0x42;
    assert!(parse(&config, &BARS).is_ok());
}

#[test]
fn a_long_list_is_walked_to_its_end() {
    // 48 capabilities, which is as many as fit; the two that matter are scattered among those that
    // do not, in a space where they may lie on top of each other.
    let mut config = vec![0u8; 256];
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    for at in (0x40..0x100).step_by(4) {
        config[at] = 1;
        config[at + 1] = if at == 0xfc { 0 } else { at as u8 + 4 };
    }
    assert_eq!(
        parse(&config, &BARS),
        Err(CapabilityError::Missing(Kind::Common))
    );
}

#[test]
fn a_short_snapshot_is_no_accident() {
    let config = space(&good());
    for len in 0..=config.len() {
        let result = parse(&config[..len], &BARS);
        // The last capability that is needed lies from 0x70 to 0x84, the one behind it is looked at.
        assert_eq!(result.is_ok(), len >= 0x88, "{len} bytes: {result:?}");
    }
}

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
