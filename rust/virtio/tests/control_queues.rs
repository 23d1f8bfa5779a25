// SPDX-License-Identifier: GPL-2.0

//! Control commands that are about queues: receive side scaling, hashes, offloads, coalescing.

mod cvq;

use cvq::effect;
use cvq::refusal;
use cvq::shown;
use cvq::Rss;
use virtio::control::Coal;
use virtio::control::Command;
use virtio::control::Effect;
use virtio::control::Opcode;
use virtio::control::Refusal;
use virtio::control::Rules;
use virtio::features::net;
use virtio::features::Features;

fn rss() -> Rss {
    Rss {
        types: 0x3f,
        mask: 7,
        unclassified: 3,
        table: vec![3, 2, 1, 0, 3, 2, 1, 0],
        max_tx_vq: 4,
        key_len: 40,
        key: vec![0x6d; 40],
    }
}

#[test]
fn rss_as_linux_configures_it() {
    let linux = Rss {
        mask: 127,
        unclassified: 0,
        table: (0..128).map(|entry| entry % 4).collect(),
        ..rss()
    };
    let max_tx_vq = 4;
    assert_eq!(
        effect(&linux.bytes(), &cvq::rules()),
        Effect::Rss { max_tx_vq }
    );
    // MQ is another way to use the pairs, and not needed for this one.
    let features = net::CTRL_VQ | net::RSS;
    let rules = Rules {
        features,
        ..cvq::rules()
    };
    assert_eq!(effect(&linux.bytes(), &rules), Effect::Rss { max_tx_vq });
}

#[test]
fn rss_hash_types_are_those_of_the_device() {
    for bit in 0..32 {
        let types = 1 << bit;
        let bytes = Rss { types, ..rss() }.bytes();
        if bit < 6 {
            effect(&bytes, &cvq::rules());
        } else {
            let opcode = Opcode::MqRssConfig;
            let error = refusal(&bytes, &cvq::rules());
            assert_eq!(error, Refusal::HashTypes { opcode, types });
        }
    }
    effect(&Rss { types: 0, ..rss() }.bytes(), &cvq::rules());
    assert_eq!(
        shown(
            &Rss {
                types: 0x7f,
                ..rss()
            }
            .bytes()
        ),
        "MQ_RSS_CONFIG has hash types 0x40, which the device has not"
    );
}

#[test]
fn rss_tables_are_powers_of_two_and_not_too_long() {
    let table = |entries: u32, limit: u16| {
        let bytes = Rss {
            mask: (entries - 1) as u16,
            table: vec![1; (entries as usize).min(2000)],
            ..rss()
        }
        .bytes();
        let mut rules = cvq::rules();
        rules.limits.rss_max_indirection_table_length = limit;
        Command::parse(&bytes, &rules).map(|command| command.effect())
    };
    for entries in 1..=300 {
        let result = table(entries, 128);
        let as_usize = entries as usize;
        if entries > 128 {
            let limit = 128;
            let error = Refusal::Table {
                entries: as_usize,
                limit,
            };
            assert_eq!(result, Err(error));
        } else if entries & (entries - 1) != 0 {
            assert_eq!(result, Err(Refusal::NotPowerOfTwo(as_usize)));
        } else {
            assert!(result.is_ok());
        }
    }
    // The limit need not be one.
    assert!(table(64, 100).is_ok());
    assert!(table(128, 127).is_err());
    assert!(table(1, 1).is_ok());
    assert!(table(1, 0).is_err());
    assert!(table(1024, u16::MAX).is_ok());
    // The mask 0xffff is no table of length 0.
    let entries = 0x10000;
    assert_eq!(
        table(0x10000, u16::MAX),
        Err(Refusal::Table {
            entries,
            limit: u16::MAX
        })
    );
    assert_eq!(
        table(256, 128).unwrap_err().to_string(),
        "indirection table has 256 entries, 128 is the most"
    );
    assert_eq!(
        table(3, 128).unwrap_err().to_string(),
        "indirection table has 3 entries, not a power of two"
    );
}

