// SPDX-License-Identifier: GPL-2.0

//! The announcement of a guest, as a switch reads it.

use virtio::announce::Announcement;
use virtio::features::net;
use virtio::features::Features;

const MAC: [u8; 6] = [2, 0, 0, 0, 0x12, 0x34];

fn frame(negotiated: Features, header: usize) -> Vec<u8> {
    let announcement = Announcement::new(MAC, negotiated);
    let (before, frame) = announcement.bytes().split_at(header);
    assert_eq!(before, vec![0; header], "no checksum, no segments");
    frame.to_vec()
}

/// RFC 903: the station asks everybody for the protocol address of its own hardware address.
#[test]
fn it_is_a_reverse_arp_request() {
    let frame = frame(Features::VERSION_1, 12);
    assert_eq!(frame.len(), 60, "the shortest that may be sent");
    assert_eq!(frame[..6], [0xff; 6]);
    assert_eq!(frame[6..12], MAC);
    assert_eq!(frame[12..14], [0x80, 0x35]);
    let arp = &frame[14..];
    assert_eq!(arp[..8], [0, 1, 8, 0, 6, 4, 0, 3]);
    assert_eq!(arp[8..14], MAC, "sender");
    assert_eq!(arp[14..18], [0; 4]);
    assert_eq!(arp[18..24], MAC, "target");
    assert!(arp[24..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_header_is_as_long_as_the_features_make_it() {
    let plain = frame(Features::VERSION_1.union(net::RSS), 12);
    let hashed = frame(Features::VERSION_1.union(net::HASH_REPORT), 20);
    assert_eq!(plain, hashed);
}
