// SPDX-License-Identifier: GPL-2.0

//! The memory that a function reaches.
//!
//! For a consumer in the kernel that is what the DMA API maps. A process reaches through the function
//! what it has mapped itself, in an IOMMU domain that holds nothing else: not even what an IOMMU that
//! passes everything through would let pass.

use super::{
    control::{
        Control,
        Phase, //
    },
    function::Function,
    profile::Profile, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::Arc, //
};
use vdpa::{
    guest_memory::GuestMemory,
    iommu::{
        Domain,
        Unavailable, //
    },
    own_memory::OwnMemory,
    pages::Pinned,
    KernelConsumer,
    Text,
    VqMap, //
};
use virtio::{
    iova::{
        self,
        Split, //
    },
    status::Status, //
};

/// The bytes of a slot in the driver's window, one for each virtqueue and one more: the rings of
/// 32768 entries, in whole powers of two.
const SLOT: u64 = 1 << 19;

/// The group of the data queues.
pub(crate) const DATA: u32 = 0;

/// The group of a control queue that the kernel serves.
pub(crate) const CONTROL: u32 = 1;

/// The number of groups and of address spaces, if the kernel serves the control queue.
pub(crate) const SPACES: u32 = 2;

/// The memory of the consumer, as the kernel reaches it.
pub(crate) struct Memory {
    /// The address spaces of a process.
    spaces: [Arc<GuestMemory>; 2],
    /// That of the kernel.
    kernel: Arc<GuestMemory>,
}

impl Memory {
    pub(crate) fn new() -> Result<Self> {
        let new = || Arc::pin_init(GuestMemory::new(), GFP_KERNEL);

        Ok(Self {
            spaces: [new()?, new()?],
            kernel: new()?,
        })
    }

    /// Returns an address space of a process.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such address space.
    fn space(&self, asid: u32) -> Result<&Arc<GuestMemory>> {
        self.spaces.get(usize::try_from(asid)?).ok_or(EINVAL)
    }
}

/// The domain of a function, and who uses which of its addresses.
pub(crate) struct Space<'bound> {
    domain: Pin<KBox<Domain<'bound>>>,
    split: Split,
}

impl<'bound> Space<'bound> {
    /// Allocates a domain for a function, which is not attached to it.
    ///
    /// # Errors
    ///
    /// Says why a process cannot be given the function.
    pub(crate) fn new(pdev: &'bound pci::Device<Bound>) -> Result<Self, Unavailable> {
        let domain = KBox::pin_init(Domain::new(pdev)?, GFP_KERNEL).map_err(Unavailable::Failed)?;
        let split =
            iova::split(domain.aperture(), domain.reserved()).ok_or(Unavailable::Failed(ERANGE))?;

        Ok(Self { domain, split })
    }
}

