// SPDX-License-Identifier: GPL-2.0

//! Descriptor chains of split rings, as their device walks them (virtio 1.3, 2.7.5).
//!
//! A chain is walked once, and each descriptor is read once and judged as it was read: the driver
//! may rewrite it behind our back, but never after a check.

use core::fmt;

use crate::memory::Memory;

/// Bytes of a descriptor.
const DESCRIPTOR_LEN: u64 = 16;
/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes to this buffer instead of reading from it.
const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
const INDIRECT: u16 = 4;

/// Most descriptors in an indirect table. The specification allows no more than the queue size, but
/// Linux drivers make longer ones for small queues; this is the bound that QEMU has for them.
pub const MAX_INDIRECT: u32 = 1024;

/// Why a ring was found to be broken. Its driver, or the one that set it up, is at fault, and only a
/// reset of the device heals it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RingError<E> {
    /// The memory of the ring or of a buffer is not there.
    Memory(E),
    /// The driver made more buffers available than the ring can hold.
    AvailIndex {
        /// The index in the available ring.
        index: u16,
        /// The index up to which buffers were taken from it.
        taken: u16,
    },
    /// A descriptor index is not below the length of its table.
    Index {
        /// The index.
        index: u16,
        /// Descriptors in the table.
        entries: u32,
    },
    /// The chain has more descriptors than its table.
    Loop,
    /// A descriptor is indirect, which was not negotiated.
    IndirectNotNegotiated,
    /// A descriptor in an indirect table is indirect.
    NestedIndirect,
    /// A descriptor is both indirect and followed by another one.
    IndirectNext,
    /// An indirect table has a length, in bytes, that no table has or that is too much.
    IndirectLen(u32),
    /// A buffer for the device to read comes after one for it to write.
    ReadAfterWrite,
    /// A buffer leaves the address space.
    BufferWraps {
        /// Its address.
        address: u64,
        /// Its length in bytes.
        len: u32,
    },
    /// The buffers of a chain have 4 GiB or more, taken together.
    TooLong,
    /// A chain was to be returned and none had been taken.
    NotTaken,
}

impl<E: fmt::Debug> fmt::Display for RingError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "ring memory cannot be reached: {error:?}"),
            Self::AvailIndex { index, taken } => {
                write!(f, "available index {index} is too far ahead of {taken}")
            }
            Self::Index { index, entries } => {
                write!(f, "descriptor {index} of a table of {entries}")
            }
            Self::Loop => f.write_str("descriptor chain does not end"),
            Self::IndirectNotNegotiated => {
                f.write_str("indirect descriptor without RING_INDIRECT_DESC")
            }
            Self::NestedIndirect => f.write_str("indirect descriptor in an indirect table"),
            Self::IndirectNext => f.write_str("indirect descriptor that is not the last"),
            Self::IndirectLen(len) => write!(f, "indirect table of {len} bytes"),
            Self::ReadAfterWrite => f.write_str("readable buffer after a writable one"),
            Self::BufferWraps { address, len } => {
                write!(
                    f,
                    "buffer of {len} bytes at {address:#x} leaves the address space"
                )
            }
            Self::TooLong => f.write_str("descriptor chain of 4 GiB or more"),
            Self::NotTaken => f.write_str("buffer returned that was not taken"),
        }
    }
}

/// A piece of memory that one descriptor stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Address of the first byte.
    pub address: u64,
    /// Length in bytes; the end does not wrap. May be 0.
    pub len: u32,
    /// True if the device writes to it, false if it reads from it.
    pub writable: bool,
}

impl Buffer {
    /// Cuts off up to `wanted` bytes at the start: their address and how many they are.
    fn take(&mut self, wanted: usize) -> (u64, u32) {
        let address = self.address;
        let count = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.len);
        // Within the buffer, whose end does not wrap.
        self.address = address.wrapping_add(u64::from(count));
        self.len = self.len.saturating_sub(count);
        (address, count)
    }
}

