// SPDX-License-Identifier: GPL-2.0

//! Why a command of a control queue was refused.

use core::fmt;

use crate::control::MAX_COMMAND;
use crate::control::MAX_VLANS;
use crate::device_id::DeviceId;
use crate::features::Features;
use crate::opcode::Opcode;

/// Why a command was refused. Its sender is told no more than `VIRTIO_NET_ERR`; this is for the log
/// of the host, whose rate must be limited, since a guest can send such commands without end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The command has more than [`MAX_COMMAND`] bytes.
    TooLong(usize),
    /// The command has fewer bytes than class and command take, this many.
    NoHeader(usize),
    /// No such command is known.
    Unknown {
        /// Its class.
        class: u8,
        /// Its number in the class.
        command: u8,
    },
    /// The command needs features that were not accepted.
    Feature {
        /// The command.
        opcode: Opcode,
        /// The features that it lacks.
        missing: Features,
    },
    /// The data is too short or too long for the command, or for what the data says of itself.
    Len {
        /// The command.
        opcode: Opcode,
        /// Bytes of data, class and command not counted.
        len: usize,
    },
    /// A receive mode is neither 0 (off) nor 1 (on).
    Mode {
        /// The command.
        opcode: Opcode,
        /// Its data.
        mode: u8,
    },
    /// The MAC address is zero or that of a group.
    MacAddress([u8; 6]),
    /// The MAC address is not the one that the administrator set.
    MacFixed {
        /// The address in the command.
        requested: [u8; 6],
        /// The address that the administrator set.
        fixed: [u8; 6],
    },
    /// The VLAN has a number that no VLAN has.
    Vlan(u16),
    /// A number of queue pairs, or of transmit queues, is 0 or more than there are.
    Pairs {
        /// The command.
        opcode: Opcode,
        /// The number in the command.
        requested: u16,
        /// Queue pairs of the device.
        limit: u16,
    },
    /// The hash types are not all supported.
    HashTypes {
        /// The command.
        opcode: Opcode,
        /// The types that are not.
        types: u32,
    },
    /// The hash key is longer than the device takes.
    Key {
        /// The command.
        opcode: Opcode,
        /// Its length in bytes.
        len: u8,
        /// Length in bytes of the longest key.
        limit: u8,
    },
    /// The indirection table is longer than the device takes.
    Table {
        /// Its entries.
        entries: usize,
        /// Entries of the longest table.
        limit: u16,
    },
    /// The number of entries of the indirection table is not a power of two.
    NotPowerOfTwo(usize),
    /// A packet would go to a receive queue that does not exist.
    ReceiveQueue {
        /// Its number, 0 for the first.
        queue: u16,
        /// Queue pairs of the device.
        limit: u16,
    },
    /// A field that is reserved has this value.
    Reserved(u16),
    /// Offloads are to be enabled whose features were not accepted.
    Offloads(Features),
    /// A queue index is not that of a data queue.
    VqIndex {
        /// The command.
        opcode: Opcode,
        /// The index.
        index: u16,
        /// Data queues of the device.
        limit: u32,
    },
}

/// A MAC address for display.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLong(len) => {
                write!(
                    f,
                    "control command has {len} bytes or more, {MAX_COMMAND} is the most"
                )
            }
            Self::NoHeader(len) => {
                write!(f, "control command has {len} bytes, no class and command")
            }
            Self::Unknown { class, command } => {
                write!(f, "control command {command} of class {class} is not known")
            }
            Self::Feature { opcode, missing } => {
                write!(f, "{opcode} without {}", missing.names(DeviceId::NET))
            }
            Self::Len { opcode, len } => write!(f, "{opcode} cannot have {len} bytes of data"),
            Self::Mode { opcode, mode } => write!(f, "{opcode} is {mode}, neither 0 nor 1"),
            Self::MacAddress(mac) => {
                write!(f, "MAC address {} is not that of one station", Mac(mac))
            }
            Self::MacFixed { requested, fixed } => write!(
                f,
                "MAC address {} is not the administrator's {}",
                Mac(requested),
                Mac(fixed)
            ),
            Self::Vlan(id) => write!(f, "VLAN {id} is not below {MAX_VLANS}"),
            Self::Pairs {
                opcode,
                requested,
                limit,
            } => write!(f, "{opcode} of {requested} is not between 1 and {limit}"),
            Self::HashTypes { opcode, types } => {
                write!(
                    f,
                    "{opcode} has hash types {types:#x}, which the device has not"
                )
            }
            Self::Key { opcode, len, limit } => {
                write!(f, "{opcode} has a key of {len} bytes, {limit} is the most")
            }
            Self::Table { entries, limit } => {
                write!(
                    f,
                    "indirection table has {entries} entries, {limit} is the most"
                )
            }
            Self::NotPowerOfTwo(entries) => {
                write!(
                    f,
                    "indirection table has {entries} entries, not a power of two"
                )
            }
            Self::ReceiveQueue { queue, limit } => {
                write!(
                    f,
                    "RSS uses receive queue {queue}, which is not below {limit}"
                )
            }
            Self::Reserved(value) => write!(f, "reserved field of MQ_HASH_CONFIG is {value:#x}"),
            Self::Offloads(features) => {
                write!(
                    f,
                    "offloads {} were not accepted",
                    features.names(DeviceId::NET)
                )
            }
            Self::VqIndex {
                opcode,
                index,
                limit,
            } => write!(f, "{opcode} of queue {index}, which is not below {limit}"),
        }
    }
}
