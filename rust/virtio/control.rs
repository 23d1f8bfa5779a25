// SPDX-License-Identifier: GPL-2.0

//! Commands of the control queue of a network device, as a driver sends them (virtio 1.3, 5.1.6.5).
//!
//! The driver is not trusted, so a command is parsed from a copy that it cannot reach, against the
//! [`Rules`] of the device. What passes is forwarded byte by byte; what does not is answered with
//! [`ERR`] and never seen by the device. Commands that this crate does not know are refused, and
//! with them the features in [`UNSUPPORTED`], which must not be offered.
//!
//! ```
//! use virtio::control::{Command, Effect, Rules};
//! use virtio::features::net;
//!
//! let rules = Rules {
//!     features: net::CTRL_VQ | net::MQ,
//!     pairs: 4,
//!     ..Rules::default()
//! };
//! let command = Command::parse(&[4, 0, 2, 0], &rules).unwrap();
//! assert_eq!(command.effect(), Effect::VqPairs(2));
//!
//! let refusal = Command::parse(&[4, 0, 5, 0], &rules).unwrap_err();
//! assert_eq!(refusal.to_string(), "MQ_VQ_PAIRS_SET of 5 is not between 1 and 4");
//! ```

pub use crate::opcode::Opcode;
pub use crate::refusal::Refusal;
pub use crate::rules::Limits;
pub use crate::rules::Rules;

use crate::features::net;
use crate::features::Features;
use crate::rules::Data;

/// Most bytes of a command, class and command included. Room for 681 MAC addresses or an indirection
/// table of 1024 entries; the specification has no limit, a host that copies commands needs one.
pub const MAX_COMMAND: usize = 4096;

/// Number of VLAN IDs.
pub const MAX_VLANS: u16 = 4096;

/// The device did what it was told.
pub const OK: u8 = 0;
/// The device did not do it, or the command was refused.
pub const ERR: u8 = 1;

/// Features whose commands are refused. They must not be offered: Linux does not bring up a device
/// that offers DEVICE_STATS and then refuses to say which it has.
pub const UNSUPPORTED: Features = net::DEVICE_STATS.union(net::HASH_TUNNEL);

/// What to tell the driver when the device `answer`ed this: anything but [`OK`] is [`ERR`].
#[must_use]
pub const fn ack(answer: u8) -> u8 {
    match answer {
        OK => OK,
        _ => ERR,
    }
}

/// Parameters of notification coalescing (virtio 1.3, 5.1.6.5.9).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Coal {
    /// Packets after which the driver is notified.
    pub max_packets: u32,
    /// Microseconds after which the driver is notified.
    pub max_usecs: u32,
}

impl Coal {
    pub(crate) const fn from_le_bytes(bytes: [u8; 8]) -> Self {
        let [p0, p1, p2, p3, u0, u1, u2, u3] = bytes;
        Self {
            max_packets: u32::from_le_bytes([p0, p1, p2, p3]),
            max_usecs: u32::from_le_bytes([u0, u1, u2, u3]),
        }
    }

    pub(crate) const fn to_le_bytes(self) -> [u8; 8] {
        let [p0, p1, p2, p3] = self.max_packets.to_le_bytes();
        let [u0, u1, u2, u3] = self.max_usecs.to_le_bytes();
        [p0, p1, p2, p3, u0, u1, u2, u3]
    }
}

/// What a command does to the device.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Switches the receive mode that the opcode names.
    Rx(bool),
    /// Replaces the tables of MAC addresses that pass the filter.
    MacTable,
    /// Sets the MAC address, which is that of one station.
    MacAddr([u8; 6]),
    /// Lets packets of a VLAN pass; the ID is below [`MAX_VLANS`].
    VlanAdd(u16),
    /// Lets packets of a VLAN pass no more; the ID is below [`MAX_VLANS`].
    VlanDel(u16),
    /// Says that the driver announced itself.
    AnnounceAck,
    /// Sets the number of queue pairs in use, at least 1 and no more than there are.
    VqPairs(u16),
    /// Configures receive-side scaling.
    Rss {
        /// Transmit queues in use, at least 1 and no more than there are pairs. The device uses as
        /// many pairs.
        max_tx_vq: u16,
    },
    /// Configures the hashes that are reported.
    Hash,
    /// Enables these offloads, all of them accepted features, and disables the others.
    Offloads(Features),
    /// Sets the parameters of all transmit queues.
    CoalTx(Coal),
    /// Sets the parameters of all receive queues.
    CoalRx(Coal),
    /// Sets the parameters of the data queue with this index.
    CoalVqSet(u16, Coal),
    /// Reads the parameters of the data queue with this index.
    CoalVqGet(u16),
}

/// A command that the rules allow.
///
/// Invariant: `bytes` are class, command and the data that they need, with nothing behind.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    bytes: &'a [u8],
    data: &'a [u8],
    opcode: Opcode,
    effect: Effect,
}

impl<'a> Command<'a> {
    /// Checks the command in `bytes`, which are all of the readable part of a chain, copied to where
    /// the driver cannot change them. It is enough to copy one byte more than [`MAX_COMMAND`].
    pub fn parse(bytes: &'a [u8], rules: &Rules) -> Result<Self, Refusal> {
        let len = bytes.len();
        if len > MAX_COMMAND {
            return Err(Refusal::TooLong(len));
        }
        let &[class, command, ref data @ ..] = bytes else {
            return Err(Refusal::NoHeader(len));
        };
        let opcode = Opcode::new(class, command).ok_or(Refusal::Unknown { class, command })?;
        let mut rest = Data::new(opcode, data);
        let effect = rules.check(&mut rest)?;
        rest.end()?;
        Ok(Self {
            bytes,
            data,
            opcode,
            effect,
        })
    }

    /// The bytes to forward to the device.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes behind class and command.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Which command it is.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// What it does.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// How many bytes the device writes before the acknowledgement. Parameters that NOTF_COAL_VQ_GET
    /// reads are part of its data, which precedes `ack`; a `command-specific-result`, which would
    /// follow it, only statistics have.
    #[must_use]
    pub const fn reply_len(&self) -> usize {
        match self.effect {
            Effect::CoalVqGet(_) => 8,
            _ => 0,
        }
    }
}
