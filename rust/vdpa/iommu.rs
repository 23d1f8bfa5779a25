// SPDX-License-Identifier: GPL-2.0

//! An IOMMU domain of a driver's own.
//!
//! A function whose consumer is a process reaches what that has mapped, and nothing else.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use super::{
    bindings,
    iotlb::{
        Mapping,
        Permission, //
    },
    mappings::Mappings,
    pages::Held,
    pci::as_raw, //
};
use core::{
    fmt,
    ptr::NonNull, //
};
use kernel::{
    device::Bound,
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::{
        c_int,
        c_ulong, //
    },
    new_mutex,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use virtio::iova;

mod reserved;

use reserved::Reserved;

/// Why a function can have no domain of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No IOMMU translates its accesses.
    NoIommu,
    /// Its accesses are not coherent with the caches.
    NotCoherent,
    /// Whoever controls its accesses can raise any interrupt of the host.
    OpenInterrupts,
    /// The kernel gives none.
    Failed(Error),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIommu => f.write_str("it is not behind an IOMMU"),
            Self::NotCoherent => f.write_str("its DMA is not coherent with the caches"),
            Self::OpenInterrupts => f.write_str("the IOMMU does not remap interrupts"),
            Self::Failed(error) => write!(f, "no IOMMU domain (error {})", error.to_errno()),
        }
    }
}

/// The domain that a function is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// That of the DMA API.
    DmaApi,
    /// Its driver's own.
    Own,
}

/// What is known of where a function is attached.
struct Place {
    attached: Attached,
    /// The function has left the domain of the DMA API at some time, or has tried. When the kernel believes since
    /// that it is there, it may be in another, or in none: giving it back is a call that cannot say whether it has
    /// failed.
    has_left: bool,
}

/// A paging domain for one function.
///
/// # Invariants
///
/// - `domain` is a paging domain that `self` owns, attached to the function if `place` says so.
/// - What it maps of memory is in `mappings`, and nothing else is.
#[pin_data(PinnedDrop)]
pub struct Domain<'bound> {
    pdev: &'bound pci::Device<Bound>,
    domain: NonNull<bindings::iommu_domain>,
    reserved: Reserved,
    /// Held while the domain changes.
    #[pin]
    place: Mutex<Place>,
    #[pin]
    mappings: Mappings,
}

// SAFETY: A domain may be used from any thread that may sleep. What else there is is `Send`.
unsafe impl Send for Domain<'_> {}

// SAFETY: What changes a domain is serialized by `place`; what does not change is read without.
unsafe impl Sync for Domain<'_> {}

/// A domain that nothing was done with. Dropping it frees it.
struct Allocation(NonNull<bindings::iommu_domain>);

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: `self` owns the domain, which is not attached.
        unsafe { bindings::iommu_domain_free(self.0.as_ptr()) };
    }
}

/// Returns the C structure of the generic device of a function.
fn as_device(pdev: &pci::Device<Bound>) -> *mut bindings::device {
    // SAFETY: A reference is valid; only the address of a field is taken.
    unsafe { &raw mut (*as_raw(pdev)).dev }
}

/// Returns whether a function behind an IOMMU can raise only interrupts that are its own.
fn has_isolated_interrupts(pdev: &pci::Device<Bound>) -> bool {
    // SAFETY: The device is valid.
    let group = unsafe { bindings::iommu_group_get(as_device(pdev)) };

    if group.is_null() {
        return false;
    }
    // SAFETY: The group is valid, the reference to it was taken above.
    unsafe {
        let isolated = bindings::iommu_group_has_isolated_msi(group);
        bindings::iommu_group_put(group);
        isolated
    }
}

impl<'bound> Domain<'bound> {
    /// Returns an initializer for an empty domain that the function is not attached to.
    ///
    /// # Errors
    ///
    /// Says why the function can have none.
    pub fn new(
        pdev: &'bound pci::Device<Bound>,
    ) -> Result<impl PinInit<Self> + 'bound, Unavailable> {
        let dev = as_device(pdev);

