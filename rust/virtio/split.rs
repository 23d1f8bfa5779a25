// SPDX-License-Identifier: GPL-2.0

//! The device side of a split ring (virtio 1.3, 2.7).
//!
//! This is for devices in software: the driver of the ring is the one who is not trusted. Take
//! chains with [`SplitQueue::pop`], return them with [`SplitQueue::push_used`], then ask
//! [`SplitQueue::needs_interrupt`]. After a [`RingError`] the ring is broken: the device shows
//! NEEDS_RESET and touches it no more.

pub use crate::chain::Chain;
pub use crate::chain::RingError;
pub use crate::memory::Memory;

use crate::features::Features;
use crate::queue::Addresses;
use crate::queue::QueueError;
use crate::queue::RingKind;
use crate::queue::Size;

/// Flag of the available ring: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: the device wants no notifications.
const USED_NO_NOTIFY: u16 = 1;

/// Offset of the index in either ring, behind the flags.
const INDEX: u64 = 2;
/// Offset of the elements of either ring.
const RING: u64 = 4;

/// True if an event at `event` lies in what happened between the indices `old` and `new`: past
/// `old`, or at it, and before `new` (virtio 1.3, 2.7.10.1). All indices wrap.
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A split virtqueue as its device sees it.
///
/// Invariant: the size is a power of two, and the areas are aligned and do not wrap.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SplitQueue {
    size: Size,
    addresses: Addresses,
    /// Index in the available ring of the next chain to take.
    next_avail: u16,
    /// Index in the used ring of the next chain to return.
    next_used: u16,
    event_idx: bool,
    indirect: bool,
}

impl SplitQueue {
    /// The queue of `size` at `addresses`, with the features `accepted` by its driver, as it is after
    /// a reset.
    pub fn new(size: Size, addresses: Addresses, accepted: Features) -> Result<Self, QueueError> {
        // A size that was made for a packed ring need not be a power of two.
        let size = Size::new(u32::from(size.get()), size.get(), RingKind::Split)?;
        addresses.validate(size, RingKind::Split)?;
        Ok(Self {
            size,
            addresses,
            next_avail: 0,
            next_used: 0,
            event_idx: accepted.contains(Features::RING_EVENT_IDX),
            indirect: accepted.contains(Features::RING_INDIRECT_DESC),
        })
    }

    /// The same queue with its `next_avail` and `next_used` indices as they were when a device
    /// stopped; equal unless chains were taken and not returned.
    #[must_use]
    pub const fn with_state(mut self, next_avail: u16, next_used: u16) -> Self {
        self.next_avail = next_avail;
        self.next_used = next_used;
        self
    }

    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// The areas.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Index in the available ring of the next chain to take: the state that
    /// `get_vq_state()` reports.
    #[must_use]
    pub const fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Index in the used ring of the next chain to return.
    #[must_use]
    pub const fn next_used(&self) -> u16 {
        self.next_used
    }

