// SPDX-License-Identifier: GPL-2.0

//! Classes of devices, and what each needs.

use std::error::Error;
use std::fmt;

use anyhow::Result;
use vdpa_user::device::Device;

/// Nobody here knows a request that a device of this class would do.
#[derive(Debug)]
pub struct Undrivable;

impl fmt::Display for Undrivable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody here can drive a device of this class")
    }
}

impl Error for Undrivable {}

/// A class of devices, with a request that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Frames are sent (virtio 1.3, 5.1).
    Net,
    /// The first sector is read (virtio 1.3, 5.2).
    Block,
    /// Another one, that nobody here can drive.
    Other(u32),
}

impl Class {
    /// The class of a device.
    pub fn of(device: &Device) -> Result<Self> {
        Ok(match device.device_id()? {
            1 => Self::Net,
            2 => Self::Block,
            id => Self::Other(id),
        })
    }

    /// The queue that gets requests.
    pub fn worker(self) -> Option<u16> {
        match self {
            Self::Net => Some(1),
            Self::Block => Some(0),
            Self::Other(_) => None,
        }
    }

    /// Descriptors of a request.
    pub fn descriptors(self) -> usize {
        match self {
            Self::Block => 3,
            Self::Net | Self::Other(_) => 1,
        }
    }

    /// The number of queues without which the device is none of its class.
    pub fn least_queues(self) -> u16 {
        match self {
            Self::Net => 2,
            Self::Block | Self::Other(_) => 1,
        }
    }
}