        // SAFETY: The device is valid.
        if unsafe { !bindings::vdpa_device_iommu_mapped(dev) } {
            return Err(Unavailable::NoIommu);
        }
        // SAFETY: As above.
        let coherent = unsafe {
            bindings::device_iommu_capable(dev, bindings::iommu_cap_IOMMU_CAP_CACHE_COHERENCY)
        };
        if !coherent {
            return Err(Unavailable::NotCoherent);
        }
        let reserved = Reserved::read(pdev).map_err(Unavailable::Failed)?;
        if !has_isolated_interrupts(pdev) {
            return Err(Unavailable::OpenInterrupts);
        }

        // SAFETY: The device is valid.
        let domain = from_err_ptr(unsafe { bindings::iommu_paging_domain_alloc_flags(dev, 0) })
            .map_err(Unavailable::Failed)?;
        let allocation = Allocation(NonNull::new(domain).ok_or(Unavailable::Failed(ENOMEM))?);
        if let Some(base) = reserved.interrupts {
            // SAFETY: The domain is valid, and nobody else knows it yet. What is mapped there for
            // interrupts is no memory, and goes with the domain; no memory is mapped there.
            to_result(unsafe { bindings::vdpa_iommu_get_msi_cookie(allocation.0.as_ptr(), base) })
                .map_err(Unavailable::Failed)?;
        }