#[test]
fn rss_uses_receive_queues_that_exist() {
    for queue in [4, 5, 0x7fff, 0x8000, 0x8001, u16::MAX] {
        let error = Refusal::ReceiveQueue { queue, limit: 4 };
        let unclassified = Rss {
            unclassified: queue,
            ..rss()
        };
        assert_eq!(refusal(&unclassified.bytes(), &cvq::rules()), error);
        for entry in 0..8 {
            let mut config = rss();
            config.table[entry] = queue;
            assert_eq!(refusal(&config.bytes(), &cvq::rules()), error);
        }
    }
    // The most pairs that there can be: the reserved bit is never set.
    let rules = Rules {
        pairs: 0x8000,
        ..cvq::rules()
    };
    let mut config = rss();
    config.table[7] = 0x7fff;
    effect(&config.bytes(), &rules);
    config.table[7] = 0x8000;
    assert_eq!(
        refusal(&config.bytes(), &rules).to_string(),
        "RSS uses receive queue 32768, which is not below 32768"
    );
}

#[test]
fn rss_uses_transmit_queues_that_exist() {
    for max_tx_vq in 1..=4 {
        let bytes = Rss { max_tx_vq, ..rss() }.bytes();
        assert_eq!(effect(&bytes, &cvq::rules()), Effect::Rss { max_tx_vq });
    }
    for requested in [0, 5, u16::MAX] {
        let bytes = Rss {
            max_tx_vq: requested,
            ..rss()
        }
        .bytes();
        let opcode = Opcode::MqRssConfig;
        let limit = 4;
        assert_eq!(
            refusal(&bytes, &cvq::rules()),
            Refusal::Pairs {
                opcode,
                requested,
                limit
            }
        );
    }
}

#[test]
fn keys_are_as_long_as_they_say() {
    let config = |key_len: u8, len: usize| {
        Rss {
            key_len,
            key: vec![1; len],
            ..rss()
        }
        .bytes()
    };
    let report = |key_len: u8, len: usize| cvq::hash(1, [0; 4], key_len, &vec![1; len]);
    for (opcode, make) in [
        (
            Opcode::MqRssConfig,
            &config as &dyn Fn(u8, usize) -> Vec<u8>,
        ),
        (Opcode::MqHashConfig, &report),
    ] {
        for len in 0..=255u8 {
            let exact = usize::from(len);
            let result = Command::parse(&make(len, exact), &cvq::rules()).map(|_| ());
            match len {
                0..=40 => assert_eq!(result, Ok(())),
                _ => assert_eq!(
                    result,
                    Err(Refusal::Key {
                        opcode,
                        len,
                        limit: 40
                    })
                ),
            }
        }
        for (len, real) in [(0, 1), (1, 0), (39, 40), (40, 39), (40, 41)] {
            let error = refusal(&make(len, real), &cvq::rules());
            assert!(matches!(error, Refusal::Len { .. }), "{error}");
        }
    }
    assert_eq!(
        shown(&config(41, 41)),
        "MQ_RSS_CONFIG has a key of 41 bytes, 40 is the most"
    );
}

#[test]
fn hash_reports() {
    let rules = cvq::rules();
    assert_eq!(
        effect(&cvq::hash(0x3f, [0; 4], 0, &[]), &rules),
        Effect::Hash
    );
    let error = Refusal::HashTypes {
        opcode: Opcode::MqHashConfig,
        types: 0x8000_0000,
    };
    assert_eq!(
        refusal(&cvq::hash(0x8000_0001, [0; 4], 0, &[]), &rules),
        error
    );
    for field in 0..3 {
        let mut reserved = [0; 4];
        reserved[field] = 1;
        let error = refusal(&cvq::hash(1, reserved, 0, &[]), &rules);
        assert_eq!(error, Refusal::Reserved(1));
    }
    // Linux leaves the number of its queue pairs there.
    for pairs in 0..=4 {
        effect(&cvq::hash(1, [0, 0, 0, pairs], 0, &[]), &rules);
    }
    let error = refusal(&cvq::hash(1, [0, 0, 0, 5], 0, &[]), &rules);
    assert_eq!(error.to_string(), "reserved field of MQ_HASH_CONFIG is 0x5");
    let one_pair = Rules {
        features: net::CTRL_VQ | net::HASH_REPORT,
        ..rules
    };
    effect(&cvq::hash(1, [0, 0, 0, 1], 0, &[]), &one_pair);
    refusal(&cvq::hash(1, [0, 0, 0, 2], 0, &[]), &one_pair);
}

