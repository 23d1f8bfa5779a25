// SPDX-License-Identifier: GPL-2.0

//! Who takes a vDPA device: the kernel itself, or a process.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A driver of the vDPA bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// virtio-vdpa: an interface or a disk of this kernel, for containers
    Virtio,
    /// vhost-vdpa: a character device, for QEMU and DPDK
    Vhost,
}

impl Bus {
    /// Its name on the bus, which is that of its module, too.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Virtio => "virtio_vdpa",
            Self::Vhost => "vhost_vdpa",
        }
    }

    /// The one with the name `driver` on the bus.
    pub fn of_driver(driver: &str) -> Option<Self> {
        [Self::Virtio, Self::Vhost]
            .into_iter()
            .find(|bus| bus.driver() == driver)
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtio => "virtio",
            Self::Vhost => "vhost",
        })
    }
}
