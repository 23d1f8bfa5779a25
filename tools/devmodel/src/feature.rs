// SPDX-License-Identifier: GPL-2.0

//! Numbers of the features that the model knows (virtio 1.4, 2.2 and 5.1.3).

pub const CTRL_GUEST_OFFLOADS: u32 = 2;
pub const MTU: u32 = 3;
pub const MAC: u32 = 5;
pub const STATUS: u32 = 16;
pub const CTRL_VQ: u32 = 17;
pub const CTRL_RX: u32 = 18;
pub const CTRL_VLAN: u32 = 19;
pub const CTRL_RX_EXTRA: u32 = 20;
pub const GUEST_ANNOUNCE: u32 = 21;
pub const MQ: u32 = 22;
pub const CTRL_MAC_ADDR: u32 = 23;
pub const RING_INDIRECT_DESC: u32 = 28;
pub const RING_EVENT_IDX: u32 = 29;
pub const VERSION_1: u32 = 32;
pub const ACCESS_PLATFORM: u32 = 33;
pub const RING_PACKED: u32 = 34;
pub const RING_RESET: u32 = 40;
pub const SUSPEND: u32 = 43;
pub const VQ_NOTF_COAL: u32 = 52;
pub const NOTF_COAL: u32 = 53;
pub const HASH_REPORT: u32 = 57;
pub const RSS: u32 = 60;
