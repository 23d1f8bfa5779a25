// SPDX-License-Identifier: GPL-2.0

//! Sizes, addresses, states and indices of queues.

use proptest::prelude::*;
use virtio::device_id::DeviceId;
use virtio::features::net;
use virtio::features::Features;
use virtio::queue;
use virtio::queue::Addresses;
use virtio::queue::Area;
use virtio::queue::QueueError;
use virtio::queue::QueueMap;
use virtio::queue::RingKind;
use virtio::queue::Size;

const KINDS: [RingKind; 2] = [RingKind::Split, RingKind::Packed];

fn size(num: u16, kind: RingKind) -> Size {
    Size::new(num.into(), u16::MAX, kind).unwrap()
}

#[test]
fn the_ring_format_is_negotiated() {
    assert_eq!(RingKind::from(Features::VERSION_1), RingKind::Split);
    assert_eq!(
        RingKind::from_features(Features::VERSION_1 | Features::RING_PACKED),
        RingKind::Packed
    );
}

#[test]
fn every_size_up_to_all_bits() {
    for num in (0..70_000).chain([u32::MAX, 1 << 31, 0x8000_0100]) {
        for max in [0, 1, 256, 1000, 32768, 65535] {
            let possible = num >= 1 && num <= u32::from(max) && num <= 32768;
            let split = Size::new(num, max, RingKind::Split);
            let packed = Size::new(num, max, RingKind::Packed);
            assert_eq!(packed.is_ok(), possible, "{num} of {max}");
            assert_eq!(split.is_ok(), possible && num.count_ones() == 1);
            if let Ok(size) = packed {
                assert_eq!(u32::from(size.get()), num);
            }
        }
    }
}

#[test]
fn size_errors_say_what_fits() {
    let text = |num, max| {
        Size::new(num, max, RingKind::Split)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(text(512, 256), "queue size 512 is not between 1 and 256");
    assert_eq!(text(0, 256), "queue size 0 is not between 1 and 256");
    assert_eq!(
        text(100, 256),
        "queue size 100 of a split ring is not a power of two"
    );
    assert_eq!(
        text(40000, 65535),
        "queue size 40000 is not between 1 and 32768"
    );
}

#[test]
fn areas_have_the_layout_of_the_specification() {
    let areas = [Area::Descriptor, Area::Driver, Area::Device];
    let split = size(256, RingKind::Split);
    assert_eq!(
        areas.map(|area| area.len(split, RingKind::Split)),
        [4096, 518, 2054]
    );
    assert_eq!(
        areas.map(|area| area.alignment(RingKind::Split)),
        [16, 2, 4]
    );
    let packed = size(100, RingKind::Packed);
    assert_eq!(
        areas.map(|area| area.len(packed, RingKind::Packed)),
        [1600, 4, 4]
    );
    assert_eq!(
        areas.map(|area| area.alignment(RingKind::Packed)),
        [16, 4, 4]
    );
    let largest = size(32768, RingKind::Split);
    assert_eq!(Area::Descriptor.len(largest, RingKind::Split), 16 * 32768);
    assert_eq!(Area::Device.len(largest, RingKind::Split), 8 * 32768 + 6);
}

#[test]
fn addresses_are_aligned() {
    for kind in KINDS {
        let size = size(8, kind);
        for low in 0..32 {
            let check = |desc, driver, device| {
                Addresses {
                    desc,
                    driver,
                    device,
                }
                .validate(size, kind)
                .is_ok()
            };
            assert_eq!(check(low, 0, 0), low % 16 == 0);
            let alignment = if kind == RingKind::Split { 2 } else { 4 };
            assert_eq!(check(0, low, 0), low % alignment == 0);
            assert_eq!(check(0, 0, low), low % 4 == 0);
        }
    }
    let error = Addresses {
        desc: 0x1008,
        ..Addresses::default()
    }
    .validate(size(8, RingKind::Split), RingKind::Split)
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "descriptor area at 0x1008 is not aligned to 16 bytes"
    );
}

proptest! {
    #[test]
    fn areas_do_not_wrap(
        order in 0u32..=15,
        packed: bool,
        which in 0usize..3,
        below in (0u64..0x10_0000).prop_map(|n| n * 16),
    ) {
        let kind = KINDS[usize::from(packed)];
        let size = size(1 << order, kind);
        let area = [Area::Descriptor, Area::Driver, Area::Device][which];
        let address = 0u64.wrapping_sub(below);
        let mut addresses = Addresses::default();
        *[&mut addresses.desc, &mut addresses.driver, &mut addresses.device][which] = address;
        let wraps = u128::from(address) + u128::from(area.len(size, kind)) >= 1 << 64;
        let expected = if wraps { Err(QueueError::Wraps { area, address }) } else { Ok(()) };
        prop_assert_eq!(addresses.validate(size, kind), expected);
    }
}

#[test]
fn the_control_queue_is_behind_the_data_queues() {
    let index = |features, pairs| queue::control_index(DeviceId::NET, features, pairs);
    assert_eq!(index(net::CTRL_VQ, 4), Some(2));
    assert_eq!(index(net::CTRL_VQ | net::MQ, 4), Some(8));
    assert_eq!(index(net::CTRL_VQ | net::RSS, 4), Some(8));
    assert_eq!(index(net::CTRL_VQ | net::MQ, 1), Some(2));
    assert_eq!(index(net::MQ, 4), None);
    assert_eq!(index(net::CTRL_VQ | net::MQ, 0x7fff), Some(0xfffe));
    // Index 65536.
    assert_eq!(index(net::CTRL_VQ | net::MQ, 0x8000), None);
    assert_eq!(
        queue::control_index(DeviceId::BLOCK, net::CTRL_VQ | net::MQ, 4),
        None
    );
}

