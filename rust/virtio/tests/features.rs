// SPDX-License-Identifier: GPL-2.0

//! Feature sets, their names, and device types.

use proptest::prelude::*;
use virtio::device_id::DeviceId;
use virtio::device_id::PCI_VENDOR;
use virtio::features::blk;
use virtio::features::net;
use virtio::features::Features;

/// Bit numbers from `include/uapi/linux/virtio_config.h`, `virtio_ring.h` and the specification,
/// written down a second time.
const TRANSPORT: &[(u32, &str, Features)] = &[
    (24, "NOTIFY_ON_EMPTY", Features::NOTIFY_ON_EMPTY),
    (27, "ANY_LAYOUT", Features::ANY_LAYOUT),
    (28, "RING_INDIRECT_DESC", Features::RING_INDIRECT_DESC),
    (29, "RING_EVENT_IDX", Features::RING_EVENT_IDX),
    (32, "VERSION_1", Features::VERSION_1),
    (33, "ACCESS_PLATFORM", Features::ACCESS_PLATFORM),
    (34, "RING_PACKED", Features::RING_PACKED),
    (35, "IN_ORDER", Features::IN_ORDER),
    (36, "ORDER_PLATFORM", Features::ORDER_PLATFORM),
    (37, "SR_IOV", Features::SR_IOV),
    (38, "NOTIFICATION_DATA", Features::NOTIFICATION_DATA),
    (39, "NOTIF_CONFIG_DATA", Features::NOTIF_CONFIG_DATA),
    (40, "RING_RESET", Features::RING_RESET),
    (41, "ADMIN_VQ", Features::ADMIN_VQ),
    (43, "SUSPEND", Features::SUSPEND),
];

/// From `include/uapi/linux/virtio_net.h` and, for 51, the specification.
const NET: &[(u32, &str, Features)] = &[
    (0, "CSUM", net::CSUM),
    (1, "GUEST_CSUM", net::GUEST_CSUM),
    (2, "CTRL_GUEST_OFFLOADS", net::CTRL_GUEST_OFFLOADS),
    (3, "MTU", net::MTU),
    (5, "MAC", net::MAC),
    (6, "GSO", net::GSO),
    (7, "GUEST_TSO4", net::GUEST_TSO4),
    (8, "GUEST_TSO6", net::GUEST_TSO6),
    (9, "GUEST_ECN", net::GUEST_ECN),
    (10, "GUEST_UFO", net::GUEST_UFO),
    (11, "HOST_TSO4", net::HOST_TSO4),
    (12, "HOST_TSO6", net::HOST_TSO6),
    (13, "HOST_ECN", net::HOST_ECN),
    (14, "HOST_UFO", net::HOST_UFO),
    (15, "MRG_RXBUF", net::MRG_RXBUF),
    (16, "STATUS", net::STATUS),
    (17, "CTRL_VQ", net::CTRL_VQ),
    (18, "CTRL_RX", net::CTRL_RX),
    (19, "CTRL_VLAN", net::CTRL_VLAN),
    (20, "CTRL_RX_EXTRA", net::CTRL_RX_EXTRA),
    (21, "GUEST_ANNOUNCE", net::GUEST_ANNOUNCE),
    (22, "MQ", net::MQ),
    (23, "CTRL_MAC_ADDR", net::CTRL_MAC_ADDR),
    (50, "DEVICE_STATS", net::DEVICE_STATS),
    (51, "HASH_TUNNEL", net::HASH_TUNNEL),
    (52, "VQ_NOTF_COAL", net::VQ_NOTF_COAL),
    (53, "NOTF_COAL", net::NOTF_COAL),
    (54, "GUEST_USO4", net::GUEST_USO4),
    (55, "GUEST_USO6", net::GUEST_USO6),
    (56, "HOST_USO", net::HOST_USO),
    (57, "HASH_REPORT", net::HASH_REPORT),
    (59, "GUEST_HDRLEN", net::GUEST_HDRLEN),
    (60, "RSS", net::RSS),
    (61, "RSC_EXT", net::RSC_EXT),
    (62, "STANDBY", net::STANDBY),
    (63, "SPEED_DUPLEX", net::SPEED_DUPLEX),
];

/// From `include/uapi/linux/virtio_blk.h` and, for 15, the specification.
const BLK: &[(u32, &str, Features)] = &[
    (0, "BARRIER", blk::BARRIER),
    (1, "SIZE_MAX", blk::SIZE_MAX),
    (2, "SEG_MAX", blk::SEG_MAX),
    (4, "GEOMETRY", blk::GEOMETRY),
    (5, "RO", blk::RO),
    (6, "BLK_SIZE", blk::BLK_SIZE),
    (7, "SCSI", blk::SCSI),
    (9, "FLUSH", blk::FLUSH),
    (10, "TOPOLOGY", blk::TOPOLOGY),
    (11, "CONFIG_WCE", blk::CONFIG_WCE),
    (12, "MQ", blk::MQ),
    (13, "DISCARD", blk::DISCARD),
    (14, "WRITE_ZEROES", blk::WRITE_ZEROES),
    (15, "LIFETIME", blk::LIFETIME),
    (16, "SECURE_ERASE", blk::SECURE_ERASE),
    (17, "ZONED", blk::ZONED),
];

