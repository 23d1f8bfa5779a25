// SPDX-License-Identifier: GPL-2.0

//! The device status and the writes to it that make sense (virtio 1.3, 2.1 and 3.1; virtio 1.4, 3.4).

use core::fmt;

/// A value of the device status register.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(u8);

impl Status {
    /// The device was reset and nobody has claimed it.
    pub const RESET: Self = Self(0);
    /// The driver has seen the device.
    pub const ACKNOWLEDGE: Self = Self(1);
    /// The driver knows how to drive the device.
    pub const DRIVER: Self = Self(2);
    /// The driver is ready and the device is live.
    pub const DRIVER_OK: Self = Self(4);
    /// The features are negotiated.
    pub const FEATURES_OK: Self = Self(8);
    /// The device is told to suspend itself; once `DRIVER_OK` is clear, it has.
    pub const SUSPEND: Self = Self(16);
    /// The device met an error that only a reset heals. Set by the device alone.
    pub const NEEDS_RESET: Self = Self(64);
    /// The driver, or the parent for it, gave up on the device.
    pub const FAILED: Self = Self(128);

    /// All bits that mean something to the consumer of a vDPA device.
    const KNOWN: Self = Self(1 | 2 | 4 | 8 | 64 | 128);

    /// The status with the register value `bits`.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The register value.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// True if every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if a bit of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True if no bit is set.
    #[must_use]
    pub const fn is_reset(self) -> bool {
        self.0 == 0
    }

    /// True if the register reads as all ones, which is what the bus returns for a device that is
    /// no longer there. No live device shows this value: bit 5 is not assigned.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        self.0 == 0xff
    }

    /// Whether the device, which was told to suspend itself, has done so and uses its virtqueues no
    /// more (virtio 1.4, 3.4.1).
    pub const fn has_suspended(self) -> Result<bool, SuspendError> {
        self.has_turned(Self::SUSPEND, Self::DRIVER_OK)
    }

    /// Whether the device, which had suspended itself and was told to resume, has done so (virtio
    /// 1.4, 3.4.1).
    pub const fn has_resumed(self) -> Result<bool, SuspendError> {
        self.has_turned(Self::DRIVER_OK, Self::SUSPEND)
    }

    /// Whether the bit `set` has taken the place of the bit `clear`. In between both are set.
    const fn has_turned(self, set: Self, clear: Self) -> Result<bool, SuspendError> {
        if self.is_gone() {
            return Err(SuspendError::Gone);
        }
        if self.intersects(Self::NEEDS_RESET.union(Self::FAILED)) {
            return Err(SuspendError::Failed(self));
        }
        if !self.contains(Self::FEATURES_OK) || !self.intersects(set.union(clear)) {
            return Err(SuspendError::Lost(self));
        }
        Ok(self.contains(set) && !self.intersects(clear))
    }
}

/// Why a device that was told to suspend itself, or to resume, will not.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SuspendError {
    /// It is no longer there.
    Gone,
    /// It says that it cannot: only a reset heals that.
    Failed(Status),
    /// It is not in a state from which it could: it was reset meanwhile, or makes no sense.
    Lost(Status),
}

impl fmt::Display for SuspendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it cannot be reached"),
            Self::Failed(status) => write!(f, "it has failed, its status is {status}"),
            Self::Lost(status) => write!(f, "it has forgotten its state, its status is {status}"),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Status, &str); 7] = [
            (Status::ACKNOWLEDGE, "ACKNOWLEDGE"),
            (Status::DRIVER, "DRIVER"),
            (Status::FEATURES_OK, "FEATURES_OK"),
            (Status::DRIVER_OK, "DRIVER_OK"),
            (Status::SUSPEND, "SUSPEND"),
            (Status::NEEDS_RESET, "NEEDS_RESET"),
            (Status::FAILED, "FAILED"),
        ];

        if self.is_reset() {
            return f.write_str("RESET");
        }
        if self.is_gone() {
            return f.write_str("GONE");
        }
        let mut separator = "";
        for (_, name) in NAMES.iter().filter(|(bit, _)| self.contains(*bit)) {
            f.write_str(separator)?;
            f.write_str(name)?;
            separator = " ";
        }
        let unknown = self.difference(Self::KNOWN.union(Self::SUSPEND));
        if !unknown.is_reset() {
            write!(f, "{separator}{:#04x}", unknown.0)?;
        }
        Ok(())
    }
}

/// What an allowed write to the status changes; see [`transition`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The bits that become set; none if the write repeats the present value.
    pub set: Status,
    /// FEATURES_OK becomes set: negotiate with the device now, before anything else.
    pub features_ok: bool,
    /// DRIVER_OK becomes set: start the device, after FEATURES_OK if both are new.
    pub driver_ok: bool,
}

/// Why a write to the status was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StatusError {
    /// The write would clear these bits, which only a reset does.
    Cleared(Status),
    /// The write has these bits, which mean nothing.
    Unknown(Status),
    /// The write would set NEEDS_RESET, which only the device does.
    NeedsReset,
    /// The write would set FEATURES_OK or DRIVER_OK while these bits say that a reset is due.
    Broken(Status),
    /// The write would set DRIVER_OK without FEATURES_OK.
    FeaturesNotOk,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleared(bits) => {
                write!(f, "status write clears {bits}, which only a reset may do")
            }
            Self::Unknown(bits) => write!(f, "status write has unknown bits {:#04x}", bits.0),
            Self::NeedsReset => {
                f.write_str("status write sets NEEDS_RESET, which only the device may do")
            }
            Self::Broken(bits) => write!(f, "device shows {bits} and must be reset first"),
            Self::FeaturesNotOk => f.write_str("status write sets DRIVER_OK without FEATURES_OK"),
        }
    }
}

/// Checks a write of the value `requested` while the status is `old`.
///
/// Consumers write the whole status with bits added, and are not all equally exact, so this is as
/// lenient as is safe: bits may come in one write or in several, and ACKNOWLEDGE and DRIVER are not
/// demanded. The device can set NEEDS_RESET between a consumer's read and its write, so its absence
/// from `requested` is no attempt to clear it. A write of 0 is a reset and takes another path; here
/// it is an error, unless the status is 0 already.
pub fn transition(old: Status, requested: Status) -> Result<Transition, StatusError> {
    let unknown = requested.difference(Status::KNOWN);
    if !unknown.is_reset() {
        return Err(StatusError::Unknown(unknown));
    }
    let cleared = old.difference(requested).difference(Status::NEEDS_RESET);
    if !cleared.is_reset() {
        return Err(StatusError::Cleared(cleared));
    }
    let set = requested.difference(old);
    if set.contains(Status::NEEDS_RESET) {
        return Err(StatusError::NeedsReset);
    }
    let features_ok = set.contains(Status::FEATURES_OK);
    let driver_ok = set.contains(Status::DRIVER_OK);
    let broken = Status::FAILED.union(Status::NEEDS_RESET);
    let shown = old.union(set);
    if (features_ok || driver_ok) && shown.intersects(broken) {
        let healthy = Status::KNOWN.difference(broken);
        return Err(StatusError::Broken(shown.difference(healthy)));
    }
    if driver_ok && !requested.contains(Status::FEATURES_OK) {
        return Err(StatusError::FeaturesNotOk);
    }
    Ok(Transition {
        set,
        features_ok,
        driver_ok,
    })
}