impl Function<'_> {
    /// Returns the domain.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, after a log line, if the function can have none.
    fn space(&self) -> Result<&Space<'_>> {
        self.space.as_ref().map_err(|why| {
            self.complain(fmt!("cannot be given to a process: {}", Text(why)));
            EOPNOTSUPP
        })
    }

    /// Lets the virtqueues in address space `asid` reach memory of a process.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such address space.
    /// - As [`space`](Self::space), [`GuestMemory::map`], [`Domain::attach`] and [`Domain::map`].
    pub(crate) fn map(&self, asid: u32, pinned: Pinned<'_>) -> Result {
        let memory = self.memory.space(asid)?;
        let is_data = self.data_asid() == asid;
        let space = self.space()?;

        // As early as this, so that whoever wants it is told of an error.
        space.domain.attach().inspect_err(|error| match *error {
            EINVAL => self.complain(fmt!(
                "cannot have a domain of its own, as it is not alone in its IOMMU group"
            )),
            _ => self.complain(fmt!(
                "cannot have a domain of its own (error {})",
                error.to_errno()
            )),
        })?;
        // Here already, for an address space that may be that of the data queues later.
        space
            .domain
            .check(pinned.mapping())
            .inspect_err(|_| self.name_obstacle(&space.domain, pinned.mapping().range))?;
        let held = memory.map(pinned)?;
        if is_data {
            space
                .domain
                .map(held)
                .inspect_err(|_| memory.unmap(pinned.mapping().range))?;
        }
        Ok(())
    }

    /// Logs what lies in the way of a mapping, if something does. A consumer is told one range that it
    /// may map ([`iova_range`](Self::iova_range)), in which there may be holes.
    fn name_obstacle(&self, domain: &Domain<'_>, range: iova::Range) {
        if let Some(taken) = domain.reserved().iter().find(|taken| taken.overlaps(range)) {
            self.complain(fmt!(
                "cannot map {:#x} to {:#x}: {:#x} to {:#x} is reserved",
                range.first(),
                range.last(),
                taken.first(),
                taken.last()
            ));
        }
    }

    /// Takes memory from the virtqueues in address space `asid`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such address space.
    pub(crate) fn unmap(&self, asid: u32, range: iova::Range) -> Result {
        let memory = self.memory.space(asid)?;

        if let (true, Ok(space)) = (self.data_asid() == asid, &self.space) {
            space.domain.unmap(range);
        }
        memory.unmap(range);
        Ok(())
    }

    /// Takes all memory from the virtqueues in address space `asid`, and forgets what the process has
    /// written, as it has gone. The function has been reset.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such address space.
    pub(crate) fn reset_map(&self, asid: u32) -> Result {
        self.unmap(asid, iova::Range::ALL)?;
        let mut control = self.shared.control.lock();
        control.forget_written();
        self.unconfine(&control);
        Ok(())
    }

    /// Returns the addresses that a process may map, which has opened the device just now. What the one
    /// before it has written is forgotten: `reset_map` is not called for one that has mapped nothing.
    pub(crate) fn welcome(&self) -> iova::Range {
        self.shared.control.lock().forget_written();
        self.iova_range()
    }

    /// Returns the address space of the data queues.
    fn data_asid(&self) -> u32 {
        let [data, _] = self.shared.control.lock().asids;

        data
    }

    /// Moves a group of virtqueues to an address space.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such group or address space.
    /// - `EBUSY` if the function has been started.
    /// - As [`Domain::map`]: the data queues reach nothing then.
    pub(crate) fn set_group_asid(&self, group: u32, asid: u32) -> Result {
        self.memory.space(asid)?;
        let old = {
            let mut control = self.shared.control.lock();

            if control.status.contains(Status::DRIVER_OK) {
                return Err(EBUSY);
            }
            let [data, other] = &mut control.asids;
            match group {
                DATA => *data,
                CONTROL => {
                    *other = asid;
                    return Ok(());
                }
                _ => return Err(EINVAL),
            }
        };
        if old == asid {
            return Ok(());
        }
        // Without the lock, as there may be much to map. The consumer does one thing at a time.
        if let Err(error) = self.fill_domain(asid) {
            let restored = self.fill_domain(old).is_ok();
            self.shared.control.lock().incomplete = !restored;
            return Err(error);
        }
        let mut control = self.shared.control.lock();
        let [data, _] = &mut control.asids;
        *data = asid;
        control.incomplete = false;
        Ok(())
    }

    /// Has both groups in address space 0 again, as it is after a reset.
    pub(crate) fn reset_groups(&self, control: &mut Control) {
        let [data, _] = core::mem::take(&mut control.asids);

        if data != 0 || control.incomplete {
            control.incomplete = self.fill_domain(0).is_err();
        }
    }

    /// Lets the function reach the memory of address space `asid` instead of another; none on an
    /// error.
    fn fill_domain(&self, asid: u32) -> Result {
        let memory = self.memory.space(asid)?;
        let Ok(space) = &self.space else {
            return Ok(());
        };

        space.domain.unmap(space.split.consumer);
        memory
            .for_each(|held| space.domain.map(held))
            .inspect_err(|_| space.domain.unmap(space.split.consumer))
    }

    /// Notes that the consumer is the kernel, and returns for which device it maps the memory of a
    /// virtqueue.
    pub(crate) fn trust(&self, profile: &Profile, vq: u16, consumer: KernelConsumer<'_>) -> VqMap {
        let mut control = self.shared.control.lock();

        control.kernel_consumer = true;
        if self.control_vq(profile, control.accepted) == Some(vq) {
            self.memory.kernel.trust(consumer);
            VqMap::Device
        } else {
            VqMap::Parent
        }
    }

    /// Returns the memory in which the consumer's control queue lies.
    pub(crate) fn control_memory(&self, control: &Control) -> Result<Arc<GuestMemory>> {
        let [_, asid] = control.asids;

        if control.kernel_consumer {
            Ok(self.memory.kernel.clone())
        } else {
            Ok(self.memory.space(asid)?.clone())
        }
    }

    /// Allocates memory that the function reaches, once it is confined, for the driver, in a slot of
    /// the driver's window: as many bytes as it has no reason to write, and cannot if a process has its data
    /// queues, and as many as it has.
    ///
    /// It must not be dropped before whatever uses it in the function has been reset. That is the case
    /// with what was in the same slot before, if anything.
    pub(crate) fn own_memory(
        &self,
        control: &Control,
        slot: u16,
        read_only: usize,
        writable: usize,
    ) -> Result<OwnMemory> {
        if control.kernel_consumer {
            return OwnMemory::coherent(self.pdev.as_ref(), read_only, writable);
        }
        let space = self.space()?;
        let offset = SLOT.saturating_mul(u64::from(slot));
        let at = space.split.own.first().checked_add(offset).ok_or(ENOSPC)?;
        let whole = iova::Range::from_size(at, SLOT).ok_or(ENOSPC)?;

        if !space.split.own.contains(whole) {
            return Err(ENOSPC);
        }
        space.domain.unmap(whole);
        OwnMemory::mapped(&space.domain, whole, read_only, writable)
    }

    /// Returns the memory in which the consumer's data queues lie, if the kernel can reach it.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the consumer is the kernel: the DMA API has mapped the memory then.
    pub(crate) fn data_memory(&self, control: &Control) -> Result<Arc<GuestMemory>> {
        let [asid, _] = control.asids;

        if control.kernel_consumer {
            return Err(EOPNOTSUPP);
        }
        Ok(self.memory.space(asid)?.clone())
    }

    /// Returns the addresses that a process may map.
    pub(crate) fn iova_range(&self) -> iova::Range {
        self.space
            .as_ref()
            .map_or(iova::Range::ALL, |space| space.split.consumer)
    }

    /// Decides what the function reaches, before it starts. The driver's own memory comes later.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), and [`Domain::settle`].
    pub(crate) fn confine(&self, control: &Control) -> Result {
        if control.kernel_consumer {
            return match &self.space {
                Ok(space) => space.domain.settle().inspect_err(|error| {
                    self.complain(fmt!(
                        "cannot leave its domain for that of the kernel (error {})",
                        error.to_errno()
                    ));
                }),
                Err(_) => Ok(()),
            };
        }
        if control.incomplete {
            self.complain(fmt!("its consumer's memory could not be mapped again"));
            return Err(ENOMEM);
        }
        self.space()?.domain.attach()
    }

    /// Has interrupts requested where the function is confined now, if the IOMMU translates them. It
    /// has not been started.
    ///
    /// # Errors
    ///
    /// Any, after a log line: there are no interrupts then, and the next start tries again.
    pub(crate) fn reroute_interrupts(&self, control: &mut Control) -> Result {
        let Ok(Space { domain, .. }) = &self.space else {
            return Ok(());
        };

        if !domain.translates_interrupts() {
            return Ok(());
        }
        self.interrupts
            .access_mut(control)
            .follow(domain.attached())
            .inspect_err(|error| {
                self.complain(fmt!(
                    "cannot get its interrupts again (error {})",
                    error.to_errno()
                ));
            })
    }

    /// Takes the driver's own memory from the function, which has been reset, and gives the function
    /// back to the DMA API if nobody wants mappings to stay. One of which it is not certain that it
    /// has stopped stays confined.
    pub(crate) fn unconfine(&self, control: &Control) {
        self.memory.kernel.distrust();
        if let Ok(space) = &self.space {
            space.domain.unmap(space.split.own);
            let stopped = matches!(control.phase, Phase::Stopped | Phase::Lost);
            if stopped && space.domain.is_empty() {
                space.domain.detach();
            }
        }
    }
}
