// SPDX-License-Identifier: GPL-2.0

//! The configuration of network devices (virtio 1.3, 5.1.4), and what provisioning changes in it.

use core::fmt;

use crate::features::net;
use crate::features::Features;

/// Offset of the MAC address, 6 bytes.
pub const MAC: usize = 0;
/// Offset of the link status, 16 bits.
pub const STATUS: usize = 6;
/// Offset of the number of queue pairs, 16 bits.
pub const MAX_VIRTQUEUE_PAIRS: usize = 8;
/// Offset of the MTU in bytes, 16 bits.
pub const MTU: usize = 10;
/// Offset of the longest RSS key in bytes, 8 bits.
pub const RSS_MAX_KEY_SIZE: usize = 17;
/// Offset of the longest RSS indirection table in entries, 16 bits.
pub const RSS_MAX_INDIRECTION_TABLE_LENGTH: usize = 18;
/// Offset of the supported hash types, 32 bits.
pub const SUPPORTED_HASH_TYPES: usize = 20;
/// Length in bytes of the configuration up to the hash types, which is what Linux calls
/// `struct virtio_net_config`.
pub const LEN: usize = 24;

/// The bit of the link status that says that the link is up.
pub const STATUS_LINK_UP: u16 = 1;

/// Least MTU that IPv4 and the vDPA core allow, in bytes.
pub const MIN_MTU: u16 = 68;

/// Most queue pairs of a device (virtio 1.3, 5.1.4.1).
pub const MAX_PAIRS: u16 = 0x8000;

/// The configuration fields that the parent shows instead of those of the function.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Provisioned number of queue pairs.
    pub max_virtqueue_pairs: Option<u16>,
    /// Provisioned MTU in bytes.
    pub mtu: Option<u16>,
    /// Provisioned MAC address.
    pub mac: Option<[u8; 6]>,
}

impl Overlay {
    /// Puts the fields over `out`, which holds the configuration from `offset` on. Fields that lie
    /// in `out` in part, or not at all, are treated so.
    pub fn apply(&self, offset: usize, out: &mut [u8]) {
        if let Some(pairs) = self.max_virtqueue_pairs {
            patch(offset, out, MAX_VIRTQUEUE_PAIRS, &pairs.to_le_bytes());
        }
        if let Some(mtu) = self.mtu {
            patch(offset, out, MTU, &mtu.to_le_bytes());
        }
        if let Some(mac) = self.mac {
            patch(offset, out, MAC, &mac);
        }
    }
}

/// Writes `value` to `field` of a configuration of which `out` is the part that starts at `offset`.
fn patch(offset: usize, out: &mut [u8], field: usize, value: &[u8]) {
    for (distance, byte) in value.iter().enumerate() {
        let target = field
            .checked_add(distance)
            .and_then(|position| position.checked_sub(offset))
            .and_then(|index| out.get_mut(index));
        if let Some(target) = target {
            *target = *byte;
        }
    }
}

/// A 16-bit field of `config`, which is the configuration from its start; `None` if it is too short.
#[must_use]
pub fn field(config: &[u8], offset: usize) -> Option<u16> {
    let bytes = config.get(offset..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

/// Why a number of the function or of a provisioning request was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The function reports a number of queue pairs that cannot be.
    HardwarePairs {
        /// What it reports.
        pairs: u16,
        /// How many queues it has, all kinds taken together.
        num_queues: u16,
    },
    /// The request asks for no queue pair or for more than there are.
    Pairs {
        /// Requested queue pairs.
        requested: u16,
        /// Queue pairs of the function.
        limit: u16,
    },
    /// The request has a MAC address that no station can have.
    Mac([u8; 6]),
    /// The request has an MTU and the function has none to show.
    NoMtu,
    /// The request asks for an MTU below the least or above that of the function.
    Mtu {
        /// Requested MTU in bytes.
        requested: u16,
        /// MTU of the function in bytes.
        limit: u16,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardwarePairs { pairs, num_queues } => write!(
                f,
                "function reports {pairs} queue pairs, impossible with its {num_queues} queues"
            ),
            Self::Pairs { requested, limit } => write!(
                f,
                "max_vqp {requested} is not between 1 and the function's {limit} queue pairs"
            ),
            Self::Mac([a, b, c, d, e, g]) => write!(
                f,
                "mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} is not the address of a station"
            ),
            Self::NoMtu => f.write_str("mtu cannot be set, the function does not offer MTU"),
            Self::Mtu { requested, limit } => write!(
                f,
                "mtu {requested} is not between {MIN_MTU} and the function's {limit}"
            ),
        }
    }
}

/// The queue pairs of a function with the features `device` and `num_queues` queues, whose
/// configuration has `max_virtqueue_pairs`.
///
/// Without MQ and RSS that field does not exist and there is one pair. A function that has a control
/// queue needs a queue for it behind the last pair.
pub fn hardware_pairs(
    device: Features,
    max_virtqueue_pairs: u16,
    num_queues: u16,
) -> Result<u16, NetError> {
    let multiqueue = device.intersects(net::MQ.union(net::RSS));
    let pairs = if multiqueue { max_virtqueue_pairs } else { 1 };
    let control = u32::from(device.contains(net::CTRL_VQ));
    // At most twice 65535 and one: never saturates.
    let queues = u32::from(pairs).saturating_mul(2).saturating_add(control);
    if pairs == 0 || pairs > MAX_PAIRS || queues > u32::from(num_queues) {
        return Err(NetError::HardwarePairs { pairs, num_queues });
    }
    Ok(pairs)
}

/// Checks a requested number of queue pairs against the `hardware` ones of the function.
pub const fn check_max_vqp(requested: u16, hardware: u16) -> Result<u16, NetError> {
    if requested == 0 || requested > hardware {
        return Err(NetError::Pairs {
            requested,
            limit: hardware,
        });
    }
    Ok(requested)
}

/// Checks a requested MAC address: that of one station (virtio 1.3, 5.1.6.5.2).
pub const fn check_mac(requested: [u8; 6]) -> Result<[u8; 6], NetError> {
    match requested {
        [0, 0, 0, 0, 0, 0] => Err(NetError::Mac(requested)),
        [first, ..] if first & 1 != 0 => Err(NetError::Mac(requested)),
        _ => Ok(requested),
    }
}

/// Returns the MAC address that a write of `buf` to the configuration at `offset` sets, if it sets
/// that field as a whole, to the address of a station.
#[must_use]
pub fn written_mac(offset: usize, buf: &[u8]) -> Option<[u8; 6]> {
    if offset != MAC {
        return None;
    }
    check_mac(*buf.first_chunk()?).ok()
}

/// Checks a requested MTU against the one in the configuration of the function, which is there only
/// if the function offers MTU (`has_mtu`). All in bytes.
pub const fn check_mtu(requested: u16, device_mtu: u16, has_mtu: bool) -> Result<u16, NetError> {
    if !has_mtu {
        return Err(NetError::NoMtu);
    }
    if requested < MIN_MTU || requested > device_mtu {
        return Err(NetError::Mtu {
            requested,
            limit: device_mtu,
        });
    }
    Ok(requested)
}
