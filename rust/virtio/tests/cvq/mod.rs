// SPDX-License-Identifier: GPL-2.0

//! Commands of a control queue, written from the specification.

// Each test program uses a part of it.
#![allow(dead_code)]

use proptest::prelude::*;
use virtio::control::Command;
use virtio::control::Effect;
use virtio::control::Limits;
use virtio::control::Refusal;
use virtio::control::Rules;
use virtio::features::net;
use virtio::features::Features;

/// All features that have commands here, and what they need.
pub(crate) const FEATURES: [Features; 18] = [
    net::CTRL_VQ,
    net::CTRL_RX,
    net::CTRL_RX_EXTRA,
    net::CTRL_MAC_ADDR,
    net::CTRL_VLAN,
    net::GUEST_ANNOUNCE,
    net::MQ,
    net::RSS,
    net::HASH_REPORT,
    net::CTRL_GUEST_OFFLOADS,
    net::NOTF_COAL,
    net::VQ_NOTF_COAL,
    net::GUEST_CSUM,
    net::GUEST_TSO4,
    net::GUEST_TSO6,
    net::GUEST_ECN,
    net::GUEST_USO4,
    net::GUEST_USO6,
];

pub(crate) fn all_features() -> Features {
    FEATURES.into_iter().fold(Features::EMPTY, Features::union)
}

/// Rules under which most is allowed, for a device with 4 queue pairs.
pub(crate) fn rules() -> Rules {
    Rules {
        features: all_features(),
        pairs: 4,
        mac: None,
        limits: Limits {
            rss_max_key_size: 40,
            rss_max_indirection_table_length: 128,
            supported_hash_types: 0x3f,
        },
    }
}

pub(crate) fn command(class: u8, command: u8, data: impl AsRef<[u8]>) -> Vec<u8> {
    [&[class, command], data.as_ref()].concat()
}

pub(crate) fn rx(mode: u8, on: u8) -> Vec<u8> {
    command(0, mode, [on])
}

pub(crate) fn mac_table(unicast: &[[u8; 6]], multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut data = Vec::new();
    for table in [unicast, multicast] {
        data.extend((table.len() as u32).to_le_bytes());
        data.extend(table.as_flattened());
    }
    command(1, 0, data)
}

pub(crate) fn mac_addr(mac: [u8; 6]) -> Vec<u8> {
    command(1, 1, mac)
}

pub(crate) fn vlan_add(id: u16) -> Vec<u8> {
    command(2, 0, id.to_le_bytes())
}

pub(crate) fn vlan_del(id: u16) -> Vec<u8> {
    command(2, 1, id.to_le_bytes())
}

pub(crate) fn vq_pairs(pairs: u16) -> Vec<u8> {
    command(4, 0, pairs.to_le_bytes())
}

/// `struct virtio_net_rss_config`, with a length of the key that need not be its own.
#[derive(Clone, Debug)]
pub(crate) struct Rss {
    pub(crate) types: u32,
    pub(crate) mask: u16,
    pub(crate) unclassified: u16,
    pub(crate) table: Vec<u16>,
    pub(crate) max_tx_vq: u16,
    pub(crate) key_len: u8,
    pub(crate) key: Vec<u8>,
}

impl Rss {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut data = self.types.to_le_bytes().to_vec();
        data.extend(self.mask.to_le_bytes());
        data.extend(self.unclassified.to_le_bytes());
        data.extend(self.table.iter().flat_map(|queue| queue.to_le_bytes()));
        data.extend(self.max_tx_vq.to_le_bytes());
        data.push(self.key_len);
        data.extend(&self.key);
        command(4, 1, data)
    }
}

pub(crate) fn hash(types: u32, reserved: [u16; 4], key_len: u8, key: &[u8]) -> Vec<u8> {
    let mut data = types.to_le_bytes().to_vec();
    data.extend(reserved.iter().flat_map(|field| field.to_le_bytes()));
    data.push(key_len);
    data.extend(key);
    command(4, 2, data)
}

pub(crate) fn offloads(bits: u64) -> Vec<u8> {
    command(5, 0, bits.to_le_bytes())
}

fn coal(packets: u32, usecs: u32) -> Vec<u8> {
    [packets.to_le_bytes(), usecs.to_le_bytes()].concat()
}

pub(crate) fn coal_tx(packets: u32, usecs: u32) -> Vec<u8> {
    command(6, 0, coal(packets, usecs))
}

pub(crate) fn coal_rx(packets: u32, usecs: u32) -> Vec<u8> {
    command(6, 1, coal(packets, usecs))
}

pub(crate) fn coal_vq_set(index: u16, reserved: u16, packets: u32, usecs: u32) -> Vec<u8> {
    let head = [index.to_le_bytes(), reserved.to_le_bytes()].concat();
    command(6, 2, [head, coal(packets, usecs)].concat())
}

pub(crate) fn coal_vq_get(index: u16, reserved: u16) -> Vec<u8> {
    let data = [index.to_le_bytes(), reserved.to_le_bytes()].concat();
    command(6, 3, data)
}

/// A command of each kind that [`rules`] allow, also with no features but those that it needs.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    vec![
        rx(0, 1),
        rx(1, 0),
        rx(2, 1),
        rx(3, 0),
        rx(4, 1),
        rx(5, 0),
        mac_table(&[[2, 0, 0, 0, 0, 1]], &[[0x33, 0x33, 0, 0, 0, 1]; 2]),
        mac_addr([2, 0, 0, 0, 0, 9]),
        vlan_add(5),
        vlan_del(4095),
        command(3, 0, []),
        vq_pairs(3),
        Rss {
            types: 0x21,
            mask: 3,
            unclassified: 2,
            table: vec![0, 1, 2, 3],
            max_tx_vq: 4,
            key_len: 3,
            key: vec![7, 8, 9],
        }
        .bytes(),
        hash(0x3f, [0; 4], 2, &[5, 6]),
        offloads(0),
        coal_tx(1, 2),
        coal_rx(3, 4),
        coal_vq_set(1, 0, 5, 6),
        coal_vq_get(0, 0),
    ]
}

