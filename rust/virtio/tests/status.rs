// SPDX-License-Identifier: GPL-2.0

//! Writes to the device status.

use virtio::status::transition;
use virtio::status::Status;
use virtio::status::StatusError;
use virtio::status::SuspendError;

const ACK: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const SUSPEND: u8 = 16;
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
    assert_eq!(Status::SUSPEND.bits(), SUSPEND);
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
    assert_eq!(show(0x1b), "ACKNOWLEDGE DRIVER FEATURES_OK SUSPEND");
    assert_eq!(show(0x21), "ACKNOWLEDGE 0x20");
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

/// A device that suspends itself (virtio 1.4, 3.4.2), in so many steps.
struct Device {
    status: u8,
    steps: u32,
    /// Fails instead of finishing.
    fails: bool,
}

impl Device {
    fn live() -> Self {
        Self {
            status: ACK | DRIVER | FEATURES_OK | DRIVER_OK,
            steps: 3,
            fails: false,
        }
    }

    /// A write to the register: what matters is which bit becomes set.
    fn write(&mut self, status: u8) {
        let set = status & !self.status;
        if status == 0 {
            self.status = 0;
        } else if self.status & FEATURES_OK != 0 {
            self.status |= set & (SUSPEND | DRIVER_OK);
            self.steps = 3;
        }
    }

    /// A read of the register; time passes.
    fn read(&mut self, last: u8) -> Status {
        let both = SUSPEND | DRIVER_OK;
        if self.status & both == both {
            self.steps -= 1;
            if self.steps == 0 {
                self.status = if self.fails {
                    self.status | NEEDS_RESET
                } else {
                    self.status & !last
                };
            }
        }
        Status::from_bits(self.status)
    }

    fn suspend(&mut self) -> (u32, Result<bool, SuspendError>) {
        self.write(self.status | SUSPEND);
        self.wait(DRIVER_OK, Status::has_suspended)
    }

    fn resume(&mut self) -> (u32, Result<bool, SuspendError>) {
        self.write(self.status | DRIVER_OK);
        self.wait(SUSPEND, Status::has_resumed)
    }

    fn wait(
        &mut self,
        last: u8,
        turned: fn(Status) -> Result<bool, SuspendError>,
    ) -> (u32, Result<bool, SuspendError>) {
        let results = (1..10).map(|reads| (reads, turned(self.read(last))));
        let mut results = results.skip_while(|(_, result)| *result == Ok(false));
        results.next().unwrap_or((10, Ok(false)))
    }
}

#[test]
fn a_device_suspends_itself_and_goes_on() {
    let mut device = Device::live();
    assert_eq!(device.suspend(), (3, Ok(true)));
    assert_eq!(device.status, ACK | DRIVER | FEATURES_OK | SUSPEND);
    // As often as one likes.
    assert_eq!(device.resume(), (3, Ok(true)));
    assert_eq!(device.status, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(device.suspend(), (3, Ok(true)));
}

#[test]
fn a_device_that_cannot_suspend_is_not_waited_for() {
    let mut device = Device {
        fails: true,
        ..Device::live()
    };
    let failed = Status::from_bits(ACK | DRIVER | FEATURES_OK | DRIVER_OK | SUSPEND | NEEDS_RESET);
    assert_eq!(device.suspend(), (3, Err(SuspendError::Failed(failed))));
    // One that was reset behind our back.
    let mut device = Device::live();
    device.write(0);
    assert_eq!(
        device.suspend(),
        (1, Err(SuspendError::Lost(Status::RESET)))
    );
    // One that does not know the bit.
    let mut device = Device::live();
    device.steps = u32::MAX;
    assert_eq!(
        device.wait(DRIVER_OK, Status::has_suspended),
        (10, Ok(false))
    );
}

#[test]
fn every_status_means_one_thing_while_a_device_suspends() {
    for bits in 0..=u8::MAX {
        let status = Status::from_bits(bits);
        let (suspended, resumed) = (status.has_suspended(), status.has_resumed());

        // Never both, and an error is one for both.
        assert!(suspended != Ok(true) || resumed != Ok(true), "{status}");
        assert_eq!(suspended.err(), resumed.err(), "{status}");
        let sound = bits != 0xff && bits & (NEEDS_RESET | FAILED) == 0 && bits & FEATURES_OK != 0;
        match bits & (SUSPEND | DRIVER_OK) {
            SUSPEND if sound => assert_eq!((suspended, resumed), (Ok(true), Ok(false))),
            DRIVER_OK if sound => assert_eq!((suspended, resumed), (Ok(false), Ok(true))),
            0 => assert!(suspended.is_err(), "{status}"),
            _ if sound => assert_eq!((suspended, resumed), (Ok(false), Ok(false))),
            _ => assert!(suspended.is_err(), "{status}"),
        }
    }
}

#[test]
fn a_consumer_cannot_suspend_by_the_status() {
    assert_eq!(
        write(15, 31),
        Err(StatusError::Unknown(Status::from_bits(SUSPEND)))
    );
}
