// SPDX-License-Identifier: GPL-2.0

//! MSI-X: a window must not lie on its table, which decides where interrupts go.

use virtio::capability::parse;
use virtio::capability::Bar;
use virtio::capability::CapabilityError;
use virtio::capability::Kind;
use virtio::capability::Layout;

/// Common configuration at 0 and doorbells from 0x3000 to 0x4000 of BAR 4, and MSI-X with `entries`
/// vectors, whose table and pending bits are at the given offsets of a BAR.
fn function(entries: u16, table: (u8, u32), pending: (u8, u32)) -> Result<Layout, CapabilityError> {
    let mut config = vec![0_u8; 256];
    config[0x06] = 0x10;
    config[0x34] = 0x40;
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x40, &[9, 0x50, 16, 1, 4, 0, 0, 0]);
    put(0x4c, &0x1000_u32.to_le_bytes());
    put(0x50, &[9, 0x70, 20, 2, 4, 0, 0, 0]);
    put(0x58, &0x3000_u32.to_le_bytes());
    put(0x5c, &0x1000_u32.to_le_bytes());
    put(0x60, &4_u32.to_le_bytes());
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
    // In a BAR that is not there: the function has no MSI-X then.
    assert!(function(3, (2, 0x3000), (1, 0)).is_ok());
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
