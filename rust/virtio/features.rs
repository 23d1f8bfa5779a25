// SPDX-License-Identifier: GPL-2.0

//! Feature bits as a set type, with the names of the specification.
//!
//! Only the 64 low bits exist here: the vDPA bus carries no more (`get_device_features()` returns
//! a `u64`), so bits 64 and above of virtio 1.4 cannot be offered by any vDPA parent.

use core::fmt;

use crate::device_id::DeviceId;

/// A set of virtio feature bits (virtio 1.3, 2.2).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u64);

/// Declares named bits and the function that finds the name of a bit.
macro_rules! named_bits {
    ($lookup:ident; $($(#[$attr:meta])* $name:ident = $bit:literal;)*) => {
        $(
            $(#[$attr])*
            pub const $name: Features = Features::bit($bit);
        )*

        /// The name of bit number `bit` in this table.
        pub(crate) const fn $lookup(bit: u32) -> Option<&'static str> {
            match bit {
                $($bit => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

impl Features {
    named_bits! {
        transport_name;
        /// Legacy: interrupt when the ring runs empty even if suppressed.
        NOTIFY_ON_EMPTY = 24;
        /// Legacy: any framing of headers is fine. Implied by [`Self::VERSION_1`].
        ANY_LAYOUT = 27;
        /// Descriptors may refer to tables of descriptors.
        RING_INDIRECT_DESC = 28;
        /// Notifications are suppressed by index instead of by flag.
        RING_EVENT_IDX = 29;
        /// The device follows virtio 1.0 or later.
        VERSION_1 = 32;
        /// Device addresses are translated by the platform (IOMMU).
        ACCESS_PLATFORM = 33;
        /// Packed ring layout.
        RING_PACKED = 34;
        /// Buffers are used in the order in which they were made available.
        IN_ORDER = 35;
        /// Memory ordering between driver and device is the platform's, not that of SMP.
        ORDER_PLATFORM = 36;
        /// The PCI function is a physical function with SR-IOV.
        SR_IOV = 37;
        /// A notification carries the ring position besides the queue index.
        NOTIFICATION_DATA = 38;
        /// A notification carries a value that the device chose instead of the queue index.
        NOTIF_CONFIG_DATA = 39;
        /// Queues can be reset one by one.
        RING_RESET = 40;
        /// The device has administration queues.
        ADMIN_VQ = 41;
        /// The device can be suspended and resumed through its status (virtio 1.4).
        SUSPEND = 43;
    }

    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set whose members are the ones of `bits`, bit 0 being feature 0.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set as a mask, bit 0 being feature 0.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of the one bit number `n`, empty for 64 and above (see the module's comment).
    #[must_use]
    pub const fn bit(n: u32) -> Self {
        match 1u64.checked_shl(n) {
            Some(bits) => Self(bits),
            None => Self::EMPTY,
        }
    }

    /// True if every member of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if this set and `other` have a member in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The members of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members of both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members of this set that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True if no bit is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set for display, lowest bit first, by the names that bits have in devices of type
    /// `class`: `MQ VERSION_1 ACCESS_PLATFORM bit58`. A bit in no table is shown by its number, the
    /// empty set as `none`.
    #[must_use]
    pub const fn names(self, class: DeviceId) -> Names {
        Names {
            features: self,
            class,
        }
    }
}

impl core::ops::BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl core::ops::BitAnd for Features {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.intersection(other)
    }
}

impl core::ops::Sub for Features {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.difference(other)
    }
}

/// Feature bits of network devices (virtio 1.3, 5.1.3).
pub mod net {
    use super::Features;

    named_bits! {
        name;
        /// The device takes packets with a partial checksum.
        CSUM = 0;
        /// The driver takes packets with a partial checksum.
        GUEST_CSUM = 1;
        /// Offloads can be changed through the control queue.
        CTRL_GUEST_OFFLOADS = 2;
        /// The configuration has a maximum MTU.
        MTU = 3;
        /// The configuration has a MAC address.
        MAC = 5;
        /// Legacy: the device takes packets with any segmentation offload.
        GSO = 6;
        /// The driver takes TSOv4.
        GUEST_TSO4 = 7;
        /// The driver takes TSOv6.
        GUEST_TSO6 = 8;
        /// The driver takes TSO with ECN.
        GUEST_ECN = 9;
        /// The driver takes UFO.
        GUEST_UFO = 10;
        /// The device takes TSOv4.
        HOST_TSO4 = 11;
        /// The device takes TSOv6.
        HOST_TSO6 = 12;
        /// The device takes TSO with ECN.
        HOST_ECN = 13;
        /// The device takes UFO.
        HOST_UFO = 14;
        /// The driver can merge receive buffers.
        MRG_RXBUF = 15;
        /// The configuration has a link status.
        STATUS = 16;
        /// There is a control queue.
        CTRL_VQ = 17;
        /// The control queue takes receive modes.
        CTRL_RX = 18;
        /// The control queue takes VLAN filters.
        CTRL_VLAN = 19;
        /// The control queue takes more receive modes.
        CTRL_RX_EXTRA = 20;
        /// The driver can announce itself on the network.
        GUEST_ANNOUNCE = 21;
        /// There may be more than one pair of data queues.
        MQ = 22;
        /// The control queue takes a MAC address.
        CTRL_MAC_ADDR = 23;
        /// The control queue reports statistics.
        DEVICE_STATS = 50;
        /// Hashes of the inner headers of tunnels.
        HASH_TUNNEL = 51;
        /// Coalescing of notifications for each queue.
        VQ_NOTF_COAL = 52;
        /// Coalescing of notifications.
        NOTF_COAL = 53;
        /// The driver takes USOv4.
        GUEST_USO4 = 54;
        /// The driver takes USOv6.
        GUEST_USO6 = 55;
        /// The device takes USO.
        HOST_USO = 56;
        /// The device reports a hash for each packet.
        HASH_REPORT = 57;
        /// The driver gives the exact header length.
        GUEST_HDRLEN = 59;
        /// Receive-side scaling.
        RSS = 60;
        /// Details of coalesced segments.
        RSC_EXT = 61;
        /// The device stands by for another one with the same MAC address.
        STANDBY = 62;
        /// The configuration has speed and duplex.
        SPEED_DUPLEX = 63;
    }
}

/// Feature bits of block devices (virtio 1.3, 5.2.3).
pub mod blk {
    use super::Features;

    named_bits! {
        name;
        /// Legacy: request barriers.
        BARRIER = 0;
        /// The configuration has a maximum segment size.
        SIZE_MAX = 1;
        /// The configuration has a maximum number of segments.
        SEG_MAX = 2;
        /// The configuration has a geometry.
        GEOMETRY = 4;
        /// The device is read-only.
        RO = 5;
        /// The configuration has a block size.
        BLK_SIZE = 6;
        /// Legacy: SCSI commands pass through.
        SCSI = 7;
        /// There is a flush command.
        FLUSH = 9;
        /// The configuration has the optimal alignment.
        TOPOLOGY = 10;
        /// The cache mode can be changed.
        CONFIG_WCE = 11;
        /// There may be more than one queue.
        MQ = 12;
        /// There is a discard command.
        DISCARD = 13;
        /// There is a write zeroes command.
        WRITE_ZEROES = 14;
        /// The device reports its lifetime.
        LIFETIME = 15;
        /// There is a secure erase command.
        SECURE_ERASE = 16;
        /// The device has zones.
        ZONED = 17;
    }
}

/// A feature set for display; see [`Features::names`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Names {
    features: Features,
    class: DeviceId,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.features.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        for bit in 0..u64::BITS {
            if !self.features.intersects(Features::bit(bit)) {
                continue;
            }
            let class_name = match self.class {
                DeviceId::NET => net::name(bit),
                DeviceId::BLOCK => blk::name(bit),
                _ => None,
            };
            f.write_str(separator)?;
            separator = " ";
            match Features::transport_name(bit).or(class_name) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "bit{bit}")?,
            }
        }
        Ok(())
    }
}
