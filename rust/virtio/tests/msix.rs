// SPDX-License-Identifier: GPL-2.0

//! MSI-X: a window must not lie on its table, which decides where interrupts go.

use virtio::capability::parse;
use virtio::capability::Bar;
use virtio::capability::CapabilityError;
use virtio::capability::Kind;
use virtio::capability::Layout;

/// A configuration space with both windows in a BAR: common configuration at 0, doorbells at 0x3000. Behind
/// them, at 0x70, is room for more capabilities.
fn windows(bar: u8) -> Vec<u8> {
    let mut config = vec![0_u8; 256];
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x40, &[9, 0x50, 16, 1, bar, 0, 0, 0]);
    put(0x4c, &0x1000_u32.to_le_bytes());
    put(0x50, &[9, 0x70, 20, 2, bar, 0, 0, 0]);
    put(0x58, &0x3000_u32.to_le_bytes());
    put(0x5c, &0x1000_u32.to_le_bytes());
    put(0x60, &4_u32.to_le_bytes());
    config
}

/// Common configuration at 0 and doorbells from 0x3000 to 0x4000 of BAR 4, and MSI-X with `entries`
/// vectors, whose table and pending bits are at the given offsets of a BAR.
fn function(entries: u16, table: (u8, u32), pending: (u8, u32)) -> Result<Layout, CapabilityError> {
    let mut config = windows(4);
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x70, &[0x11, 0]);
    put(0x72, &(entries - 1).to_le_bytes());
    put(0x74, &(table.1 | u32::from(table.0)).to_le_bytes());
    put(0x78, &(pending.1 | u32::from(pending.0)).to_le_bytes());
    let bars = [
        None,
        Some(Bar { len: 0x1000 }),
        None,
        None,
        Some(Bar { len: 0x8000 }),
        None,
    ];
    parse(&config, &bars)
}

#[test]
fn a_table_elsewhere_does_not_matter() {
    assert!(function(3, (1, 0), (1, 0x800)).is_ok());
    assert!(function(3, (4, 0x4000), (4, 0x5000)).is_ok());
}

/// The PCI core writes to it there.
#[test]
fn a_table_outside_of_its_bar_is_refused() {
    let no_bar = |kind, bar| Err(CapabilityError::NoBar { kind, bar });
    assert_eq!(function(3, (2, 0), (1, 0)), no_bar(Kind::VectorTable, 2));
    let outside = |kind, end| {
        Err(CapabilityError::Outside {
            kind,
            bar: 1,
            end,
            bar_len: 0x1000,
        })
    };
    assert!(function(2, (1, 0xfe0), (1, 0)).is_ok());
    assert_eq!(
        function(3, (1, 0xfe0), (1, 0)),
        outside(Kind::VectorTable, 0x1010)
    );
    // Nobody writes to the pending bits, but whatever is wrong with those, the table counts.
    for pending in [(7, 0), (1, 0x1000)] {
        assert!(function(3, (1, 0), pending).is_ok());
        assert_eq!(
            function(3, (4, 0x3ff0), pending),
            Err(CapabilityError::Overlap(Kind::Notify, Kind::VectorTable))
        );
    }
    assert_eq!(
        function(1, (1, 0xffff_fff8), (1, 0)),
        outside(Kind::VectorTable, 0x1_0000_0008)
    );
}

/// The PCI core takes the first one.
#[test]
fn only_the_first_of_two_counts() {
    let bars = [Some(Bar { len: 0x8000 }), None, None, None, None, None];
    let mut config = windows(0);
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x70, &[0x11, 0x80, 0, 0, 0, 0x40, 0, 0, 0, 0x50, 0, 0]);
    // Of a BAR that is not there.
    put(0x80, &[0x11, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0]);
    assert!(parse(&config, &bars).is_ok());
    config[0x34] = 0x80;
    config[0x81] = 0x40;
    let bar = 3;
    let kind = Kind::VectorTable;
    assert_eq!(
        parse(&config, &bars),
        Err(CapabilityError::NoBar { kind, bar })
    );
    // Cut off by the end of the configuration space.
    config[0x34] = 0xfc;
    config[0xfc] = 0x11;
    assert!(matches!(
        parse(&config, &bars),
        Err(CapabilityError::Truncated { at: 0xfc, .. })
    ));
}

#[test]
fn a_table_among_the_doorbells_is_refused() {
    let overlap = |kind| Err(CapabilityError::Overlap(Kind::Notify, kind));
    assert_eq!(function(3, (4, 0x3ff0), (1, 0)), overlap(Kind::VectorTable));
    assert_eq!(function(3, (1, 0), (4, 0x3ff8)), overlap(Kind::PendingBits));
}

/// The length of both follows from the number of vectors.
#[test]
fn only_the_bytes_in_use_count() {
    assert!(function(128, (4, 0x3000 - 128 * 16), (1, 0)).is_ok());
    assert!(function(129, (4, 0x3000 - 128 * 16), (1, 0)).is_err());
    assert!(function(64, (1, 0), (4, 0x3000 - 8)).is_ok());
    assert!(function(65, (1, 0), (4, 0x3000 - 8)).is_err());
}

/// All kinds of window are meant.
#[test]
fn a_table_in_the_common_configuration_is_refused() {
    assert_eq!(
        function(1, (4, 0xff0), (1, 0)),
        Err(CapabilityError::Overlap(Kind::Common, Kind::VectorTable))
    );
}