/// How many bytes are left in a chain.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Bytes for the device to read.
    pub readable: u32,
    /// Bytes for the device to write.
    pub writable: u32,
}

/// A table of descriptors.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Table {
    address: u64,
    entries: u32,
    indirect: bool,
}

/// A chain of buffers that the driver made available: first those to read, then those to write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    table: Table,
    /// The descriptor to read next, if the chain goes on.
    next: Option<u16>,
    /// How many more descriptors of this table the chain may have.
    left: u32,
    /// Most descriptors of any table that it may have.
    most: u32,
    may_be_indirect: bool,
    /// What is left of the descriptor read last.
    current: Option<Buffer>,
    /// A writable buffer was seen.
    writing: bool,
    /// Bytes of all buffers seen.
    total: u32,
    written: u32,
}

impl Chain {
    /// The chain that starts with descriptor `head` of a table of `size` descriptors at `table`,
    /// which does not wrap.
    pub(crate) fn new(head: u16, table: u64, size: u16, may_be_indirect: bool) -> Self {
        let entries = u32::from(size);
        Self {
            head,
            table: Table {
                address: table,
                entries,
                indirect: false,
            },
            next: Some(head),
            left: entries,
            most: u32::MAX,
            may_be_indirect,
            current: None,
            writing: false,
            total: 0,
            written: 0,
        }
    }

    /// The same chain, broken if it has more than `most` descriptors in a table: for queues of which
    /// that many are plenty, so that nobody can have the device walk long chains.
    #[must_use]
    pub fn at_most(mut self, most: u32) -> Self {
        self.left = self.left.min(most);
        self.most = most;
        self
    }

    /// The index by which the chain is returned to the driver.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// How many bytes [`Self::write`] wrote, all calls taken together.
    #[must_use]
    pub const fn written(&self) -> u32 {
        self.written
    }

    /// The next buffer, or what is left of one that was read or written in part; `None` at the end.
    pub fn next_buffer<M: Memory>(
        &mut self,
        mem: &M,
    ) -> Result<Option<Buffer>, RingError<M::Error>> {
        match self.current.take() {
            Some(buffer) => Ok(Some(buffer)),
            None => self.next_descriptor(mem),
        }
    }

    /// Reads the next descriptor, passing from the ring's table to an indirect one on the way.
    fn next_descriptor<M: Memory>(
        &mut self,
        mem: &M,
    ) -> Result<Option<Buffer>, RingError<M::Error>> {
        loop {
            // Taken, so that a chain that was found broken ends here.
            let Some(index) = self.next.take() else {
                return Ok(None);
            };
            let entries = self.table.entries;
            if u32::from(index) >= entries {
                return Err(RingError::Index { index, entries });
            }
            self.left = self.left.checked_sub(1).ok_or(RingError::Loop)?;

            let offset = u64::from(index).wrapping_mul(DESCRIPTOR_LEN);
            let mut raw = [0; 16];
            // Within the table, whose end does not wrap.
            mem.read(self.table.address.wrapping_add(offset), &mut raw)
                .map_err(RingError::Memory)?;
            let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = raw;
            let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
            let len = u32::from_le_bytes([l0, l1, l2, l3]);
            let flags = u16::from_le_bytes([f0, f1]);
            let next = u16::from_le_bytes([n0, n1]);

            if address.checked_add(u64::from(len)).is_none() {
                return Err(RingError::BufferWraps { address, len });
            }
            if flags & INDIRECT != 0 {
                self.enter(address, len, flags)?;
                continue;
            }
            let writable = flags & WRITE != 0;
            if self.writing && !writable {
                return Err(RingError::ReadAfterWrite);
            }
            self.writing = writable;
            self.total = self.total.checked_add(len).ok_or(RingError::TooLong)?;
            self.next = (flags & NEXT != 0).then_some(next);
            return Ok(Some(Buffer {
                address,
                len,
                writable,
            }));
        }
    }

