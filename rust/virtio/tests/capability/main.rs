// SPDX-License-Identifier: GPL-2.0

//! Capability lists, honest and hostile.

mod any;
mod list;
mod windows;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use virtio::capability::parse;
use virtio::capability::Bar;
use virtio::capability::CapabilityError;
use virtio::capability::Kind;
use virtio::capability::Layout;
use virtio::capability::Window;

const BARS: [Option<Bar>; 6] = [
    None,
    None,
    None,
    None,
    Some(Bar { len: 0x8000 }),
    Some(Bar { len: 1 << 33 }),
];

/// A capability as a device would have it.
#[derive(Copy, Clone, Debug)]
struct Cap {
    at: u8,
    id: u8,
    len: u8,
    cfg_type: u8,
    bar: u8,
    offset: u32,
    length: u32,
    multiplier: u32,
}

fn cap(at: u8, cfg_type: u8, offset: u32, length: u32) -> Cap {
    Cap {
        at,
        id: 9,
        len: if cfg_type == 2 { 20 } else { 16 },
        cfg_type,
        bar: 4,
        offset,
        length,
        multiplier: 4,
    }
}

/// The function that QEMU makes.
fn good() -> Vec<Cap> {
    vec![
        cap(0x40, 1, 0x0000, 0x1000),
        cap(0x50, 3, 0x1000, 0x1000),
        cap(0x60, 4, 0x2000, 0x1000),
        cap(0x70, 2, 0x3000, 0x1000),
        // Access through the configuration space: not ours.
        cap(0x84, 5, 0, 0),
    ]
}

fn space(caps: &[Cap]) -> Vec<u8> {
    let mut config = vec![0u8; 256];
    config[0x06] = 0x10;
    config[0x34] = caps.first().map_or(0, |cap| cap.at);
    for (index, cap) in caps.iter().enumerate() {
        let next = caps.get(index + 1).map_or(0, |cap| cap.at);
        let mut bytes = vec![cap.id, next, cap.len, cap.cfg_type, cap.bar, 0, 0, 0];
        bytes.extend(cap.offset.to_le_bytes());
        bytes.extend(cap.length.to_le_bytes());
        if cap.cfg_type == 2 {
            bytes.extend(cap.multiplier.to_le_bytes());
        }
        let at = usize::from(cap.at);
        let end = (at + bytes.len()).min(config.len());
        config[at..end].copy_from_slice(&bytes[..end - at]);
    }
    config
}

fn parse_caps(caps: &[Cap]) -> Result<Layout, CapabilityError> {
    parse(&space(caps), &BARS)
}

/// `good` with one change to the capability number `index`.
fn with(index: usize, change: impl FnOnce(&mut Cap)) -> Result<Layout, CapabilityError> {
    let mut caps = good();
    change(&mut caps[index]);
    parse_caps(&caps)
}

fn place(window: &Window) -> (u8, u32, u32) {
    (window.bar(), window.offset(), window.length())
}

#[test]
fn an_honest_function_is_understood() {
    let layout = parse_caps(&good()).unwrap();
    assert_eq!(place(layout.common()), (4, 0, 0x1000));
    assert_eq!(place(layout.isr().unwrap()), (4, 0x1000, 0x1000));
    assert_eq!(place(layout.device().unwrap()), (4, 0x2000, 0x1000));
    assert_eq!(place(layout.notify().window()), (4, 0x3000, 0x1000));
    assert_eq!(layout.notify().multiplier(), 4);
}

#[test]
fn interrupt_status_and_device_configuration_are_optional() {
    let caps: Vec<Cap> = good()
        .into_iter()
        .filter(|cap| matches!(cap.cfg_type, 1 | 2))
        .collect();
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.isr(), None);
    assert_eq!(layout.device(), None);

    // So they are with a length of 0, and the interrupt status in I/O ports.
    let layout = with(2, |cap| cap.length = 0).unwrap();
    assert_eq!(layout.device(), None);
    let layout = with(1, |cap| cap.bar = 0).unwrap();
    assert_eq!(layout.isr(), None);
    // But a device configuration that cannot be reached is not "no configuration".
    assert_eq!(
        with(2, |cap| cap.bar = 0),
        Err(CapabilityError::NoBar {
            kind: Kind::Device,
            bar: 0
        })
    );
}

#[test]
fn the_rest_is_not() {
    for (cfg_type, text) in [
        (1, "function has no common configuration capability"),
        (2, "function has no notification capability"),
    ] {
        let caps: Vec<Cap> = good()
            .into_iter()
            .filter(|cap| cap.cfg_type != cfg_type)
            .collect();
        assert_eq!(parse_caps(&caps).unwrap_err().to_string(), text);
    }
}

#[test]
fn the_first_good_capability_of_a_kind_wins() {
    let mut caps = good();
    caps.push(cap(0xa0, 1, 0x7000, 0x100));
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.common().offset(), 0);

    // I/O ports first, as legacy drivers like it, then memory.
    caps[0].bar = 0;
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.common().offset(), 0x7000);

    // Nothing good: the first error is told.
    caps[5].length = 8;
    assert_eq!(
        parse_caps(&caps).unwrap_err().to_string(),
        "common configuration window is in BAR 0, which is not a memory BAR"
    );
}

#[test]
fn capabilities_that_are_not_ours_are_ignored() {
    let mut caps = good();
    caps[4].cfg_type = 200;
    assert!(parse_caps(&caps).is_ok());
    // PCI Express with the bytes of a second common configuration.
    let mut express = cap(0xa0, 1, 0, 1);
    express.id = 0x10;
    caps.insert(0, express);
    let layout = parse_caps(&caps).unwrap();
    assert_eq!(layout.common().length(), 0x1000);
}