/// Mostly what a device with up to four pairs allows, with what is at the edges.
pub(crate) fn any_command() -> impl Strategy<Value = Vec<u8>> {
    let mac = prop_oneof![
        8 => any::<u8>().prop_map(|last| [2, 0, 0, 0, 0, last % 4]),
        1 => any::<[u8; 6]>(),
        1 => Just([0; 6]),
    ];
    let table = || proptest::collection::vec(any::<[u8; 6]>(), 0..4);
    let queue = || prop_oneof![20 => 0..4u16, 1 => any::<u16>()];
    let pairs = || prop_oneof![20 => 1..5u16, 1 => 0..6u16, 1 => any::<u16>()];
    let types = || prop_oneof![10 => 0..0x40u32, 1 => any::<u32>()];
    let vlan = || prop_oneof![3 => 0..18u16, 3 => 4090..4096u16, 1 => any::<u16>()];
    let index = || prop_oneof![20 => 0..8u16, 1 => 8..10u16, 1 => any::<u16>()];
    let zero = || prop_oneof![20 => Just(0u16), 1 => 0..6u16];
    // The length that is stated, and how many bytes too many or too few there are.
    let key = || {
        (
            prop_oneof![20 => 0..9u8, 1 => 39..42u8, 1 => any::<u8>()],
            prop_oneof![20 => Just(0usize), 1 => 0..3usize],
            any::<u8>(),
        )
            .prop_map(|(len, less, byte)| (len, vec![byte; usize::from(len).saturating_sub(less)]))
    };
    let mask = prop_oneof![10 => prop::sample::select(vec![0u16, 1, 3, 7, 127]), 1 => any::<u16>()];
    let rss = (
        types(),
        mask,
        queue(),
        proptest::collection::vec(queue(), 128),
        pairs(),
        key(),
    )
        .prop_map(
            |(types, mask, unclassified, table, max_tx_vq, (key_len, key))| {
                Rss {
                    types,
                    mask,
                    unclassified,
                    table: table
                        .into_iter()
                        .cycle()
                        .take(usize::from(mask.min(300)) + 1)
                        .collect(),
                    max_tx_vq,
                    key_len,
                    key,
                }
                .bytes()
            },
        );
    prop_oneof![
        4 => (0..7u8, 0..2u8).prop_map(|(mode, on)| rx(mode, on)),
        2 => (table(), table()).prop_map(|(one, two)| mac_table(&one, &two)),
        2 => mac.prop_map(mac_addr),
        3 => vlan().prop_map(vlan_add),
        3 => vlan().prop_map(vlan_del),
        1 => Just(command(3, 0, [])),
        3 => pairs().prop_map(vq_pairs),
        3 => rss,
        3 => (types(), zero(), pairs(), any::<bool>(), key()).prop_map(
            |(types, zero, pairs, linux, (len, key))| {
                hash(types, [0, zero, 0, if linux { pairs } else { 0 }], len, &key)
            }
        ),
        2 => prop_oneof![Just(0), Just(2), Just(0x00c0_0000_0000_0382), any::<u64>()]
            .prop_map(offloads),
        2 => any::<[u32; 2]>().prop_map(|[packets, usecs]| coal_tx(packets, usecs)),
        2 => any::<[u32; 2]>().prop_map(|[packets, usecs]| coal_rx(packets, usecs)),
        6 => (index(), zero(), any::<[u32; 2]>()).prop_map(
            |(index, reserved, [packets, usecs])| coal_vq_set(index, reserved, packets, usecs)
        ),
        1 => (index(), zero()).prop_map(|(index, reserved)| coal_vq_get(index, reserved)),
    ]
}

/// Rules of devices with up to four pairs.
pub(crate) fn any_rules() -> impl Strategy<Value = Rules> {
    let features = prop_oneof![
        3 => Just(all_features()),
        1 => any::<u64>()
            .prop_map(|bits| all_features() & Features::from_bits(bits) | net::CTRL_VQ),
        1 => any::<u64>().prop_map(Features::from_bits),
    ];
    let mac = prop_oneof![3 => Just(None), 1 => Just(Some([2, 0, 0, 0, 0, 1]))];
    (features, 1..5u16, mac, 0..200u16, any::<bool>()).prop_map(
        |(features, pairs, mac, table, few)| Rules {
            features,
            pairs,
            mac,
            limits: Limits {
                rss_max_key_size: if few { 4 } else { 40 },
                rss_max_indirection_table_length: table,
                supported_hash_types: if few { 0x0f } else { 0x3f },
            },
        },
    )
}

/// What a command that is allowed does.
#[track_caller]
pub(crate) fn effect(bytes: &[u8], rules: &Rules) -> Effect {
    let command = Command::parse(bytes, rules).unwrap();
    assert_eq!(command.bytes(), bytes);
    assert_eq!(command.data(), &bytes[2..]);
    assert_eq!(command.opcode().code(), bytes[..2]);
    command.effect()
}

/// Why a command is refused.
#[track_caller]
pub(crate) fn refusal(bytes: &[u8], rules: &Rules) -> Refusal {
    Command::parse(bytes, rules).unwrap_err()
}

/// The refusal of a command under the rules that allow most, as the log shows it.
#[track_caller]
pub(crate) fn shown(bytes: &[u8]) -> String {
    refusal(bytes, &rules()).to_string()
}
