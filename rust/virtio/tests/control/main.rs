// SPDX-License-Identifier: GPL-2.0

//! Commands of the control queue: what is allowed, what is not, and what they mean.

mod any;
#[path = "../cvq/mod.rs"]
mod cvq;

use cvq::command;
use cvq::effect;
use cvq::refusal;
use cvq::shown;
use virtio::control::ack;
use virtio::control::Command;
use virtio::control::Effect;
use virtio::control::Limits;
use virtio::control::Opcode;
use virtio::control::Refusal;
use virtio::control::Rules;
use virtio::control::MAX_COMMAND;
use virtio::control::UNSUPPORTED;
use virtio::features::net;
use virtio::features::Features;

const OPCODES: [(u8, u8, Features, &str); 19] = [
    (0, 0, net::CTRL_RX, "RX_PROMISC"),
    (0, 1, net::CTRL_RX, "RX_ALLMULTI"),
    (0, 2, net::CTRL_RX_EXTRA, "RX_ALLUNI"),
    (0, 3, net::CTRL_RX_EXTRA, "RX_NOMULTI"),
    (0, 4, net::CTRL_RX_EXTRA, "RX_NOUNI"),
    (0, 5, net::CTRL_RX_EXTRA, "RX_NOBCAST"),
    (1, 0, net::CTRL_RX, "MAC_TABLE_SET"),
    (1, 1, net::CTRL_MAC_ADDR, "MAC_ADDR_SET"),
    (2, 0, net::CTRL_VLAN, "VLAN_ADD"),
    (2, 1, net::CTRL_VLAN, "VLAN_DEL"),
    (3, 0, net::GUEST_ANNOUNCE, "ANNOUNCE_ACK"),
    (4, 0, net::MQ, "MQ_VQ_PAIRS_SET"),
    (4, 1, net::RSS, "MQ_RSS_CONFIG"),
    (4, 2, net::HASH_REPORT, "MQ_HASH_CONFIG"),
    (5, 0, net::CTRL_GUEST_OFFLOADS, "GUEST_OFFLOADS_SET"),
    (6, 0, net::NOTF_COAL, "NOTF_COAL_TX_SET"),
    (6, 1, net::NOTF_COAL, "NOTF_COAL_RX_SET"),
    (6, 2, net::VQ_NOTF_COAL, "NOTF_COAL_VQ_SET"),
    (6, 3, net::VQ_NOTF_COAL, "NOTF_COAL_VQ_GET"),
];

#[test]
fn opcodes_one_by_one() {
    assert_eq!(Opcode::ALL.len(), OPCODES.len());
    for ((class, command, feature, name), opcode) in OPCODES.into_iter().zip(Opcode::ALL) {
        assert_eq!(Opcode::new(class, command), Some(*opcode));
        assert_eq!(opcode.code(), [class, command]);
        assert_eq!(opcode.feature(), feature);
        assert_eq!(opcode.name(), name);
        assert_eq!(opcode.to_string(), name);
    }
}

#[test]
fn unknown_commands() {
    let everything = Rules {
        features: Features::from_bits(u64::MAX),
        ..cvq::rules()
    };
    let mut known = 0;
    for class in 0..=255 {
        for number in 0..=255 {
            if Opcode::new(class, number).is_some() {
                known += 1;
                continue;
            }
            let bytes = command(class, number, [0]);
            let unknown = Refusal::Unknown {
                class,
                command: number,
            };
            assert_eq!(refusal(&bytes, &everything), unknown);
        }
    }
    assert_eq!(known, OPCODES.len());
    // Statistics and the hashes of tunnels, which are features of their own.
    for class in [7, 8] {
        refusal(&command(class, 0, [0; 4]), &everything);
    }
    assert_eq!(UNSUPPORTED, net::DEVICE_STATS | net::HASH_TUNNEL);
    assert_eq!(shown(&[8, 1]), "control command 1 of class 8 is not known");
}

#[test]
fn a_command_needs_its_feature_and_no_other() {
    let samples = cvq::samples();
    assert_eq!(samples.len(), OPCODES.len());
    for (bytes, (_, _, feature, name)) in samples.iter().zip(OPCODES) {
        effect(bytes, &cvq::rules());
        for features in [Features::from_bits(u64::MAX), cvq::all_features()] {
            let without = Rules {
                features: features.difference(feature),
                ..cvq::rules()
            };
            let opcode = Opcode::new(bytes[0], bytes[1]).unwrap();
            let missing = feature;
            let error = refusal(bytes, &without);
            assert_eq!(error, Refusal::Feature { opcode, missing });
            assert!(error.to_string().starts_with(name));
        }
        let only = Rules {
            features: feature | net::CTRL_VQ,
            ..cvq::rules()
        };
        effect(bytes, &only);
        // There is no queue for it.
        let alone = Rules {
            features: feature,
            ..cvq::rules()
        };
        assert!(matches!(
            refusal(bytes, &alone),
            Refusal::Feature { missing, .. } if missing == net::CTRL_VQ
        ));
    }
    let none = Rules {
        features: Features::EMPTY,
        ..cvq::rules()
    };
    assert_eq!(
        refusal(&samples[12], &none).to_string(),
        "MQ_RSS_CONFIG without CTRL_VQ RSS"
    );
}

