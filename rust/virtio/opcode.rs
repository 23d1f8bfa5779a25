// SPDX-License-Identifier: GPL-2.0

//! The names of the commands of a control queue (virtio 1.3, 5.1.6.5).

use core::fmt;

use crate::features::net;
use crate::features::Features;

/// Declares the commands that this crate knows.
macro_rules! opcodes {
    ($($name:ident = ($class:literal, $command:literal), $feature:ident, $text:literal;)*) => {
        /// A command that this crate knows. The names are those of the specification.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Opcode {
            $(
                #[doc = concat!("`VIRTIO_NET_CTRL_", $text, "`.")]
                $name,
            )*
        }

        impl Opcode {
            /// All of them, by class and command.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The command with these numbers, if it is known.
            #[must_use]
            pub const fn new(class: u8, command: u8) -> Option<Self> {
                match (class, command) {
                    $(($class, $command) => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Class and command, as they are at the start of a command.
            #[must_use]
            pub const fn code(self) -> [u8; 2] {
                match self {
                    $(Self::$name => [$class, $command],)*
                }
            }

            /// The feature without which a driver must not send the command.
            #[must_use]
            pub const fn feature(self) -> Features {
                match self {
                    $(Self::$name => net::$feature,)*
                }
            }

            /// The name without `VIRTIO_NET_CTRL_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

opcodes! {
    RxPromisc = (0, 0), CTRL_RX, "RX_PROMISC";
    RxAllmulti = (0, 1), CTRL_RX, "RX_ALLMULTI";
    RxAlluni = (0, 2), CTRL_RX_EXTRA, "RX_ALLUNI";
    RxNomulti = (0, 3), CTRL_RX_EXTRA, "RX_NOMULTI";
    RxNouni = (0, 4), CTRL_RX_EXTRA, "RX_NOUNI";
    RxNobcast = (0, 5), CTRL_RX_EXTRA, "RX_NOBCAST";
    MacTableSet = (1, 0), CTRL_RX, "MAC_TABLE_SET";
    MacAddrSet = (1, 1), CTRL_MAC_ADDR, "MAC_ADDR_SET";
    VlanAdd = (2, 0), CTRL_VLAN, "VLAN_ADD";
    VlanDel = (2, 1), CTRL_VLAN, "VLAN_DEL";
    AnnounceAck = (3, 0), GUEST_ANNOUNCE, "ANNOUNCE_ACK";
    MqVqPairsSet = (4, 0), MQ, "MQ_VQ_PAIRS_SET";
    MqRssConfig = (4, 1), RSS, "MQ_RSS_CONFIG";
    MqHashConfig = (4, 2), HASH_REPORT, "MQ_HASH_CONFIG";
    GuestOffloadsSet = (5, 0), CTRL_GUEST_OFFLOADS, "GUEST_OFFLOADS_SET";
    NotfCoalTxSet = (6, 0), NOTF_COAL, "NOTF_COAL_TX_SET";
    NotfCoalRxSet = (6, 1), NOTF_COAL, "NOTF_COAL_RX_SET";
    NotfCoalVqSet = (6, 2), VQ_NOTF_COAL, "NOTF_COAL_VQ_SET";
    NotfCoalVqGet = (6, 3), VQ_NOTF_COAL, "NOTF_COAL_VQ_GET";
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
