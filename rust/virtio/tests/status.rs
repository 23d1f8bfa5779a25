// SPDX-License-Identifier: GPL-2.0

//! Writes to the device status.

use virtio::status::transition;
use virtio::status::Status;
use virtio::status::StatusError;

const ACK: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

fn write(old: u8, requested: u8) -> Result<(u8, bool, bool), StatusError> {
    transition(Status::from_bits(old), Status::from_bits(requested))
        .map(|t| (t.set.bits(), t.features_ok, t.driver_ok))
}

#[test]
fn the_bits_are_those_of_the_specification() {
    assert_eq!(Status::RESET.bits(), 0);
    assert_eq!(Status::ACKNOWLEDGE.bits(), ACK);
    assert_eq!(Status::DRIVER.bits(), DRIVER);
    assert_eq!(Status::DRIVER_OK.bits(), DRIVER_OK);
    assert_eq!(Status::FEATURES_OK.bits(), FEATURES_OK);
    assert_eq!(Status::NEEDS_RESET.bits(), NEEDS_RESET);
    assert_eq!(Status::FAILED.bits(), FAILED);
}

#[test]
fn a_driver_comes_up_step_by_step() {
    assert_eq!(write(0, 1), Ok((1, false, false)));
    assert_eq!(write(1, 3), Ok((2, false, false)));
    assert_eq!(write(3, 11), Ok((8, true, false)));
    assert_eq!(write(11, 15), Ok((4, false, true)));
    assert_eq!(write(15, 15), Ok((0, false, false)));
    assert_eq!(write(15, 143), Ok((128, false, false)));
}

#[test]
fn a_hasty_consumer_may_write_everything_at_once() {
    assert_eq!(write(0, 15), Ok((15, true, true)));
    assert_eq!(write(0, 12), Ok((12, true, true)));
    assert_eq!(write(0, 8), Ok((8, true, false)));
}

#[test]
fn the_device_may_set_needs_reset_between_read_and_write() {
    // The consumer read 15 before: it does not try to clear anything.
    assert_eq!(write(79, 15), Ok((0, false, false)));
    // The consumer read 79.
    assert_eq!(write(79, 79), Ok((0, false, false)));
    assert_eq!(write(79, 207), Ok((128, false, false)));
    assert_eq!(write(79, 143), Ok((128, false, false)));
}

#[test]
fn a_broken_device_does_not_come_up() {
    let broken = |bits| Err(StatusError::Broken(Status::from_bits(bits)));
    assert_eq!(write(64 | 11, 64 | 15), broken(64));
    assert_eq!(write(64 | 11, 15), broken(64));
    assert_eq!(write(128 | 11, 128 | 15), broken(128));
    assert_eq!(write(64 | 3, 64 | 11), broken(64));
    assert_eq!(write(11, 128 | 15), broken(128));
    assert_eq!(write(64 | 128 | 11, 64 | 128 | 15), broken(192));
}

#[test]
fn errors_say_what_is_wrong() {
    let text = |old, requested| write(old, requested).unwrap_err().to_string();
    assert_eq!(
        text(15, 11),
        "status write clears DRIVER_OK, which only a reset may do"
    );
    assert_eq!(
        text(15, 0),
        "status write clears ACKNOWLEDGE DRIVER FEATURES_OK DRIVER_OK, which only a reset may do"
    );
    assert_eq!(text(0, 0x31), "status write has unknown bits 0x30");
    assert_eq!(
        text(3, 67),
        "status write sets NEEDS_RESET, which only the device may do"
    );
    assert_eq!(
        text(3, 7),
        "status write sets DRIVER_OK without FEATURES_OK"
    );
    assert_eq!(
        text(75, 79),
        "device shows NEEDS_RESET and must be reset first"
    );
}

/// All 65536 pairs against the rules, spelled out one by one.
#[test]
fn every_write_in_every_status() {
    for old in 0..=255u8 {
        for requested in 0..=255u8 {
            let new = requested & !old;
            let starts = new & (FEATURES_OK | DRIVER_OK) != 0;
            let allowed = requested & 0x30 == 0
                && old & !requested & !NEEDS_RESET == 0
                && new & NEEDS_RESET == 0
                && !(starts && (old | requested) & (NEEDS_RESET | FAILED) != 0)
                && !(new & DRIVER_OK != 0 && requested & FEATURES_OK == 0);
            let result = write(old, requested);
            assert_eq!(result.is_ok(), allowed, "{old:#x} to {requested:#x}");
            if let Ok((set, features_ok, driver_ok)) = result {
                assert_eq!(set, new);
                assert_eq!(features_ok, new & FEATURES_OK != 0);
                assert_eq!(driver_ok, new & DRIVER_OK != 0);
            }
        }
    }
}

#[test]
fn a_status_is_shown_by_names() {
    let show = |bits| Status::from_bits(bits).to_string();
    assert_eq!(show(0), "RESET");
    assert_eq!(show(0xff), "GONE");
    assert_eq!(show(15), "ACKNOWLEDGE DRIVER FEATURES_OK DRIVER_OK");
    assert_eq!(show(0x40 | 0x80), "NEEDS_RESET FAILED");
    assert_eq!(show(0x11), "ACKNOWLEDGE 0x10");
    assert_eq!(show(0x20), "0x20");
}

#[test]
fn only_all_ones_is_gone() {
    for bits in 0..=255u8 {
        assert_eq!(Status::from_bits(bits).is_gone(), bits == 0xff);
        assert_eq!(Status::from_bits(bits).is_reset(), bits == 0);
    }
}

#[test]
fn sets_of_bits() {
    let (a, b) = (Status::from_bits(0x0b), Status::from_bits(0x46));
    assert_eq!(a.union(b).bits(), 0x4f);
    assert_eq!(a.difference(b).bits(), 0x09);
    assert!(a.contains(Status::ACKNOWLEDGE.union(Status::DRIVER)));
    assert!(!a.contains(b) && a.intersects(b));
    assert!(!a.intersects(Status::FAILED));
}
