// SPDX-License-Identifier: GPL-2.0

//! Device types.

use core::fmt;

/// PCI vendor of every virtio function (virtio 1.3, 4.1.2).
pub const PCI_VENDOR: u16 = 0x1af4;

/// A virtio device type (virtio 1.3, 5), not a PCI device ID.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(u32);

impl DeviceId {
    /// Network device.
    pub const NET: Self = Self(1);
    /// Block device.
    pub const BLOCK: Self = Self(2);
    /// Console.
    pub const CONSOLE: Self = Self(3);
    /// Entropy source.
    pub const RNG: Self = Self(4);
    /// Memory balloon.
    pub const BALLOON: Self = Self(5);
    /// SCSI host.
    pub const SCSI: Self = Self(8);
    /// 9P transport.
    pub const P9: Self = Self(9);
    /// GPU.
    pub const GPU: Self = Self(16);
    /// Input device.
    pub const INPUT: Self = Self(18);
    /// Socket device.
    pub const VSOCK: Self = Self(19);
    /// Crypto device.
    pub const CRYPTO: Self = Self(20);
    /// IOMMU.
    pub const IOMMU: Self = Self(23);
    /// Memory device.
    pub const MEM: Self = Self(24);
    /// Sound device.
    pub const SOUND: Self = Self(25);
    /// File system.
    pub const FS: Self = Self(26);
    /// Persistent memory.
    pub const PMEM: Self = Self(27);

    /// The device type with number `id`.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The number of the type, as `get_device_id()` of a vDPA parent returns it.
    #[must_use]
    pub const fn id(self) -> u32 {
        self.0
    }

    /// The device type of a PCI function, from its `vendor` and `device` ID and its `subsystem`
    /// device ID, or `None` if it is not a virtio function.
    ///
    /// Modern functions have device IDs from 0x1041, the type added to 0x1040; those of transitional
    /// ones are 0x1000 to 0x103f and the type is in the subsystem ID (virtio 1.3, 4.1.2). Type 0 is
    /// reserved and never returned: virtio-vdpa refuses to probe it.
    #[must_use]
    pub fn from_pci(vendor: u16, device: u16, subsystem: u16) -> Option<Self> {
        if vendor != PCI_VENDOR {
            return None;
        }
        let id = match device {
            0x1000..=0x103f => subsystem,
            0x1041..=0x107f => device.wrapping_sub(0x1040),
            _ => 0,
        };
        match id {
            0 => None,
            id => Some(Self(u32::from(id))),
        }
    }

    /// A short name as in the kernel's driver names, `unknown` for types without one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NET => "net",
            Self::BLOCK => "blk",
            Self::CONSOLE => "console",
            Self::RNG => "rng",
            Self::BALLOON => "balloon",
            Self::SCSI => "scsi",
            Self::P9 => "9p",
            Self::GPU => "gpu",
            Self::INPUT => "input",
            Self::VSOCK => "vsock",
            Self::CRYPTO => "crypto",
            Self::IOMMU => "iommu",
            Self::MEM => "mem",
            Self::SOUND => "sound",
            Self::FS => "fs",
            Self::PMEM => "pmem",
            _ => "unknown",
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown" => write!(f, "type {}", self.0),
            name => f.write_str(name),
        }
    }
}