        Ok(pin_init!(Self {
            pdev,
            domain: {
                let domain = allocation.0;
                // It is freed by `Self` from here on: what follows cannot fail.
                core::mem::forget(allocation);
                domain
            },
            reserved,
            place <- new_mutex!(
                Place {
                    attached: Attached::DmaApi,
                    has_left: false,
                },
                "vdpa::iommu::Domain"
            ),
            mappings <- Mappings::new(),
        }))
    }

    /// Returns the addresses that the domain can map.
    pub fn aperture(&self) -> iova::Range {
        // SAFETY: By the type invariant. The geometry does not change.
        let geometry = unsafe { (*self.domain.as_ptr()).geometry };

        if !geometry.force_aperture {
            return iova::Range::ALL;
        }
        iova::Range::from_bounds(geometry.aperture_start, geometry.aperture_end)
            .unwrap_or(iova::Range::ALL)
    }

    /// Returns the addresses that cannot be mapped: accesses to them go elsewhere.
    pub fn reserved(&self) -> &[iova::Range] {
        &self.reserved.ranges
    }

    /// Returns whether the function's interrupts pass through the IOMMU's translation. If so, one that
    /// is requested while a domain is attached arrives only while that domain is.
    pub fn translates_interrupts(&self) -> bool {
        self.reserved.interrupts.is_some()
    }

    /// Returns which domain the function is attached to.
    pub fn attached(&self) -> Attached {
        self.place.lock().attached
    }

    /// Attaches the function to the domain, unless it is already. May sleep.
    ///
    /// The DMA API does not work for the function from here on.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if others share its IOMMU group, from which it could not be told.
    /// - `EBUSY` if somebody else has attached a domain, or while the function is being reset.
    pub fn attach(&self) -> Result {
        self.attach_locked(&mut self.place.lock())
    }

    fn attach_locked(&self, place: &mut Place) -> Result {
        if place.attached == Attached::DmaApi {
            // SAFETY: The domain is valid; so is the device, which is bound. The C function refuses a
            // group that is shared, or that somebody else has attached.
            let result = to_result(unsafe {
                bindings::iommu_attach_device(self.domain.as_ptr(), as_device(self.pdev))
            });
            match result {
                Ok(()) => {
                    place.attached = Attached::Own;
                    place.has_left = true;
                }
                // The core has done nothing. An IOMMU's driver says neither of a domain that was made for
                // the function.
                Err(EINVAL | EBUSY) => {}
                // It may have taken the function from the other domain already.
                Err(_) => place.has_left = true,
            }
            return result;
        }
        Ok(())
    }

    /// Gives the function back to the domain of the DMA API. May sleep.
    ///
    /// If that fails, for want of memory, the kernel warns and tells nobody: see
    /// [`settle`](Self::settle).
    pub fn detach(&self) {
        self.detach_locked(&mut self.place.lock());
    }

    fn detach_locked(&self, place: &mut Place) {
        if place.attached == Attached::Own {
            // SAFETY: The domain is attached to the device, by this type alone: nobody else knows it.
            unsafe { bindings::iommu_detach_device(self.domain.as_ptr(), as_device(self.pdev)) };
            place.attached = Attached::DmaApi;
        }
    }

    /// Gives the function back to the domain of the DMA API, for somebody who needs that domain. May sleep.
    ///
    /// The kernel believes that a function is there which it could not give back, and does nothing for one
    /// that is there. Thus what has left that domain before does so once more, and comes back. That nobody is
    /// told of a failure is true of this, too: the next time mends it.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach): the function may be in another domain, or in none.
    pub fn settle(&self) -> Result {
        let mut place = self.place.lock();

        self.detach_locked(&mut place);
        if place.has_left {
            self.attach_locked(&mut place)?;
            self.detach_locked(&mut place);
        }
        Ok(())
    }

    /// Returns whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    /// Checks whether a mapping is one that the domain can have.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the function may neither read nor write the memory, and where nothing can be mapped.
    pub fn check(&self, mapping: &Mapping) -> Result {
        let Permission { read, write } = mapping.permission;
        let range = mapping.range;
        let taken = self
            .reserved
            .ranges
            .iter()
            .any(|taken| taken.overlaps(range));

        if !(read || write) || taken || !self.aperture().contains(range) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Maps memory. May sleep.
    ///
    /// # Errors
    ///
    /// - As [`check`](Self::check).
    /// - `EEXIST` if something is mapped there.
    /// - `ENOMEM`
    pub fn map(&self, held: Arc<Held>) -> Result {
        let mapping = *held.mapping();
        let range = mapping.range;
        let mut prot = c_int::try_from(bindings::IOMMU_CACHE)?;

        self.check(&mapping)?;
        if mapping.permission.read {
            prot |= c_int::try_from(bindings::IOMMU_READ)?;
        }
        if mapping.permission.write {
            prot |= c_int::try_from(bindings::IOMMU_WRITE)?;
        }
        let first = c_ulong::try_from(range.first())?;
        let size = usize::try_from(range.size())?;

        let _guard = self.place.lock();
        self.mappings.insert(held)?;
        // SAFETY: The domain is valid. The memory consists of pages that `mappings` holds until it
        // is not mapped any more; nothing else was mapped there.
        let result = to_result(unsafe {
            bindings::iommu_map(
                self.domain.as_ptr(),
                first,
                mapping.addr,
                size,
                prot,
                // Page tables are charged to the process that asks for them.
                bindings::GFP_KERNEL_ACCOUNT,
            )
        });
        if result.is_err() {
            self.mappings.take(range);
        }
        result
    }

    /// Removes the mappings that have a part in a range. The function does not reach their memory any more
    /// when this returns. May sleep.
    pub fn unmap(&self, range: iova::Range) {
        let _guard = self.place.lock();

        self.unmap_locked(range);
    }

    fn unmap_locked(&self, range: iova::Range) {
        while let Some(held) = self.mappings.take(range) {
            let range = held.mapping().range;
            let first = c_ulong::try_from(range.first());
            let size = usize::try_from(range.size());

            // Both fit, as they did when it was mapped.
            if let (Ok(first), Ok(size)) = (first, size) {
                // SAFETY: The domain is valid, and maps this range. Its pages are held until this
                // returns.
                unsafe { bindings::iommu_unmap(self.domain.as_ptr(), first, size) };
            }
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Domain<'_> {
    fn drop(self: Pin<&mut Self>) {
        self.unmap(iova::Range::ALL);
        if let Err(error) = self.settle() {
            dev_err!(
                self.pdev,
                "cannot be given back (error {}), an empty IOMMU domain is kept for it\n",
                error.to_errno()
            );
            return;
        }
        // SAFETY: By the type invariants: `self` owns the domain. It is not attached any more, as far as
        // the kernel tells.
        unsafe { bindings::iommu_domain_free(self.domain.as_ptr()) };
    }
}
