// SPDX-License-Identifier: GPL-2.0

//! Reading the configuration, and what a network device has in it.

use std::cell::Cell;

use proptest::prelude::*;
use virtio::config::clamp;
use virtio::config::read_stable;
use virtio::device_id::DeviceId;
use virtio::features::net as bits;
use virtio::features::Features;
use virtio::net;
use virtio::net::Overlay;

/// Runs `read_stable` on a device whose generation takes these values in turn and then stays, with
/// nothing in the configuration changed. Returns what came out and how often the configuration was read.
fn run(attempts: u32, generations: &[u32]) -> (bool, u32) {
    let (at, reads) = (Cell::new(0), Cell::new(0));
    let stable = read_stable::<()>(
        attempts,
        || {
            let index = at.replace(at.get() + 1);
            let last = generations[generations.len() - 1];
            Ok(generations.get(index).copied().unwrap_or(last))
        },
        || {
            reads.set(reads.get() + 1);
            Ok(true)
        },
    );
    (stable.unwrap(), reads.get())
}

/// Reads a configuration of two bytes, a byte at a time, of which `values` says what it is at each
/// access, and then stays. The generation never changes. Returns what is known afterwards, unless it
/// did not settle, and how often it was read.
fn read_unannounced(known: [u8; 2], values: &[[u8; 2]]) -> (Option<[u8; 2]>, usize) {
    let (accesses, reads) = (Cell::new(0), Cell::new(0));
    let byte = |at: usize| {
        let now = accesses.replace(accesses.get() + 1);
        values.get(now).or(values.last()).unwrap()[at]
    };
    let mut seen = known;
    let stable = read_stable::<()>(
        5,
        || Ok(0),
        || {
            reads.set(reads.get() + 1);
            let before = std::mem::replace(&mut seen, [byte(0), byte(1)]);
            Ok(before == seen)
        },
    );
    (stable.unwrap().then_some(seen), reads.get())
}

#[test]
fn a_quiet_device_is_read_once() {
    assert_eq!(run(5, &[7]), (true, 1));
}

#[test]
fn a_change_is_noticed() {
    assert_eq!(run(5, &[7, 8]), (true, 2));
    assert_eq!(run(5, &[7, 8, 9, 10]), (true, 4));
    // A counter that wraps around.
    assert_eq!(run(5, &[255, 0]), (true, 2));
}

#[test]
fn a_restless_device_does_not_hold_up_its_host() {
    let restless: Vec<u32> = (0..100).collect();
    assert_eq!(run(5, &restless), (false, 5));
    assert_eq!(run(1, &restless), (false, 1));
    // Something must be in the buffer even so.
    assert_eq!(run(0, &restless), (false, 1));
    assert_eq!(run(0, &[3]), (true, 1));
}

#[test]
fn errors_end_the_attempt() {
    let reads = Cell::new(0);
    let read = || {
        reads.set(reads.get() + 1);
        Err("read")
    };
    assert_eq!(read_stable(5, || Ok(0), read), Err("read"));
    assert_eq!(reads.get(), 1);
    assert_eq!(read_stable(5, || Err("gone"), || Ok(true)), Err("gone"));
    let calls = Cell::new(0);
    let second = || match calls.replace(1) {
        0 => Ok(0),
        _ => Err("gone"),
    };
    assert_eq!(read_stable(5, second, || Ok(true)), Err("gone"));
}

#[test]
fn a_change_is_seen_twice() {
    let (old, new) = ([1, 1], [2, 2]);
    assert_eq!(read_unannounced(old, &[old]), (Some(old), 1));
    assert_eq!(read_unannounced(old, &[new]), (Some(new), 2));
    // Between the bytes, which is in no generation.
    assert_eq!(read_unannounced(old, &[old, new]), (Some(new), 3));
    let restless: Vec<[u8; 2]> = (0..20).map(|n| [n, n]).collect();
    assert_eq!(read_unannounced(old, &restless), (None, 5));
}

