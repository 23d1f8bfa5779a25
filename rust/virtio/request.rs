// SPDX-License-Identifier: GPL-2.0

//! The driver side of a split ring, for one request at a time (virtio 1.3, 2.7).
//!
//! A parent that serves a control queue in software passes commands on through a ring of its own.
//! Ring and buffers lie in two pieces of memory that the device reaches. The device is not trusted:
//! what it writes there is checked. Neither is whoever has other queues of the same device, and can
//! name any address in them: what the device has no reason to write is in the one piece, which it can be
//! kept from writing.

use core::fmt;

use crate::memory::Memory;
use crate::queue::Addresses;
use crate::queue::RingKind;
use crate::queue::Size;

/// Bytes of memory that the device only reads: descriptors, available ring, request.
pub const READ_ONLY_LEN: usize = 8192;
/// Bytes of memory that the device writes: used ring, answer.
pub const WRITABLE_LEN: usize = 4096;
/// Most bytes of a request.
pub const MAX_REQUEST: usize = 4096;
/// Most bytes of an answer.
pub const MAX_ANSWER: usize = 64;
/// Most descriptors of the ring, of which two are used.
const MAX_SIZE: u16 = 64;

/// Bytes of a descriptor.
const DESCRIPTOR_LEN: u64 = 16;
/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes to the buffer.
const WRITE: u16 = 2;
/// The driver wants no interrupts: it looks.
const NO_INTERRUPT: u16 = 1;
/// Offset of the index in either ring, behind the flags.
const INDEX: u64 = 2;
/// Offset of the elements of either ring.
const RING: u64 = 4;
/// Offset of the request in what is only read: behind descriptors and available ring of at most `MAX_SIZE`
/// entries.
const REQUEST: u64 = 4096;
/// Offset of the answer in what is written: behind a used ring of at most `MAX_SIZE` entries.
const ANSWER: u64 = 2048;
/// Descriptor of the request, and the head of its chain.
const HEAD: u16 = 0;

/// Why a device cannot be asked any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RequestError<E> {
    /// The memory cannot be reached.
    Memory(E),
    /// The request is too long or empty, or longer an answer is expected than there is room for.
    TooLong,
    /// The last request was not answered yet.
    Busy,
    /// The device has returned what it was not given.
    Used {
        /// Its index in the used ring.
        index: u16,
        /// The descriptor that it has returned.
        head: u32,
    },
}

impl<E: fmt::Debug> fmt::Display for RequestError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "memory of requests cannot be reached: {error:?}"),
            Self::TooLong => f.write_str("request or answer too long"),
            Self::Busy => f.write_str("request before the last one was answered"),
            Self::Used { index, head } => {
                write!(
                    f,
                    "device returned chain {head} with index {index}, which it did not have"
                )
            }
        }
    }
}

/// A ring for requests.
///
/// Invariant: the size is a power of two from 2 to [`MAX_SIZE`].
#[derive(Clone, Debug)]
pub struct Requests {
    size: Size,
    /// Device address of the memory that the device only reads.
    read_only: u64,
    /// Device address of the memory that it writes.
    writable: u64,
    /// Index in the available ring of the next request.
    next: u16,
    /// The device has a request.
    busy: bool,
}

impl Requests {
    /// A ring for a virtqueue of at most `max_size` descriptors, in memory that is all 0: [`READ_ONLY_LEN`]
    /// bytes at the device address `read_only`, and [`WRITABLE_LEN`] at `writable`. Its device has been reset.
    ///
    /// Returns [`None`] if the virtqueue has no room for a request, or the memory wraps.
    #[must_use]
    pub fn new(max_size: u16, read_only: u64, writable: u64) -> Option<Self> {
        let most = max_size.min(MAX_SIZE);
        let size = 1_u16.checked_shl(most.checked_ilog2()?)?;
        read_only.checked_add(u64::try_from(READ_ONLY_LEN).ok()?)?;
        writable.checked_add(u64::try_from(WRITABLE_LEN).ok()?)?;
        let size = Size::new(u32::from(size), size, RingKind::Split).ok()?;
        (size.get() >= 2).then_some(Self {
            size,
            read_only,
            writable,
            next: 0,
            busy: false,
        })
    }