#[test]
fn every_length_but_the_right_one() {
    for bytes in cvq::samples() {
        for len in 0..bytes.len() {
            let error = refusal(&bytes[..len], &cvq::rules());
            match len {
                0 | 1 => assert_eq!(error, Refusal::NoHeader(len)),
                _ => assert!(matches!(error, Refusal::Len { len: data, .. } if data == len - 2)),
            }
        }
        for more in [1, 2, 6, 8, 100] {
            let longer = [bytes.clone(), vec![0; more]].concat();
            let opcode = Opcode::new(bytes[0], bytes[1]).unwrap();
            let len = longer.len() - 2;
            let error = refusal(&longer, &cvq::rules());
            assert_eq!(error, Refusal::Len { opcode, len });
        }
    }
    assert_eq!(
        shown(&[0]),
        "control command has 1 bytes, no class and command"
    );
    assert_eq!(
        shown(&[1, 1, 2]),
        "MAC_ADDR_SET cannot have 1 bytes of data"
    );
}

#[test]
fn the_longest_command() {
    assert_eq!(MAX_COMMAND, 4096);
    let longest = cvq::mac_table(&[[2, 0, 0, 0, 0, 0]; 600], &[[3, 0, 0, 0, 0, 0]; 81]);
    assert_eq!(longest.len(), MAX_COMMAND);
    assert_eq!(effect(&longest, &cvq::rules()), Effect::MacTable);
    let longer = [longest, vec![0]].concat();
    assert_eq!(refusal(&longer, &cvq::rules()), Refusal::TooLong(4097));
    assert_eq!(
        shown(&longer),
        "control command has 4097 bytes or more, 4096 is the most"
    );
    let more = cvq::mac_table(&[[2, 0, 0, 0, 0, 0]; 682], &[]);
    assert_eq!(refusal(&more, &cvq::rules()), Refusal::TooLong(4102));
}

#[test]
fn receive_modes_are_on_or_off() {
    for mode in 0..6 {
        assert_eq!(effect(&cvq::rx(mode, 0), &cvq::rules()), Effect::Rx(false));
        assert_eq!(effect(&cvq::rx(mode, 1), &cvq::rules()), Effect::Rx(true));
        for on in 2..=255 {
            let opcode = Opcode::new(0, mode).unwrap();
            let error = refusal(&cvq::rx(mode, on), &cvq::rules());
            assert_eq!(error, Refusal::Mode { opcode, mode: on });
        }
    }
    assert_eq!(shown(&cvq::rx(4, 2)), "RX_NOUNI is 2, neither 0 nor 1");
}

#[test]
fn tables_of_mac_addresses_are_as_long_as_they_say() {
    let entry = [2u8, 0, 0, 0, 0, 1];
    for (unicast, multicast) in [(0, 0), (0, 1), (1, 0), (2, 3), (300, 0), (0, 300)] {
        let bytes = cvq::mac_table(&vec![entry; unicast], &vec![entry; multicast]);
        assert_eq!(effect(&bytes, &cvq::rules()), Effect::MacTable);
    }
    let good = cvq::mac_table(&[entry; 2], &[entry; 2]);
    let second = 2 + 4 + 12;
    // 0x80000002 addresses have the bytes of 2, and 2^32 times 3 more.
    for count in [
        0u32,
        1,
        3,
        4,
        0x2aaa_aaab,
        0x8000_0002,
        0x5555_5556,
        0x8000_0000,
        u32::MAX,
    ] {
        for at in [2, second] {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert!(matches!(
                refusal(&bytes, &cvq::rules()),
                Refusal::Len { .. }
            ));
        }
    }
    // What the Linux bridge does: a group among the unicast addresses.
    let bytes = cvq::mac_table(&[[1, 0x80, 0xc2, 0, 0, 0]], &[]);
    assert_eq!(effect(&bytes, &cvq::rules()), Effect::MacTable);
}