#[test]
fn every_bit_has_the_number_and_the_name_of_the_specification() {
    for (class, table) in [(DeviceId::NET, NET), (DeviceId::BLOCK, BLK)] {
        for bit in 0..64 {
            let known = TRANSPORT.iter().chain(table).find(|row| row.0 == bit);
            let name = Features::bit(bit).names(class).to_string();
            match known {
                Some((_, expected, constant)) => {
                    assert_eq!(name, *expected);
                    assert_eq!(constant.bits(), 1 << bit, "{expected}");
                }
                None => assert_eq!(name, format!("bit{bit}")),
            }
        }
    }
}

#[test]
fn an_unknown_class_has_names_for_the_transport_only() {
    let set = net::MQ | Features::VERSION_1;
    assert_eq!(set.names(DeviceId::VSOCK).to_string(), "bit22 VERSION_1");
}

#[test]
fn names_are_listed_lowest_bit_first() {
    let set = Features::ACCESS_PLATFORM | Features::bit(58) | Features::VERSION_1 | net::MQ;
    assert_eq!(
        set.names(DeviceId::NET).to_string(),
        "MQ VERSION_1 ACCESS_PLATFORM bit58"
    );
    assert_eq!(Features::EMPTY.names(DeviceId::NET).to_string(), "none");
}

#[test]
fn bits_past_the_last_make_no_set() {
    assert_eq!(Features::bit(63).bits(), 1 << 63);
    for bit in [64, 65, 128, u32::MAX] {
        assert_eq!(Features::bit(bit), Features::EMPTY);
    }
}

proptest! {
    #[test]
    fn sets_behave_like_sets(a: u64, b: u64) {
        let (x, y) = (Features::from_bits(a), Features::from_bits(b));
        for bit in 0..64 {
            let one = Features::bit(bit);
            let (in_a, in_b) = ((a >> bit) & 1 == 1, (b >> bit) & 1 == 1);
            prop_assert_eq!(x.contains(one), in_a);
            prop_assert_eq!((x | y).contains(one), in_a || in_b);
            prop_assert_eq!((x & y).contains(one), in_a && in_b);
            prop_assert_eq!((x - y).contains(one), in_a && !in_b);
        }
        prop_assert_eq!(x.contains(y), (y - x).is_empty());
        prop_assert_eq!(x.intersects(y), !(x & y).is_empty());
        prop_assert_eq!(x.is_empty(), a == 0);
        prop_assert_eq!(x.bits(), a);
    }

    #[test]
    fn as_many_names_as_bits(bits in 1u64..) {
        let names = Features::from_bits(bits).names(DeviceId::NET).to_string();
        prop_assert_eq!(names.split(' ').count(), bits.count_ones() as usize);
    }
}

#[test]
fn device_types_come_from_pci_ids() {
    let cases = [
        // (vendor, device, subsystem, type)
        (0x1af4, 0x1041, 0x1100, Some(1)),
        (0x1af4, 0x1042, 0x0000, Some(2)),
        (0x1af4, 0x107f, 0x0001, Some(63)),
        (0x1af4, 0x1080, 0x0001, None),
        (0x1af4, 0x1040, 0x0001, None),
        (0x1af4, 0x103f, 0x0005, Some(5)),
        (0x1af4, 0x1000, 0x0001, Some(1)),
        (0x1af4, 0x1000, 0x0000, None),
        (0x1af4, 0x0fff, 0x0001, None),
        (0x8086, 0x1041, 0x0001, None),
        (0xffff, 0xffff, 0xffff, None),
    ];
    for (vendor, device, subsystem, id) in cases {
        assert_eq!(
            DeviceId::from_pci(vendor, device, subsystem),
            id.map(DeviceId::new),
            "{vendor:04x}:{device:04x} subsystem {subsystem:04x}"
        );
    }
    assert_eq!(PCI_VENDOR, 0x1af4);
    assert_eq!(DeviceId::from_pci(0x1af4, 0x1041, 0), Some(DeviceId::NET));
}

/// From `include/uapi/linux/virtio_ids.h`, with the names of the kernel's drivers.
#[test]
fn device_types_have_numbers_and_names() {
    let types = [
        (1, DeviceId::NET, "net"),
        (2, DeviceId::BLOCK, "blk"),
        (3, DeviceId::CONSOLE, "console"),
        (4, DeviceId::RNG, "rng"),
        (5, DeviceId::BALLOON, "balloon"),
        (8, DeviceId::SCSI, "scsi"),
        (9, DeviceId::P9, "9p"),
        (16, DeviceId::GPU, "gpu"),
        (18, DeviceId::INPUT, "input"),
        (19, DeviceId::VSOCK, "vsock"),
        (20, DeviceId::CRYPTO, "crypto"),
        (23, DeviceId::IOMMU, "iommu"),
        (24, DeviceId::MEM, "mem"),
        (25, DeviceId::SOUND, "sound"),
        (26, DeviceId::FS, "fs"),
        (27, DeviceId::PMEM, "pmem"),
    ];
    for id in 0..70 {
        let device = DeviceId::new(id);
        assert_eq!(device.id(), id);
        match types.iter().find(|row| row.0 == id) {
            Some((_, constant, name)) => {
                assert_eq!(device, *constant);
                assert_eq!(device.name(), *name);
                assert_eq!(device.to_string(), *name);
            }
            None => {
                assert_eq!(device.name(), "unknown");
                assert_eq!(device.to_string(), format!("type {id}"));
            }
        }
    }
}
