// SPDX-License-Identifier: GPL-2.0

//! The list: its links, its lengths, its end.

use super::*;

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