    /// Goes on with the indirect table at `address`, `len` bytes long.
    fn enter<E>(&mut self, address: u64, len: u32, flags: u16) -> Result<(), RingError<E>> {
        if !self.may_be_indirect {
            return Err(RingError::IndirectNotNegotiated);
        }
        if self.table.indirect {
            return Err(RingError::NestedIndirect);
        }
        if flags & NEXT != 0 {
            return Err(RingError::IndirectNext);
        }
        let entries = len >> 4;
        if len & 15 != 0 || entries == 0 || entries > MAX_INDIRECT {
            return Err(RingError::IndirectLen(len));
        }
        self.table = Table {
            address,
            entries,
            indirect: true,
        };
        self.left = entries.min(self.most);
        self.next = Some(0);
        Ok(())
    }

    /// Fills `buf` from the readable buffers, going on where the last call ended. Returns how many
    /// bytes there were: fewer than `buf` has at the end of the readable part.
    pub fn read<M: Memory>(
        &mut self,
        mem: &M,
        buf: &mut [u8],
    ) -> Result<usize, RingError<M::Error>> {
        let mut rest: &mut [u8] = buf;
        let mut total = 0usize;
        while !rest.is_empty() {
            let Some(mut buffer) = self.next_buffer(mem)? else {
                break;
            };
            if buffer.writable {
                self.current = Some(buffer);
                break;
            }
            let (address, count) = buffer.take(rest.len());
            let split = usize::try_from(count).unwrap_or(rest.len());
            let (part, tail) = rest.split_at_mut_checked(split).unwrap_or_default();
            if !part.is_empty() {
                mem.read(address, part).map_err(RingError::Memory)?;
            }
            total = total.saturating_add(split);
            rest = tail;
            self.current = (buffer.len != 0).then_some(buffer);
        }
        Ok(total)
    }

    /// Passes over what is left of the readable part, and returns how many bytes that were.
    pub fn skip_readable<M: Memory>(&mut self, mem: &M) -> Result<u32, RingError<M::Error>> {
        let mut skipped = 0u32;
        while let Some(buffer) = self.next_buffer(mem)? {
            if buffer.writable {
                self.current = Some(buffer);
                break;
            }
            // Bounded by `total`, which is checked.
            skipped = skipped.saturating_add(buffer.len);
        }
        Ok(skipped)
    }

    /// Spreads `data` over the writable buffers, going on where the last call ended and passing over
    /// what is left to read. Returns how many bytes found room: fewer than `data` has at the end of
    /// the chain.
    pub fn write<M: Memory>(&mut self, mem: &M, data: &[u8]) -> Result<usize, RingError<M::Error>> {
        self.skip_readable(mem)?;
        let mut rest = data;
        let mut total = 0usize;
        while !rest.is_empty() {
            let Some(mut buffer) = self.next_buffer(mem)? else {
                break;
            };
            let (address, count) = buffer.take(rest.len());
            let split = usize::try_from(count).unwrap_or(rest.len());
            let (part, tail) = rest.split_at_checked(split).unwrap_or_default();
            if !part.is_empty() {
                mem.write(address, part).map_err(RingError::Memory)?;
            }
            total = total.saturating_add(split);
            // Bounded by `total` of the chain, which is checked.
            self.written = self.written.saturating_add(count);
            rest = tail;
            self.current = (buffer.len != 0).then_some(buffer);
        }
        Ok(total)
    }

    /// How many bytes are left to read and to write, found by a walk of its own: the driver may
    /// have changed the chain when its buffers are used, so this is good for a decision, not for
    /// safety.
    pub fn lengths<M: Memory>(&self, mem: &M) -> Result<Lengths, RingError<M::Error>> {
        let mut walk = *self;
        let mut lengths = Lengths::default();
        while let Some(buffer) = walk.next_buffer(mem)? {
            let side = if buffer.writable {
                &mut lengths.writable
            } else {
                &mut lengths.readable
            };
            // Bounded by `total` of the chain, which is checked.
            *side = side.saturating_add(buffer.len);
        }
        Ok(lengths)
    }
}