    /// Chains that were taken and not returned.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.next_avail.wrapping_sub(self.next_used)
    }

    /// Byte offset of the element of `len` bytes that `index` means in a ring.
    fn element(&self, index: u16, len: u64) -> u64 {
        // The size is a power of two, so this is the index modulo the size.
        let slot = index & self.size.get().wrapping_sub(1);
        RING.wrapping_add(u64::from(slot).wrapping_mul(len))
    }

    /// Address in the driver area. The area does not wrap.
    fn driver(&self, offset: u64) -> u64 {
        self.addresses.driver.wrapping_add(offset)
    }

    /// Address in the device area. The area does not wrap.
    fn device(&self, offset: u64) -> u64 {
        self.addresses.device.wrapping_add(offset)
    }

    /// Address of `used_event`, which ends the driver area.
    fn used_event(&self) -> u64 {
        self.driver(RING.wrapping_add(u64::from(self.size.get()).wrapping_mul(2)))
    }

    /// Address of `avail_event`, which ends the device area.
    fn avail_event(&self) -> u64 {
        self.device(RING.wrapping_add(u64::from(self.size.get()).wrapping_mul(8)))
    }

    /// How many chains the driver has made available that were not taken.
    pub fn available<M: Memory>(&self, mem: &M) -> Result<u16, RingError<M::Error>> {
        let index = mem
            .read_index(self.driver(INDEX))
            .map_err(RingError::Memory)?;
        // A chain has a descriptor at least, and the driver gets it back when the chain is
        // returned: so it cannot have more than `size` out, those in flight included.
        if index.wrapping_sub(self.next_used) > self.size.get()
            || index.wrapping_sub(self.next_avail) > self.size.get()
        {
            return Err(RingError::AvailIndex {
                index,
                taken: self.next_avail,
            });
        }
        Ok(index.wrapping_sub(self.next_avail))
    }

    /// Takes the next chain, if there is one.
    pub fn pop<M: Memory>(&mut self, mem: &M) -> Result<Option<Chain>, RingError<M::Error>> {
        if self.available(mem)? == 0 {
            return Ok(None);
        }
        let mut raw = [0; 2];
        mem.read(self.driver(self.element(self.next_avail, 2)), &mut raw)
            .map_err(RingError::Memory)?;
        let head = u16::from_le_bytes(raw);
        self.check_index(head)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(Chain::new(
            head,
            self.addresses.desc,
            self.size.get(),
            self.indirect,
        )))
    }

    /// Refuses a descriptor index that the queue does not have.
    fn check_index<E>(&self, index: u16) -> Result<(), RingError<E>> {
        if index < self.size.get() {
            return Ok(());
        }
        Err(RingError::Index {
            index,
            entries: u32::from(self.size.get()),
        })
    }

    /// Returns the chain with index `head`, of which `written` bytes were written, without telling
    /// the driver yet: several chains that belong together, such as the buffers of one packet under
    /// MRG_RXBUF, are returned first and then told at once by [`Self::publish_used`].
    pub fn add_used<M: Memory>(
        &mut self,
        mem: &M,
        head: u16,
        written: u32,
    ) -> Result<(), RingError<M::Error>> {
        self.check_index(head)?;
        if self.in_flight() == 0 {
            return Err(RingError::NotTaken);
        }
        let [h0, h1, h2, h3] = u32::from(head).to_le_bytes();
        let [w0, w1, w2, w3] = written.to_le_bytes();
        mem.write(
            self.device(self.element(self.next_used, 8)),
            &[h0, h1, h2, h3, w0, w1, w2, w3],
        )
        .map_err(RingError::Memory)?;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Lets the driver see the chains that [`Self::add_used`] returned.
    pub fn publish_used<M: Memory>(&self, mem: &M) -> Result<(), RingError<M::Error>> {
        mem.write_index(self.device(INDEX), self.next_used)
            .map_err(RingError::Memory)
    }

    /// Returns the chain with index `head`, of which `written` bytes were written, to the driver.
    pub fn push_used<M: Memory>(
        &mut self,
        mem: &M,
        head: u16,
        written: u32,
    ) -> Result<(), RingError<M::Error>> {
        self.add_used(mem, head, written)?;
        self.publish_used(mem)
    }

    /// True if the driver wants an interrupt for the chains that were returned since
    /// [`Self::next_used`] was `old_used`.
    pub fn needs_interrupt<M: Memory>(
        &self,
        mem: &M,
        old_used: u16,
    ) -> Result<bool, RingError<M::Error>> {
        if old_used == self.next_used {
            return Ok(false);
        }
        // The driver stores what it wants and then loads the used index; we stored that index and
        // now load what it wants. Without the barrier each could miss the other.
        mem.full_barrier();
        if self.event_idx {
            let event = mem
                .read_index(self.used_event())
                .map_err(RingError::Memory)?;
            return Ok(need_event(event, self.next_used, old_used));
        }
        let flags = mem.read_index(self.driver(0)).map_err(RingError::Memory)?;
        Ok(flags & AVAIL_NO_INTERRUPT == 0)
    }

    /// Asks the driver to notify the device of new chains, before the device goes to sleep. Returns
    /// true if there is a chain already: then the device must not sleep, for the driver may have made
    /// it available before it could know.
    pub fn enable_notifications<M: Memory>(
        &mut self,
        mem: &M,
    ) -> Result<bool, RingError<M::Error>> {
        if self.event_idx {
            mem.write_index(self.avail_event(), self.next_avail)
        } else {
            mem.write_index(self.device(0), 0)
        }
        .map_err(RingError::Memory)?;
        // As in `needs_interrupt`, with the parts swapped.
        mem.full_barrier();
        Ok(self.available(mem)? != 0)
    }

    /// Asks the driver not to notify the device, while the device looks at the ring anyhow. A hint:
    /// notifications may still come. With RING_EVENT_IDX there is nothing to write, as an event that
    /// lies behind is not reached again soon.
    pub fn disable_notifications<M: Memory>(&mut self, mem: &M) -> Result<(), RingError<M::Error>> {
        if self.event_idx {
            return Ok(());
        }
        mem.write_index(self.device(0), USED_NO_NOTIFY)
            .map_err(RingError::Memory)
    }
}