#[test]
fn a_mac_address_is_that_of_a_station() {
    let rules = cvq::rules();
    for mac in [[2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0xfe; 6]] {
        assert_eq!(effect(&cvq::mac_addr(mac), &rules), Effect::MacAddr(mac));
    }
    for mac in [
        [0; 6],
        [0xff; 6],
        [1, 0, 0, 0, 0, 0],
        [0x33, 0x33, 0, 0, 0, 1],
    ] {
        let error = refusal(&cvq::mac_addr(mac), &rules);
        assert_eq!(error, Refusal::MacAddress(mac));
        let fixed = Rules {
            mac: Some(mac),
            ..rules
        };
        assert_eq!(refusal(&cvq::mac_addr(mac), &fixed), error);
    }
    assert_eq!(
        shown(&cvq::mac_addr([0x33, 0x33, 0, 0, 0xa, 0xbc])),
        "MAC address 33:33:00:00:0a:bc is not that of one station"
    );
}

#[test]
fn the_administrators_mac_address_stays() {
    let fixed = [2, 0, 0, 0, 0, 1];
    let rules = Rules {
        mac: Some(fixed),
        ..cvq::rules()
    };
    assert_eq!(
        effect(&cvq::mac_addr(fixed), &rules),
        Effect::MacAddr(fixed)
    );
    for byte in 0..6 {
        let mut requested = fixed;
        requested[byte] ^= 4;
        let error = refusal(&cvq::mac_addr(requested), &rules);
        assert_eq!(error, Refusal::MacFixed { requested, fixed });
    }
    assert_eq!(
        refusal(&cvq::mac_addr([2, 0, 0, 0, 0, 2]), &rules).to_string(),
        "MAC address 02:00:00:00:00:02 is not the administrator's 02:00:00:00:00:01"
    );
}

#[test]
fn vlans_have_twelve_bits() {
    for id in 0..=u16::MAX {
        let (add, del) = (cvq::vlan_add(id), cvq::vlan_del(id));
        if id < 4096 {
            assert_eq!(effect(&add, &cvq::rules()), Effect::VlanAdd(id));
            assert_eq!(effect(&del, &cvq::rules()), Effect::VlanDel(id));
        } else {
            assert_eq!(refusal(&add, &cvq::rules()), Refusal::Vlan(id));
            assert_eq!(refusal(&del, &cvq::rules()), Refusal::Vlan(id));
        }
    }
    assert_eq!(shown(&cvq::vlan_add(4096)), "VLAN 4096 is not below 4096");
}

#[test]
fn pairs_from_one_to_all() {
    for pairs in [1, 2, 4, 0x7fff, 0x8000] {
        let rules = Rules {
            pairs,
            ..cvq::rules()
        };
        for requested in [1, pairs.saturating_sub(1).max(1), pairs] {
            let bytes = cvq::vq_pairs(requested);
            assert_eq!(effect(&bytes, &rules), Effect::VqPairs(requested));
        }
        for requested in [0, pairs + 1, u16::MAX] {
            let opcode = Opcode::MqVqPairsSet;
            assert_eq!(
                refusal(&cvq::vq_pairs(requested), &rules),
                Refusal::Pairs {
                    opcode,
                    requested,
                    limit: pairs
                }
            );
        }
    }
    assert_eq!(
        shown(&cvq::vq_pairs(5)),
        "MQ_VQ_PAIRS_SET of 5 is not between 1 and 4"
    );
}

/// A configuration for 4 pairs that is fine.

#[test]
fn only_one_command_has_a_reply() {
    for bytes in cvq::samples() {
        let rules = cvq::rules();
        let command = Command::parse(&bytes, &rules).unwrap();
        let expected = match command.opcode() {
            Opcode::NotfCoalVqGet => 8,
            _ => 0,
        };
        assert_eq!(command.reply_len(), expected);
    }
}

#[test]
fn answers_are_ok_or_not() {
    assert_eq!(ack(0), 0);
    for answer in 1..=255 {
        assert_eq!(ack(answer), 1);
    }
}

#[test]
fn limits_come_from_the_configuration() {
    let mut config = [0xee; 64];
    config[17] = 40;
    config[18..20].copy_from_slice(&[0x80, 0x01]);
    config[20..24].copy_from_slice(&[0xbf, 0x01, 0x02, 0x03]);
    for len in 0..=64 {
        let limits = Limits::from_config(&config[..len]);
        assert_eq!(limits.rss_max_key_size, if len >= 18 { 40 } else { 0 });
        let expected = if len >= 20 { 0x180 } else { 0 };
        assert_eq!(limits.rss_max_indirection_table_length, expected);
        let expected = if len >= 24 { 0x0302_01bf } else { 0 };
        assert_eq!(limits.supported_hash_types, expected);
    }
}
