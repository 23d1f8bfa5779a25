// SPDX-License-Identifier: GPL-2.0

//! The other side of a split ring: memory, and a driver written from the specification.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;

use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::split::Memory;
use virtio::split::SplitQueue;

/// An address that is not there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmapped(pub(crate) u64);

/// What a device did to the memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read(u64, usize),
    Write(u64, usize),
    ReadIndex(u64),
    WriteIndex(u64, u16),
    Barrier,
}

/// Memory from address [`Ram::BASE`] on.
pub(crate) struct Ram {
    bytes: RefCell<Vec<u8>>,
    log: RefCell<Vec<Access>>,
    pub(crate) accesses: Cell<usize>,
}

impl Ram {
    pub(crate) const BASE: u64 = 0x1000;

    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: RefCell::new(bytes),
            log: RefCell::default(),
            accesses: Cell::new(0),
        }
    }

    fn range(&self, addr: u64, len: usize) -> Result<std::ops::Range<usize>, Unmapped> {
        let size = self.bytes.borrow().len() as u128;
        let start = u128::from(addr).checked_sub(u128::from(Self::BASE));
        match start {
            Some(start) if start + len as u128 <= size => Ok(start as usize..start as usize + len),
            _ => Err(Unmapped(addr)),
        }
    }

    fn note(&self, access: Access) {
        self.accesses.set(self.accesses.get() + 1);
        self.log.borrow_mut().push(access);
    }

    /// What the device did since the last call.
    pub(crate) fn take_log(&self) -> Vec<Access> {
        self.log.take()
    }

    // The driver's own accesses, which are not logged.

    pub(crate) fn peek<const N: usize>(&self, addr: u64) -> [u8; N] {
        self.peek_vec(addr, N).try_into().unwrap()
    }

    pub(crate) fn peek_vec(&self, addr: u64, len: usize) -> Vec<u8> {
        self.bytes.borrow()[self.range(addr, len).unwrap()].to_vec()
    }

    pub(crate) fn poke(&self, addr: u64, bytes: &[u8]) {
        let range = self.range(addr, bytes.len()).unwrap();
        self.bytes.borrow_mut()[range].copy_from_slice(bytes);
    }

    pub(crate) fn peek16(&self, addr: u64) -> u16 {
        u16::from_le_bytes(self.peek(addr))
    }

    pub(crate) fn poke16(&self, addr: u64, value: u16) {
        self.poke(addr, &value.to_le_bytes());
    }
}

impl Memory for Ram {
    type Error = Unmapped;

    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        self.note(Access::Read(addr, buf.len()));
        let range = self.range(addr, buf.len())?;
        buf.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Unmapped> {
        self.note(Access::Write(addr, buf.len()));
        let range = self.range(addr, buf.len())?;
        self.bytes.borrow_mut()[range].copy_from_slice(buf);
        Ok(())
    }

    fn read_index(&self, addr: u64) -> Result<u16, Unmapped> {
        assert_eq!(addr % 2, 0);
        self.note(Access::ReadIndex(addr));
        self.range(addr, 2)?;
        Ok(self.peek16(addr))
    }

    fn write_index(&self, addr: u64, index: u16) -> Result<(), Unmapped> {
        assert_eq!(addr % 2, 0);
        self.note(Access::WriteIndex(addr, index));
        self.range(addr, 2)?;
        self.poke16(addr, index);
        Ok(())
    }

    fn full_barrier(&self) {
        self.note(Access::Barrier);
    }
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Most descriptors in an indirect table of [`Driver`].
pub(crate) const TABLE: u64 = 8;
/// Most bytes in a buffer of [`Driver`].
pub(crate) const BUFFER: u64 = 64;

/// A chain that the device has.
#[derive(Clone, Debug)]
struct Lent {
    descriptors: Vec<u16>,
    writable: Vec<(u64, usize)>,
}

/// A chain that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) head: u16,
    pub(crate) written: u32,
    /// All of the writable buffers.
    pub(crate) data: Vec<u8>,
}

/// The driver of a split ring.
pub(crate) struct Driver {
    pub(crate) size: u16,
    pub(crate) addresses: Addresses,
    pub(crate) event_idx: bool,
    pub(crate) avail: u16,
    pub(crate) used: u16,
    free: Vec<u16>,
    lent: BTreeMap<u16, Lent>,
}

impl Driver {
    /// A driver with `size` descriptors whose indices start at `start`, and its memory.
    pub(crate) fn new(size: u16, start: u16, event_idx: bool) -> (Self, Ram) {
        let n = u64::from(size);
        let desc = Ram::BASE;
        let driver = desc + 16 * n;
        let device = (driver + 6 + 2 * n + 3) & !3;
        let driver_state = Self {
            size,
            addresses: Addresses {
                desc,
                driver,
                device,
            },
            event_idx,
            avail: start,
            used: start,
            free: (0..size).collect(),
            lent: BTreeMap::new(),
        };
        let end = driver_state.table(0) + n * (TABLE * 16 + TABLE * BUFFER);
        let ram = Ram::new(vec![0; (end - Ram::BASE) as usize]);
        ram.poke16(driver + 2, start);
        ram.poke16(device + 2, start);
        (driver_state, ram)
    }

    /// The device for this driver, which accepted indirect descriptors.
    pub(crate) fn device(&self) -> SplitQueue {
        let size = Size::new(self.size.into(), self.size, RingKind::Split).unwrap();
        let mut accepted = Features::VERSION_1 | Features::RING_INDIRECT_DESC;
        if self.event_idx {
            accepted = accepted | Features::RING_EVENT_IDX;
        }
        SplitQueue::new(size, self.addresses, accepted)
            .unwrap()
            .with_state(self.avail, self.used)
    }