#[test]
fn offloads_are_accepted_features() {
    // The last is GUEST_HDRLEN, which Linux sends with them.
    const OFFLOADS: [u32; 8] = [1, 7, 8, 9, 10, 54, 55, 59];
    for bit in 0..64 {
        let one = Features::bit(bit);
        let bytes = cvq::offloads(one.bits());
        for features in [
            Features::from_bits(u64::MAX),
            net::CTRL_VQ | net::CTRL_GUEST_OFFLOADS | one,
            Features::from_bits(u64::MAX).difference(one) | net::CTRL_VQ | net::CTRL_GUEST_OFFLOADS,
        ] {
            let rules = Rules {
                features,
                ..cvq::rules()
            };
            if OFFLOADS.contains(&bit) && features.contains(one) {
                assert_eq!(effect(&bytes, &rules), Effect::Offloads(one));
            } else {
                assert_eq!(refusal(&bytes, &rules), Refusal::Offloads(one));
            }
        }
    }
    let some = (net::GUEST_CSUM | net::GUEST_TSO4 | net::GUEST_USO6).bits();
    assert_eq!(
        effect(&cvq::offloads(some), &cvq::rules()),
        Effect::Offloads(Features::from_bits(some))
    );
    assert_eq!(
        shown(&cvq::offloads(some | 1 << 10 | 1)),
        "offloads CSUM GUEST_UFO were not accepted"
    );
}

#[test]
fn coalescing_of_notifications() {
    let rules = cvq::rules();
    let coal = Coal {
        max_packets: 0x0102_0304,
        max_usecs: u32::MAX,
    };
    let (packets, usecs) = (coal.max_packets, coal.max_usecs);
    let bytes = cvq::coal_tx(packets, usecs);
    assert_eq!(effect(&bytes, &rules), Effect::CoalTx(coal));
    let bytes = cvq::coal_rx(packets, usecs);
    assert_eq!(effect(&bytes, &rules), Effect::CoalRx(coal));
    // The reserved field is ignored.
    let bytes = cvq::coal_vq_set(7, 0xffff, packets, usecs);
    assert_eq!(effect(&bytes, &rules), Effect::CoalVqSet(7, coal));
    let bytes = cvq::coal_vq_get(6, 0xffff);
    assert_eq!(effect(&bytes, &rules), Effect::CoalVqGet(6));
}

#[test]
fn only_data_queues_coalesce() {
    let base = net::CTRL_VQ | net::VQ_NOTF_COAL;
    for (features, pairs, limit) in [
        (base, 4, 2u32),
        (base | net::MQ, 4, 8),
        (base | net::RSS, 4, 8),
        (base | net::MQ | net::RSS, 1, 2),
        (base | net::MQ, 0x8000, 0x10000),
    ] {
        let rules = Rules {
            features,
            pairs,
            ..cvq::rules()
        };
        let last = u16::try_from(limit - 1).unwrap();
        for index in [0, 1, last] {
            let expected = Effect::CoalVqSet(index, Coal::default());
            assert_eq!(effect(&cvq::coal_vq_set(index, 0, 0, 0), &rules), expected);
            let expected = Effect::CoalVqGet(index);
            assert_eq!(effect(&cvq::coal_vq_get(index, 0), &rules), expected);
        }
        // The control queue is the first of those.
        let Some(index) = last.checked_add(1) else {
            continue;
        };
        for (opcode, bytes) in [
            (Opcode::NotfCoalVqSet, cvq::coal_vq_set(index, 0, 0, 0)),
            (Opcode::NotfCoalVqGet, cvq::coal_vq_get(index, 0)),
        ] {
            assert_eq!(
                refusal(&bytes, &rules),
                Refusal::VqIndex {
                    opcode,
                    index,
                    limit
                }
            );
        }
    }
    assert_eq!(
        shown(&cvq::coal_vq_get(8, 0)),
        "NOTF_COAL_VQ_GET of queue 8, which is not below 8"
    );
}
