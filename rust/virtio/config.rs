// SPDX-License-Identifier: GPL-2.0

//! Reading the device configuration: without tearing, and within its bounds (virtio 1.3, 2.5).

use core::ops::Range;

use crate::device_id::DeviceId;
use crate::net;

/// Reads a configuration that the device may change meanwhile.
///
/// Calls `read` between two calls of `generation`, at most `attempts` times and at least once, until
/// the generation is the same before and after and `read` says that it found what was there the time
/// before (the first time: what was known). Returns whether it came to that: if not, what was read last
/// may be torn. The first error of either ends the attempt.
///
/// The generation of virtio PCI is an 8-bit counter that the device bumps on a change
/// (virtio 1.3, 4.1.4.3.1). Devices are known that do not when a command of the driver changes the MAC
/// address, which no single access reads: so a change is only believed when it is seen twice. A device
/// that never stops changing must not hold up its host.
pub fn read_stable<E>(
    attempts: u32,
    mut generation: impl FnMut() -> Result<u32, E>,
    mut read: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let mut before = generation()?;
    for _ in 0..attempts.max(1) {
        let same = read()?;
        let after = generation()?;
        if same && before == after {
            return Ok(true);
        }
        before = after;
    }
    Ok(false)
}

/// How the bytes of a request are divided between the configuration and zeroes; see [`clamp`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Span {
    start: usize,
    copied: usize,
    len: usize,
}

impl Span {
    /// The bytes of the configuration that exist; may be empty.
    #[must_use]
    pub fn source(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.copied)
    }

    /// The bytes of the request that come from the configuration.
    #[must_use]
    pub fn copy(&self) -> Range<usize> {
        0..self.copied
    }

    /// The bytes of the request that lie behind the configuration and read as zero.
    #[must_use]
    pub fn zero(&self) -> Range<usize> {
        self.copied..self.len
    }

    /// Fills with zeroes what is not copied, and returns the part of `out` to copy to: as many bytes
    /// as [`Self::source`] has, unless `out` is shorter.
    pub fn prepare<'a>(&self, out: &'a mut [u8]) -> &'a mut [u8] {
        let middle = self.copied.min(out.len());
        let (copy, zero) = out.split_at_mut_checked(middle).unwrap_or_default();
        zero.fill(0);
        copy
    }
}

/// The length in bytes of the configuration that a device of type `id` shows, of a function whose
/// window for it has `window` bytes.
///
/// Windows are rounded up, to whole pages in QEMU, and every byte of them is a register access: what
/// lies behind the fields that the type is known to have is not shown.
#[must_use]
pub fn shown_len(id: DeviceId, window: usize) -> usize {
    let known = match id {
        DeviceId::NET => net::LEN,
        DeviceId::BLOCK => BLK_LEN,
        _ => MAX_LEN,
    };
    window.min(known)
}

/// Length of the configuration of a block device in bytes, with the fields for zones
/// (virtio 1.3, 5.2.4).
const BLK_LEN: usize = 96;

/// Length of the longest configuration that a type without an entry of its own may have, in bytes.
const MAX_LEN: usize = 512;

/// Clamps a request for `len` bytes at `offset` to a configuration of `size` bytes.
///
/// Consumers ask for more than there is: the vDPA core reads a whole `struct virtio_net_config`
/// whatever size the device reports.
#[must_use]
pub fn clamp(offset: usize, len: usize, size: usize) -> Span {
    let start = offset.min(size);
    let end = offset.saturating_add(len).min(size);
    Span {
        start,
        copied: end.saturating_sub(start),
        len,
    }
}