#[test]
fn the_number_of_queues_is_the_largest_that_can_be_negotiated() {
    let count = |features, pairs, num| queue::queue_count(DeviceId::NET, features, pairs, num);
    assert_eq!(count(net::CTRL_VQ | net::MQ, 2, 9), 5);
    assert_eq!(count(net::CTRL_VQ | net::RSS, 2, 9), 5);
    assert_eq!(count(net::MQ, 2, 9), 4);
    assert_eq!(count(net::CTRL_VQ, 1, 9), 3);
    assert_eq!(count(Features::EMPTY, 4, 9), 2);
    assert_eq!(count(net::CTRL_VQ | net::MQ, 4, 3), 3);
    assert_eq!(count(net::CTRL_VQ | net::MQ, 0xffff, 0xffff), 0xffff);
    assert_eq!(queue::queue_count(DeviceId::BLOCK, net::MQ, 1, 16), 16);
}

#[test]
fn a_map_shows_no_more_than_there_is() {
    for (shown, hardware, fine) in [
        (1, 1, true),
        (1, 0x8000, true),
        (0x8000, 0x8000, true),
        (0, 1, false),
        (2, 1, false),
        (1, 0x8001, false),
    ] {
        let map = QueueMap::new(shown, hardware);
        assert_eq!(map.is_ok(), fine, "{shown} of {hardware}");
        if let Ok(map) = map {
            assert_eq!((map.shown_pairs(), map.hardware_pairs()), (shown, hardware));
        }
    }
    assert_eq!(
        QueueMap::new(3, 2).unwrap_err().to_string(),
        "cannot show 3 queue pairs of a function that has 2"
    );
}

/// The queues of a network device in order, by what they are: the other way to count.
fn queues(pairs: u16, accepted: Features) -> Vec<String> {
    let pairs = match accepted.contains(net::MQ) || accepted.contains(net::RSS) {
        true => pairs,
        false => 1,
    };
    let mut queues = Vec::new();
    for pair in 0..pairs {
        queues.push(format!("receive {pair}"));
        queues.push(format!("transmit {pair}"));
    }
    if accepted.contains(net::CTRL_VQ) {
        queues.push("control".into());
    }
    queues
}

#[test]
fn each_queue_is_mapped_to_the_one_of_its_name_in_every_negotiation() {
    for hardware in 1..=8 {
        for shown in 1..=hardware {
            for choice in 0..8 {
                let mut accepted = Features::VERSION_1 | Features::ACCESS_PLATFORM;
                for (bit, feature) in [net::MQ, net::RSS, net::CTRL_VQ].into_iter().enumerate() {
                    if (choice >> bit) & 1 == 1 {
                        accepted = accepted | feature;
                    }
                }
                let map = QueueMap::new(shown, hardware).unwrap();
                let consumer = queues(shown, accepted);
                let function = queues(hardware, accepted);
                for index in (0..40).chain([0x7fff, 0x8000, 0xfffe, 0xffff]) {
                    let expected = consumer
                        .get(usize::from(index))
                        .and_then(|name| function.iter().position(|other| other == name));
                    let mapped = map.hardware_index(index, accepted, DeviceId::NET);
                    assert_eq!(
                        mapped.map(usize::from),
                        expected,
                        "queue {index}, {shown} of {hardware} pairs, {}",
                        accepted.names(DeviceId::NET)
                    );
                }
            }
        }
    }
}

#[test]
fn the_largest_device_has_no_index_for_its_control_queue() {
    let accepted = net::CTRL_VQ | net::MQ;
    let map = QueueMap::new(1, 0x8000).unwrap();
    assert_eq!(map.hardware_index(0, accepted, DeviceId::NET), Some(0));
    assert_eq!(map.hardware_index(2, accepted, DeviceId::NET), None);
    let map = QueueMap::new(0x8000, 0x8000).unwrap();
    for index in [0, 1, 0xfffe, 0xffff] {
        assert_eq!(
            map.hardware_index(index, accepted, DeviceId::NET),
            Some(index)
        );
    }
}

proptest! {
    #[test]
    fn other_devices_have_their_queues_in_place(index: u16, bits: u64, id in 2u32..60) {
        let map = QueueMap::new(1, 1).unwrap();
        let mapped = map.hardware_index(index, Features::from_bits(bits), DeviceId::new(id));
        prop_assert_eq!(mapped, Some(index));
    }

    #[test]
    fn no_two_queues_share_one(
        shown in 1u16..=0x8000,
        more in 0u16..0x8000,
        bits: u64,
        one: u16,
        other: u16,
    ) {
        let hardware = shown.saturating_add(more).min(0x8000);
        let map = QueueMap::new(shown, hardware).unwrap();
        let index = |queue| map.hardware_index(queue, Features::from_bits(bits), DeviceId::NET);
        if let (Some(a), Some(b)) = (index(one), index(other)) {
            prop_assert_eq!(a == b, one == other);
        }
    }
}

#[test]
fn addresses_are_checked_before_the_size_is_known() {
    let good = Addresses {
        desc: 0x1000,
        driver: 0x2002,
        device: 0x3004,
    };
    assert_eq!(good.check(RingKind::Split), Ok(()));
    // Packed rings have event suppression structures of 4 bytes.
    assert!(good.check(RingKind::Packed).is_err());
    for bad in [
        Addresses { desc: 8, ..good },
        Addresses { driver: 1, ..good },
        Addresses { device: 2, ..good },
        Addresses { desc: !15, ..good },
    ] {
        assert!(bad.check(RingKind::Split).is_err(), "{bad:?}");
    }
}