    /// The number of descriptors, for the device.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Where the rings are, for the device.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let entries = u64::from(self.size.get());
        // The invariant keeps both below `REQUEST`.
        let driver = DESCRIPTOR_LEN.wrapping_mul(entries);
        Addresses {
            desc: self.read_only,
            driver: self.read_only.wrapping_add(driver),
            device: self.writable,
        }
    }

    /// Where the request is, for the device.
    const fn request(&self) -> u64 {
        self.read_only.wrapping_add(REQUEST)
    }

    /// Where the answer is.
    const fn answer(&self) -> u64 {
        self.writable.wrapping_add(ANSWER)
    }

    /// Writes a descriptor.
    fn describe<M: Memory>(
        &self,
        mem: &M,
        index: u16,
        buffer: u64,
        len: usize,
        flags: u16,
    ) -> Result<(), RequestError<M::Error>> {
        let len = u32::try_from(len).map_err(|_| RequestError::TooLong)?;
        let mut raw = [0; 16];
        let next = index.wrapping_add(1);
        let parts = [
            &buffer.to_le_bytes()[..],
            &len.to_le_bytes()[..],
            &flags.to_le_bytes()[..],
            &next.to_le_bytes()[..],
        ];
        for (to, from) in raw.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        let at = DESCRIPTOR_LEN.wrapping_mul(u64::from(index));
        mem.write(self.read_only.wrapping_add(at), &raw)
            .map_err(RequestError::Memory)
    }

    /// Gives the device a request, and room for `answer_len` bytes of an answer, which are all ones
    /// until it writes them; none if that is 0. The device then has to be notified.
    pub fn submit<M: Memory>(
        &mut self,
        mem: &M,
        request: &[u8],
        answer_len: usize,
    ) -> Result<(), RequestError<M::Error>> {
        if self.busy {
            return Err(RequestError::Busy);
        }
        let blank = [0xff; MAX_ANSWER];
        let blank = blank.get(..answer_len).ok_or(RequestError::TooLong)?;
        if request.is_empty() || request.len() > MAX_REQUEST {
            return Err(RequestError::TooLong);
        }
        let Addresses { driver, .. } = self.addresses();
        let memory = RequestError::Memory;

        mem.write(self.request(), request).map_err(memory)?;
        if blank.is_empty() {
            self.describe(mem, HEAD, self.request(), request.len(), 0)?;
        } else {
            mem.write(self.answer(), blank).map_err(memory)?;
            self.describe(mem, HEAD, self.request(), request.len(), NEXT)?;
            self.describe(mem, HEAD.wrapping_add(1), self.answer(), answer_len, WRITE)?;
        }
        mem.write_index(driver, NO_INTERRUPT).map_err(memory)?;
        let slot = u64::from(self.next & self.size.get().wrapping_sub(1));
        let element = RING.wrapping_add(slot.wrapping_mul(2));
        mem.write(driver.wrapping_add(element), &HEAD.to_le_bytes())
            .map_err(memory)?;
        self.next = self.next.wrapping_add(1);
        // From here on the device may work on it.
        self.busy = true;
        mem.write_index(driver.wrapping_add(INDEX), self.next)
            .map_err(memory)
    }

    /// Looks for the answer to the request, and copies it to `answer`. Returns false if there is none
    /// yet. What the device has left out of the answer is all ones.
    pub fn poll<M: Memory>(
        &mut self,
        mem: &M,
        answer: &mut [u8],
    ) -> Result<bool, RequestError<M::Error>> {
        let Addresses { device, .. } = self.addresses();
        let index = mem
            .read_index(device.wrapping_add(INDEX))
            .map_err(RequestError::Memory)?;
        let last = self.next.wrapping_sub(1);

        if self.busy && index == last {
            return Ok(false);
        }
        let slot = u64::from(last & self.size.get().wrapping_sub(1));
        let element = RING.wrapping_add(slot.wrapping_mul(8));
        let mut head = [0; 4];
        mem.read(device.wrapping_add(element), &mut head)
            .map_err(RequestError::Memory)?;
        let head = u32::from_le_bytes(head);
        if !self.busy || index != self.next || head != u32::from(HEAD) {
            return Err(RequestError::Used { index, head });
        }
        self.busy = false;
        let answer = answer.get_mut(..MAX_ANSWER.min(answer.len()));
        mem.read(self.answer(), answer.unwrap_or_default())
            .map_err(RequestError::Memory)?;
        Ok(true)
    }
}
