// SPDX-License-Identifier: GPL-2.0

//! Windows: where they may be, and which of them there must be.

use super::*;

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
