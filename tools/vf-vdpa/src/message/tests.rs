// SPDX-License-Identifier: GPL-2.0

//! Messages byte by byte, as a little-endian kernel has them.

use std::io::Cursor;

use neli::{FromBytesWithInput, Size, ToBytes};

use super::*;

/// One attribute as bytes: length, type, payload, padding.
fn attribute_bytes(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn parsed(command: u8, attributes: &[(u16, &[u8])]) -> Message {
    let mut bytes = vec![command, 1, 0, 0];
    for (kind, payload) in attributes {
        bytes.extend(attribute_bytes(*kind, payload));
    }
    let length = bytes.len();
    Message::from_bytes_with_input(&mut Cursor::new(bytes), length).unwrap()
}

fn bytes_of(request: &Request) -> Vec<u8> {
    let message = request.encode().unwrap();
    let mut buffer = Cursor::new(vec![0; message.padded_size()]);
    message.to_bytes(&mut buffer).unwrap();
    buffer.into_inner()
}

#[test]
#[cfg(target_endian = "little")]
fn a_device_is_asked_for_in_these_bytes() {
    let add = Add {
        function: "01:00.1".parse().unwrap(),
        name: "c0".parse().unwrap(),
        mac: Some("02:00:00:00:00:05".parse().unwrap()),
        mtu: Some(8000),
        max_vqp: Some(2),
        features: Some(0x3_0000_0020),
    };
    #[rustfmt::skip]
    let expected = [
        &[3, 1, 0, 0][..],
        &[8, 0, 1, 0], b"pci\0",
        &[17, 0, 2, 0], b"0000:01:00.1\0", &[0, 0, 0],
        &[7, 0, 4, 0], b"c0\0", &[0],
        &[10, 0, 10, 0], &[2, 0, 0, 0, 0, 5], &[0, 0],
        &[6, 0, 13, 0], &[0x40, 0x1f], &[0, 0],
        &[6, 0, 12, 0], &[2, 0], &[0, 0],
        &[12, 0, 20, 0], &[0x20, 0, 0, 0, 3, 0, 0, 0],
    ]
    .concat();
    assert_eq!(bytes_of(&Request::Add(add)), expected);
}

#[test]
fn what_is_not_asked_for_is_not_sent() {
    let add = Add {
        function: "01:00.1".parse().unwrap(),
        name: "c0".parse().unwrap(),
        mac: None,
        mtu: None,
        max_vqp: None,
        features: None,
    };
    let message = Request::Add(add).encode().unwrap();
    let kinds: Vec<u16> = message
        .attrs()
        .as_ref()
        .iter()
        .map(|one: &Attribute| *one.nla_type().nla_type())
        .collect();
    assert_eq!(kinds, [1, 2, 4]);
}

#[test]
#[cfg(target_endian = "little")]
fn other_requests_are_these_bytes() {
    let name = || "c0".to_owned();
    let c0: [u8; 8] = *b"\x07\0\x04\0c0\0\0";
    assert_eq!(
        bytes_of(&Request::Family),
        b"\x03\x02\0\0\x09\0\x02\0vdpa\0\0\0\0"
    );
    assert_eq!(bytes_of(&Request::Parents), [2, 1, 0, 0]);
    assert_eq!(bytes_of(&Request::Devices), [5, 1, 0, 0]);
    assert_eq!(
        bytes_of(&Request::Config(name())),
        [&[6, 1, 0, 0][..], &c0].concat()
    );
    assert_eq!(
        bytes_of(&Request::Queue(name(), 2)),
        [&[7, 1, 0, 0][..], &c0, &[8, 0, 17, 0, 2, 0, 0, 0]].concat()
    );
    assert_eq!(
        bytes_of(&Request::Delete("c0".parse().unwrap())),
        [&[4, 1, 0, 0][..], &c0].concat()
    );
    let mac = "02:00:00:00:00:05".parse().unwrap();
    assert_eq!(
        bytes_of(&Request::SetMac("c0".parse().unwrap(), mac)),
        [&[8, 1, 0, 0][..], &c0, b"\x0a\0\x0a\0\x02\0\0\0\0\x05\0\0"].concat()
    );
}

#[test]
fn a_management_device_is_read() {
    let classes = 2_u64.to_ne_bytes();
    let vqs = 3_u32.to_ne_bytes();
    let features = 0x3_0000_0020_u64.to_ne_bytes();
    let attributes: [(u16, &[u8]); 7] = [
        (1, b"pci\0"),
        (2, b"0000:01:00.1\0"),
        (0, b""),
        (3, &classes),
        (15, &vqs),
        (16, &features),
        // One of a kernel that is newer than this tool.
        (4711, b"what"),
    ];
    let expected = Parent {
        handle: "pci/0000:01:00.1".to_owned(),
        classes: 2,
        max_vqs: Some(3),
        features: Some(0x3_0000_0020),
    };
    assert_eq!(Parent::decode(&parsed(1, &attributes)).unwrap(), expected);
    let bare = Parent::decode(&parsed(1, &[(2, b"vdpasim_net\0")])).unwrap();
    assert_eq!(bare.handle, "vdpasim_net");
    assert!(Parent::decode(&parsed(1, &[])).is_err());
}

#[test]
fn a_device_and_its_configuration_are_read() {
    let (one, vqs, size) = (
        1_u32.to_ne_bytes(),
        3_u32.to_ne_bytes(),
        256_u16.to_ne_bytes(),
    );
    let device = parsed(
        3,
        &[
            (1, b"pci\0"),
            (2, b"0000:01:00.1\0"),
            (4, b"c0\0"),
            (5, &one),
            (7, &vqs),
            (8, &size),
        ],
    );
    let expected = Device {
        name: "c0".to_owned(),
        parent: Some("pci/0000:01:00.1".to_owned()),
        class: 1,
        max_vqs: 3,
        max_vq_size: Some(256),
    };
    assert_eq!(Device::decode(&device).unwrap(), expected);

    let (mtu, pairs) = (9000_u16.to_ne_bytes(), 4_u16.to_ne_bytes());
    let config = parsed(
        6,
        &[
            (4, b"c0\0"),
            (10, &[2, 0, 0, 0, 0, 5]),
            (11, &1_u16.to_ne_bytes()),
            (12, &pairs),
            (13, &mtu),
        ],
    );
    let expected = Config {
        mac: Some([2, 0, 0, 0, 0, 5]),
        mtu: Some(9000),
        max_vqp: Some(4),
        link: Some(true),
        features: None,
        negotiated: None,
    };
    assert_eq!(Config::decode(&config).unwrap(), expected);
}

#[test]
fn an_attribute_of_another_length_is_an_error() {
    let config = parsed(6, &[(10, &[2, 0, 0])]);
    let error = Config::decode(&config).unwrap_err().to_string();
    assert_eq!(error, "the kernel's attribute 10 has 3 bytes, not 6");
    assert!(family(&parsed(1, &[(1, &[1])])).is_err());
    assert!(family(&parsed(1, &[])).is_err());
    assert_eq!(
        family(&parsed(1, &[(1, &33_u16.to_ne_bytes())])).unwrap(),
        33
    );
}

#[test]
fn statistics_are_pairs() {
    let (kicks, ready) = (890_u64.to_ne_bytes(), 1_u64.to_ne_bytes());
    let message = parsed(
        7,
        &[
            (4, b"c0\0"),
            (18, b"kicks\0"),
            (19, &kicks),
            (0, b""),
            (18, b"ready\0"),
            (19, &ready),
        ],
    );
    let expected = [("kicks".to_owned(), 890), ("ready".to_owned(), 1)];
    assert_eq!(statistics(&message), expected);
    // A number without a name, and a name without a number.
    let odd = parsed(7, &[(19, &kicks), (18, b"ready\0")]);
    assert_eq!(statistics(&odd), []);
}

#[test]
fn the_kernels_words_are_found() {
    let bytes = attribute_bytes(1, b"vdpa: device not found\0");
    let length = bytes.len();
    let attributes = GenlBuffer::from_bytes_with_input(&mut Cursor::new(bytes), length).unwrap();
    assert_eq!(words(&attributes).as_deref(), Some("device not found"));
    assert_eq!(words(&GenlBuffer::new()), None);
}