    /// Where the buffer of a descriptor is.
    fn buffer(&self, descriptor: u16) -> u64 {
        self.addresses.device + 6 + 8 * u64::from(self.size) + BUFFER * u64::from(descriptor)
    }

    /// Where the indirect table of a descriptor is; its buffers are behind the tables.
    pub(crate) fn table(&self, descriptor: u16) -> u64 {
        self.buffer(self.size) + TABLE * 16 * u64::from(descriptor)
    }

    fn table_buffer(&self, descriptor: u16, entry: u64) -> u64 {
        self.table(self.size) + (TABLE * u64::from(descriptor) + entry) * BUFFER
    }

    pub(crate) fn used_event(&self) -> u64 {
        self.addresses.driver + 4 + 2 * u64::from(self.size)
    }

    pub(crate) fn avail_event(&self) -> u64 {
        self.addresses.device + 4 + 8 * u64::from(self.size)
    }

    pub(crate) fn write_descriptor(
        ram: &Ram,
        at: u64,
        address: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        ram.poke(at, &bytes);
    }

    /// Writes descriptor number `index` of the ring's table.
    pub(crate) fn descriptor(
        &self,
        ram: &Ram,
        index: u16,
        address: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let at = self.addresses.desc + 16 * u64::from(index);
        Self::write_descriptor(ram, at, address, len, flags, next);
    }

    /// Makes the chain at `head` available, whatever it is.
    pub(crate) fn offer(&mut self, ram: &Ram, head: u16) {
        let slot = u64::from(self.avail % self.size);
        ram.poke16(self.addresses.driver + 4 + 2 * slot, head);
        self.avail = self.avail.wrapping_add(1);
        ram.poke16(self.addresses.driver + 2, self.avail);
    }

    /// Makes a chain of buffers available: `readable` with content, `writable` by length. `direct` of
    /// them have a descriptor in the ring's table and the others are in an indirect one. `None` if
    /// there are not enough descriptors.
    pub(crate) fn add(
        &mut self,
        ram: &Ram,
        readable: &[Vec<u8>],
        writable: &[usize],
        direct: usize,
    ) -> Option<u16> {
        let count = readable.len() + writable.len();
        let direct = direct.min(count);
        let indirect = count - direct;
        let needed = direct + usize::from(indirect > 0);
        if needed == 0 || needed > self.free.len() || indirect > TABLE as usize {
            return None;
        }
        let descriptors = self.free.split_off(self.free.len() - needed);
        let mut lent = Lent {
            descriptors: descriptors.clone(),
            writable: Vec::new(),
        };
        let table = descriptors[needed - 1];
        for index in 0..count {
            let content = readable.get(index);
            let len = content.map_or_else(|| writable[index - readable.len()], Vec::len);
            let (at, address, next) = if index < direct {
                let next = descriptors.get(index + 1).copied().unwrap_or(0);
                let at = self.addresses.desc + 16 * u64::from(descriptors[index]);
                (at, self.buffer(descriptors[index]), next)
            } else {
                let entry = (index - direct) as u64;
                let at = self.table(table) + 16 * entry;
                (at, self.table_buffer(table, entry), entry as u16 + 1)
            };
            let mut flags = 0;
            if index + 1 < count {
                flags |= NEXT;
            }
            match content {
                Some(content) => ram.poke(address, content),
                None => {
                    flags |= WRITE;
                    ram.poke(address, &vec![0; len]);
                    lent.writable.push((address, len));
                }
            }
            Self::write_descriptor(ram, at, address, len as u32, flags, next);
        }
        if indirect > 0 {
            let len = 16 * indirect as u32;
            self.descriptor(ram, table, self.table(table), len, INDIRECT, 0);
        }
        let head = descriptors[0];
        self.lent.insert(head, lent);
        self.offer(ram, head);
        Some(head)
    }

    /// Takes back the next chain that the device returned.
    pub(crate) fn reap(&mut self, ram: &Ram) -> Option<Used> {
        let index = ram.peek16(self.addresses.device + 2);
        if index == self.used {
            return None;
        }
        let slot = u64::from(self.used % self.size);
        let at = self.addresses.device + 4 + 8 * slot;
        let head = u32::from_le_bytes(ram.peek(at));
        let written = u32::from_le_bytes(ram.peek(at + 4));
        let head = u16::try_from(head).unwrap();
        let lent = self.lent.remove(&head).expect("returned what was not lent");
        let data = lent
            .writable
            .iter()
            .flat_map(|(address, len)| ram.peek_vec(*address, *len))
            .collect();
        // The next chain uses them the other way round.
        self.free.extend(lent.descriptors.iter().rev());
        self.used = self.used.wrapping_add(1);
        Some(Used {
            head,
            written,
            data,
        })
    }

    /// Asks for an interrupt when the used index passes `event`.
    pub(crate) fn want_interrupt_at(&self, ram: &Ram, event: u16) {
        ram.poke16(self.used_event(), event);
    }

    pub(crate) fn set_no_interrupt(&self, ram: &Ram, flag: bool) {
        ram.poke16(self.addresses.driver, u16::from(flag));
    }

    /// True if the device wants to be notified of the chains since the available index was `old`.
    pub(crate) fn must_notify(&self, ram: &Ram, old: u16) -> bool {
        if self.event_idx {
            let event = ram.peek16(self.avail_event());
            // One of the indices that were filled is the one that the device waits for.
            let filled = self.avail.wrapping_sub(old);
            (0..filled).any(|n| old.wrapping_add(n) == event)
        } else {
            ram.peek16(self.addresses.device) & 1 == 0
        }
    }
}
