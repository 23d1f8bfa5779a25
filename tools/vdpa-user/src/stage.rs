// SPDX-License-Identifier: GPL-2.0

//! How far a device is brought up, on the way to DRIVER_OK.

use std::fmt;

use anyhow::Result;

use crate::device::{Device, feature, status};
use crate::ring;

/// The least a driver must accept.
pub const LEAST: u64 = feature::VERSION_1 | feature::ACCESS_PLATFORM;

/// How far a device is brought up that has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not at all.
    Owned,
    /// ACKNOWLEDGE and DRIVER are set.
    Acknowledged,
    /// FEATURES_OK is set.
    Negotiated,
    /// A virtqueue is described and enabled.
    Described,
    /// DRIVER_OK is set, and there is no virtqueue.
    Queueless,
    /// FAILED is set: the driver has given the device up.
    Failed,
}

impl Stage {
    /// All of them, in the order in which a device goes through them.
    pub const ALL: [Self; 6] = [
        Self::Owned,
        Self::Acknowledged,
        Self::Negotiated,
        Self::Described,
        Self::Queueless,
        Self::Failed,
    ];

    /// Brings a device so far that has been reset.
    pub fn bring(self, device: &Device) -> Result<()> {
        /// Descriptors of the virtqueue: no device takes fewer at most.
        const SIZE: u16 = 4;

        match self {
            Self::Owned => Ok(()),
            Self::Acknowledged => device.add_status(status::ACKNOWLEDGE | status::DRIVER),
            Self::Negotiated => device.negotiate(LEAST),
            Self::Described => {
                device.negotiate(LEAST)?;
                device.memory.clear()?;
                let ring = ring::new(&device.memory, SIZE, false, false)?;
                device.set_queue(0, SIZE, ring.areas(), 0)?;
                device.enable(0, true)
            }
            Self::Queueless => {
                device.negotiate(LEAST)?;
                device.add_status(status::DRIVER_OK)
            }
            Self::Failed => {
                device.negotiate(LEAST)?;
                device.add_status(status::FAILED)
            }
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owned => "owned",
            Self::Acknowledged => "acknowledged",
            Self::Negotiated => "negotiated",
            Self::Described => "described",
            Self::Queueless => "live without queues",
            Self::Failed => "given up",
        })
    }
}
