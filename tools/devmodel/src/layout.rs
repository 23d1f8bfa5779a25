// SPDX-License-Identifier: GPL-2.0

//! Where things are in the BARs.

use crate::shape::Shape;

/// The BAR of the virtio structures.
pub const REGISTERS_BAR: u8 = 0;
/// The BAR of the MSI-X table and its pending bits.
pub const VECTORS_BAR: u8 = 1;
/// A BAR that the function does not have.
pub const NO_BAR: u8 = 4;

/// Common configuration: its place in the BAR of the registers.
pub const COMMON: u32 = 0;
/// Its length in bytes, up to `queue_reset`.
pub const COMMON_LEN: u32 = 0x3c;
/// Interrupt status, which nobody needs: there is no INTx.
pub const ISR: u32 = 0x800;
/// Device configuration.
pub const DEVICE: u32 = 0x1000;
/// Doorbells.
pub const NOTIFY: u32 = 0x1_0000;

/// Pending bits: their place in the BAR of the vectors, behind the greatest table.
pub const PENDING: u32 = 0x8000;
/// Length of that BAR.
pub const VECTORS_LEN: u32 = 0x1_0000;

/// Most bytes of doorbells: with all of it a port that was empty at boot has room for the function.
const MOST_DOORBELLS: u32 = 0x8_0000;

/// The bytes from one doorbell to the next: a page, if there is room.
pub fn doorbell_stride(shape: &Shape) -> u32 {
    if u32::from(shape.queues()) * 4096 <= MOST_DOORBELLS {
        4096
    } else {
        4
    }
}

/// The bytes that doorbells take.
pub fn doorbells_len(shape: &Shape) -> u32 {
    u32::from(shape.queues()) * doorbell_stride(shape)
}

/// Length of the BAR of the registers, whatever the shape.
pub const REGISTERS_LEN: u32 = (NOTIFY + MOST_DOORBELLS).next_power_of_two();

/// Copies from `bytes`; what lies behind their end is 0.
pub fn read(bytes: &[u8], offset: u64, data: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = bytes.get(start..).unwrap_or_default();
    for (byte, value) in data
        .iter_mut()
        .zip(from.iter().chain(std::iter::repeat(&0)))
    {
        *byte = *value;
    }
}