proptest! {
    #[test]
    fn the_last_two_generations_decide(
        attempts in 0u32..6,
        generations in proptest::collection::vec(0u32..3, 1..10),
    ) {
        let (stable, reads) = run(attempts, &generations);
        prop_assert!(reads >= 1 && reads <= attempts.max(1));
        let last = generations[generations.len() - 1];
        let at = |n: u32| generations.get(n as usize).copied().unwrap_or(last);
        prop_assert_eq!(stable, at(reads - 1) == at(reads));
        prop_assert!((0..reads - 1).all(|n| at(n) != at(n + 1)));
    }

    #[test]
    fn a_change_without_a_generation_is_not_torn(at in 0usize..12, old: [u8; 2], new: [u8; 2]) {
        let values: Vec<[u8; 2]> = (0..13).map(|n| if n < at { old } else { new }).collect();
        let (seen, _) = read_unannounced(old, &values);
        prop_assert!(seen == Some(old) || seen == Some(new));
    }

    #[test]
    fn a_clamped_read_is_a_read_of_a_padded_configuration(
        size in 0usize..40,
        offset in prop_oneof![0usize..50, Just(usize::MAX), Just(usize::MAX - 3)],
        len in 0usize..50,
    ) {
        let config: Vec<u8> = (1..=size as u8).collect();
        let expected: Vec<u8> = (0..len)
            .map(|n| offset.checked_add(n).and_then(|at| config.get(at)).copied().unwrap_or(0))
            .collect();

        let span = clamp(offset, len, size);
        let mut out = vec![0xee; len];
        out[span.copy()].copy_from_slice(&config[span.source()]);
        out[span.zero()].fill(0);
        prop_assert_eq!(&out, &expected);

        let mut out = vec![0xee; len];
        span.prepare(&mut out).copy_from_slice(&config[span.source()]);
        prop_assert_eq!(&out, &expected);
    }

    #[test]
    fn a_short_buffer_is_no_accident(
        size in 0usize..40,
        offset in 0usize..50,
        len in 0usize..50,
        real in 0usize..50,
    ) {
        let mut out = vec![0xee; real];
        let span = clamp(offset, len, size);
        let copied = span.prepare(&mut out).len();
        prop_assert_eq!(copied, real.min(span.copy().len()));
        prop_assert!(out[copied..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_overlay_covers_any_part(
        pairs in proptest::option::of(any::<u16>()),
        mtu in proptest::option::of(any::<u16>()),
        mac in proptest::option::of(any::<[u8; 6]>()),
        offset in 0usize..30,
        len in 0usize..30,
    ) {
        // What a reader of the whole would see, cut afterwards.
        let mut whole: Vec<u8> = (100..164).collect();
        let part = whole[offset..offset + len].to_vec();
        if let Some(pairs) = pairs {
            whole[8..10].copy_from_slice(&pairs.to_le_bytes());
        }
        if let Some(mtu) = mtu {
            whole[10..12].copy_from_slice(&mtu.to_le_bytes());
        }
        if let Some(mac) = mac {
            whole[..6].copy_from_slice(&mac);
        }
        let mut out = part;
        let overlay = Overlay { max_virtqueue_pairs: pairs, mtu, mac };
        overlay.apply(offset, &mut out);
        prop_assert_eq!(&out[..], &whole[offset..offset + len]);
    }
}

#[test]
fn a_whole_address_of_a_station_is_taken() {
    let mac = [0x52, 0x54, 0, 1, 2, 3];

    assert_eq!(net::written_mac(net::MAC, &mac), Some(mac));
    assert_eq!(
        net::written_mac(net::MAC, &[&mac[..], &[9; 4]].concat()),
        Some(mac)
    );
    assert_eq!(net::written_mac(net::MAC, &mac[..5]), None);
    assert_eq!(net::written_mac(net::MAC, &[]), None);
    assert_eq!(net::written_mac(net::MAC + 1, &mac), None);
    assert_eq!(net::written_mac(net::MAC, &[0; 6]), None);
    assert_eq!(net::written_mac(net::MAC, &[0x33, 0x33, 0, 0, 0, 1]), None);
}

#[test]
fn an_overlay_far_behind_touches_nothing() {
    let overlay = Overlay {
        max_virtqueue_pairs: Some(0),
        mtu: Some(0),
        mac: Some([0; 6]),
    };
    for offset in [12, 1 << 20, usize::MAX] {
        let mut out = [0xee; 8];
        overlay.apply(offset, &mut out);
        assert_eq!(out, [0xee; 8]);
    }
}

#[test]
fn the_configuration_has_the_layout_of_the_specification() {
    // Field by field: MAC, status, pairs, MTU with speed and duplex behind it, key size, table length,
    // hash types.
    let lengths = [6, 2, 2, 2 + 4 + 1, 1, 2, 4];
    let offsets = [
        net::MAC,
        net::STATUS,
        net::MAX_VIRTQUEUE_PAIRS,
        net::MTU,
        net::RSS_MAX_KEY_SIZE,
        net::RSS_MAX_INDIRECTION_TABLE_LENGTH,
        net::SUPPORTED_HASH_TYPES,
    ];
    let mut end = 0;
    for (offset, length) in offsets.into_iter().zip(lengths) {
        assert_eq!(offset, end);
        end += length;
    }
    assert_eq!(net::LEN, end);
}

#[test]
fn fields_are_little_endian_and_bounded() {
    let config = [0, 0, 0, 0, 0, 0, 1, 0, 0x34, 0x12, 0xdc];
    assert_eq!(net::field(&config, net::STATUS), Some(1));
    assert_eq!(net::field(&config, net::MAX_VIRTQUEUE_PAIRS), Some(0x1234));
    assert_eq!(net::field(&config, net::MTU), None);
    assert_eq!(net::field(&config, usize::MAX), None);
    assert_eq!(net::field(&[], 0), None);
}

#[test]
fn queue_pairs_of_a_function_are_not_believed() {
    let all = bits::MQ | bits::CTRL_VQ;
    assert_eq!(net::hardware_pairs(all, 4, 9), Ok(4));
    assert_eq!(
        net::hardware_pairs(all, 4, 8).unwrap_err().to_string(),
        "function reports 4 queue pairs, impossible with its 8 queues"
    );
    assert_eq!(net::hardware_pairs(bits::MQ, 4, 8), Ok(4));
    assert_eq!(net::hardware_pairs(bits::RSS, 4, 8), Ok(4));
    assert!(net::hardware_pairs(all, 0, 9).is_err());
    // Without MQ and RSS the field is not there, whatever the bytes in its place are.
    assert_eq!(net::hardware_pairs(bits::CTRL_VQ, 0xffff, 3), Ok(1));
    assert!(net::hardware_pairs(bits::CTRL_VQ, 1, 2).is_err());
    assert_eq!(net::hardware_pairs(Features::EMPTY, 0, 2), Ok(1));
    assert!(net::hardware_pairs(Features::EMPTY, 1, 1).is_err());
    for pairs in [0x8000, 0x8001, 0xffff] {
        assert!(net::hardware_pairs(all, pairs, 0xffff).is_err());
    }
    assert_eq!(net::hardware_pairs(all, 0x7fff, 0xffff), Ok(0x7fff));
}

#[test]
fn queue_pairs_are_provisioned_within_the_limit() {
    assert_eq!(net::check_max_vqp(1, 4), Ok(1));
    assert_eq!(net::check_max_vqp(4, 4), Ok(4));
    for requested in [0, 5, 0xffff] {
        assert_eq!(
            net::check_max_vqp(requested, 4).unwrap_err().to_string(),
            format!("max_vqp {requested} is not between 1 and the function's 4 queue pairs")
        );
    }
}

#[test]
fn the_mtu_is_provisioned_within_the_limit() {
    assert_eq!(net::check_mtu(1500, 9000, true), Ok(1500));
    assert_eq!(net::check_mtu(9000, 9000, true), Ok(9000));
    assert_eq!(net::check_mtu(68, 9000, true), Ok(68));
    for requested in [0, 67, 9001, 0xffff] {
        assert_eq!(
            net::check_mtu(requested, 9000, true)
                .unwrap_err()
                .to_string(),
            format!("mtu {requested} is not between 68 and the function's 9000")
        );
    }
    assert_eq!(
        net::check_mtu(1500, 9000, false).unwrap_err().to_string(),
        "mtu cannot be set, the function does not offer MTU"
    );
}

#[test]
fn what_lies_behind_the_known_fields_is_not_shown() {
    for (id, window, shown) in [
        (DeviceId::NET, 4096, 24),
        (DeviceId::NET, 24, 24),
        (DeviceId::NET, 7, 7),
        (DeviceId::NET, 0, 0),
        (DeviceId::BLOCK, 4096, 96),
        (DeviceId::BLOCK, 60, 60),
        (DeviceId::new(63), 4096, 512),
        (DeviceId::new(63), 100, 100),
    ] {
        assert_eq!(virtio::config::shown_len(id, window), shown);
    }
}
