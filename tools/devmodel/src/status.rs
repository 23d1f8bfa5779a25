// SPDX-License-Identifier: GPL-2.0

//! The device status: what a write to it makes of it (virtio 1.4, 2.1 and 3.4).

use crate::misbehaviour::{Behaviour, Misbehaviour};

/// The driver is ready and the device is live.
pub const DRIVER_OK: u8 = 4;
/// The features are negotiated.
pub const FEATURES_OK: u8 = 8;
/// The device is to suspend itself, or has.
pub const SUSPEND: u8 = 16;
/// Only a reset helps.
pub const NEEDS_RESET: u8 = 64;
/// Bits that a driver may set.
const DRIVERS: u8 = 1 | 2 | DRIVER_OK | FEATURES_OK | 128;

/// What the device knows when the status is written.
pub struct Terms {
    /// It works with the features that the driver has accepted.
    pub acceptable: bool,
    /// SUSPEND is among them.
    pub suspendable: bool,
}

/// What the status is after `value` was written, which is not 0.
pub fn written(old: u8, value: u8, terms: &Terms, behaviour: &Behaviour) -> u8 {
    if old & SUSPEND != 0 {
        let resumes = value & DRIVER_OK != 0 && !behaviour.does(Misbehaviour::NeverResume);
        return if resumes {
            old & !SUSPEND | DRIVER_OK
        } else {
            old
        };
    }
    let mut new = old | value & DRIVERS;
    let refuses = !terms.acceptable || behaviour.does(Misbehaviour::RefuseFeaturesOk);
    if old & FEATURES_OK == 0 && refuses {
        new &= !FEATURES_OK;
    }
    if new & FEATURES_OK == 0
        || old & DRIVER_OK == 0 && behaviour.does(Misbehaviour::RefuseDriverOk)
    {
        new &= !DRIVER_OK;
    }
    if value & SUSPEND != 0 && new & DRIVER_OK != 0 && terms.suspendable {
        if behaviour.does(Misbehaviour::FailSuspend) {
            new |= NEEDS_RESET;
        } else if !behaviour.does(Misbehaviour::NeverSuspend) {
            new = new & !DRIVER_OK | SUSPEND;
        }
    }
    let doom = behaviour.argument(Misbehaviour::NeedsResetAt).unwrap_or(0);
    if u64::from(new & !old) & doom != 0 {
        new |= NEEDS_RESET;
    }
    new
}

/// Whether a device with this status works on its queues.
pub fn works(status: u8) -> bool {
    status & DRIVER_OK != 0 && status & (SUSPEND | NEEDS_RESET) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Terms = Terms {
        acceptable: true,
        suspendable: true,
    };
    const LIVE: u8 = 1 | 2 | FEATURES_OK | DRIVER_OK;

    fn behaving(words: &[&str]) -> Behaviour {
        let mut behaviour = Behaviour::default();
        if !words.is_empty() {
            behaviour.take_up(words).unwrap();
        }
        behaviour
    }

    #[test]
    fn a_device_starts_step_by_step() {
        let good = behaving(&[]);
        let mut status = 0;
        for value in [1, 3, 11, 15] {
            status = written(status, value, &FINE, &good);
            assert_eq!(status, value);
        }
        assert!(works(status));
        let terms = Terms {
            acceptable: false,
            suspendable: false,
        };
        assert_eq!(written(3, 11, &terms, &good), 3);
        assert_eq!(written(3, 15, &terms, &good), 3);
    }

    #[test]
    fn it_suspends_and_resumes() {
        let good = behaving(&[]);
        let suspended = written(LIVE, LIVE | SUSPEND, &FINE, &good);
        assert_eq!(suspended, LIVE & !DRIVER_OK | SUSPEND);
        assert!(!works(suspended));
        assert_eq!(written(suspended, suspended, &FINE, &good), suspended);
        assert_eq!(
            written(suspended, suspended | DRIVER_OK, &FINE, &good),
            LIVE
        );
        let terms = Terms {
            acceptable: true,
            suspendable: false,
        };
        assert_eq!(written(LIVE, LIVE | SUSPEND, &terms, &good), LIVE);
    }

    #[test]
    fn it_needs_a_reset_at_any_step() {
        let doomed = behaving(&["needs-reset-at", "8"]);
        assert_eq!(written(1, 3, &FINE, &doomed), 3);
        assert_eq!(written(3, 11, &FINE, &doomed), 11 | NEEDS_RESET);
        let later = written(11 | NEEDS_RESET, 15, &FINE, &doomed);
        assert_eq!(later, LIVE | NEEDS_RESET);
        assert!(!works(later));
    }

    #[test]
    fn it_can_refuse() {
        let write = |how: &str, old, value| written(old, value, &FINE, &behaving(&[how]));
        assert_eq!(write("refuse-features-ok", 3, 11), 3);
        assert_eq!(write("refuse-driver-ok", 11, 15), 11);
        assert_eq!(write("never-suspend", LIVE, LIVE | SUSPEND), LIVE);
        assert_eq!(
            write("fail-suspend", LIVE, LIVE | SUSPEND),
            LIVE | NEEDS_RESET
        );
        let suspended = LIVE & !DRIVER_OK | SUSPEND;
        assert_eq!(
            write("never-resume", suspended, suspended | DRIVER_OK),
            suspended
        );
    }
}
