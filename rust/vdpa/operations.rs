// SPDX-License-Identifier: GPL-2.0

//! What a vDPA device does for its consumers.

use super::{
    bindings,
    callback::Slot,
    iotlb::Iotlb,
    mgmt,
    pages::Pinned,
    pci::memory_bar_len,
    stats::Stats,
    Context, //
};
use core::marker::PhantomData;
use kernel::{
    cpumask::Cpumask,
    device::Bound,
    error::VTABLE_DEFAULT_ERROR,
    mm::Mm,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use virtio::iova;

/// The place in a virtqueue from which the device goes on (`struct vdpa_vq_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VqState {
    /// A split virtqueue.
    Split {
        /// The index of the next entry of the available ring, modulo 65536.
        avail_index: u16,
    },
    /// A packed virtqueue.
    Packed {
        /// Wrap counter of the next available descriptor.
        last_avail_counter: bool,
        /// Index of the next available descriptor, 15 bits.
        last_avail_idx: u16,
        /// Wrap counter of the next used descriptor.
        last_used_counter: bool,
        /// Index of the next used descriptor, 15 bits.
        last_used_idx: u16,
    },
}

impl VqState {
    /// The place at which a device begins in a packed virtqueue after a reset (virtio 1.3, 2.8.1).
    pub const INITIAL_PACKED: Self = Self::Packed {
        last_avail_counter: true,
        last_avail_idx: 0,
        last_used_counter: true,
        last_used_idx: 0,
    };
}

/// The doorbell of a virtqueue, to be mapped into a consumer's address space: a page of a BAR.
///
/// Whoever returns one lets an unprivileged process write to all of it.
///
/// # Invariants
///
/// `addr` is the physical address of a page, all of which is in a memory BAR of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationArea {
    addr: u64,
    size: u64,
}

impl NotificationArea {
    /// Returns the page at a physical address, [`None`] if it is not a page of a memory BAR `bar` of
    /// the function.
    pub fn new(pdev: &pci::Device<Bound>, bar: u32, addr: u64) -> Option<Self> {
        let size = u64::try_from(PAGE_SIZE).ok()?;
        let len = memory_bar_len(pdev, bar)?;
        let offset = addr.checked_sub(pdev.resource_start(bar).ok()?)?;

        // INVARIANT: This is what is checked.
        (addr % size == 0 && offset.checked_add(size)? <= len).then_some(Self { addr, size })
    }

    /// Returns the same page, but as one that a consumer must not map any more. Whoever has been
    /// allowed to map it before, may still.
    #[must_use]
    pub fn withheld(self) -> Self {
        Self { size: 0, ..self }
    }

    /// Returns the physical address and the length in bytes.
    pub(crate) fn to_raw(self) -> bindings::vdpa_notification_area {
        bindings::vdpa_notification_area {
            addr: self.addr,
            size: self.size,
        }
    }
}

/// The backend feature that virtqueues may be enabled after `DRIVER_OK`.
pub const BACKEND_F_ENABLE_AFTER_DRIVER_OK: u64 =
    1 << bindings::VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK;

/// For which device a consumer in the kernel maps the memory of a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VqMap {
    /// The parent device, which does the DMA.
    Parent,
    /// The vDPA device. It has no IOMMU, hence addresses are physical ones: for virtqueues that
    /// are served in software.
    Device,
}

/// Evidence that the consumer of a device is the kernel's own virtio driver.
///
/// It is good for the call of [`Operations::get_vq_map`] only, during `'c`: it cannot be kept until a
/// process is the consumer.
#[derive(Debug)]
pub struct KernelConsumer<'c>(PhantomData<&'c ()>);

impl KernelConsumer<'_> {
    /// # Safety
    ///
    /// The consumer is the kernel's own virtio driver during `'c`.
    pub(crate) unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

/// The operations of a vDPA device (`struct vdpa_config_ops`).
///
/// An optional operation that is not implemented is absent in the C table, because presence *is*
/// the capability: consumers advertise `suspend`, say, exactly if there is such an operation.
/// Where the capability differs between devices, use several implementations of this trait.
///
/// # Context
///
/// Unless said otherwise, an operation is called in process context and may sleep. Operations of
/// virtqueues are serialized by the consumer. These may run at any time, also concurrently with
/// the former and with each other: [`get_vq_num_max`](Self::get_vq_num_max),
/// [`get_device_id`](Self::get_device_id), [`get_vendor_id`](Self::get_vendor_id),
/// [`get_device_features`](Self::get_device_features),
/// [`get_driver_features`](Self::get_driver_features), [`get_status`](Self::get_status),
/// [`get_config`](Self::get_config), [`get_vendor_vq_stats`](Self::get_vendor_vq_stats) (any user
/// of the machine can ask for most of them through netlink), and [`kick_vq`](Self::kick_vq).
///
/// A consumer may be an unprivileged process: each operation must be harmless in any order and
/// with any argument. The index of a virtqueue is the exception, it is below the number of
/// virtqueues given at registration; but for
/// [`get_vendor_vq_stats`](Self::get_vendor_vq_stats), whose index comes from netlink unchecked.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The operations of the management device that makes devices of this type.
    type Management: mgmt::Operations;

    /// What belongs to one device. It may outlive the management device, if only by a sysfs file
    /// that somebody holds open.
    type Data: Send + Sync;

    /// Returns the callback slot of a virtqueue, [`None`] if there is no such virtqueue.
    ///
    /// It must be the same for as long as the device lives, and that of one virtqueue only: a callback
    /// is removed from the slot that this returns then, not from where it was stored.
    fn vq_callback<'c, 'a>(cx: Context<'c, 'a, Self>, vq: u16) -> Option<&'c Slot>;

    /// Returns the callback slot of the configuration.
    fn config_callback<'c, 'a>(cx: Context<'c, 'a, Self>) -> &'c Slot;

    /// Sets the addresses of the three areas of a virtqueue.
    ///
    /// # Errors
    ///
    /// vhost-vdpa turns every error into `EINVAL`.
    fn set_vq_address(
        cx: Context<'_, '_, Self>,
        vq: u16,
        desc_area: u64,
        driver_area: u64,
        device_area: u64,
    ) -> Result;

    /// Sets the number of entries of a virtqueue.
    ///
    /// There is no way to refuse: a value that cannot be honoured has to show at `DRIVER_OK`.
    fn set_vq_num(cx: Context<'_, '_, Self>, vq: u16, num: u32);

    /// Tells the device that there are available buffers.
    ///
    /// # Context
    ///
    /// Any, interrupts may be off: no sleeping lock. Must not call a callback of the consumer.
    /// May be called at any time, also before the virtqueue was set up.
    fn kick_vq(cx: Context<'_, '_, Self>, vq: u16);

    /// Like [`kick_vq`](Self::kick_vq), with the data of `VIRTIO_F_NOTIFICATION_DATA`.
    fn kick_vq_with_data(cx: Context<'_, '_, Self>, data: u32) {
        let _ = (cx, data);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Enables or disables a virtqueue. Its callback is called while it is enabled, and during this
    /// call.
    fn set_vq_ready(cx: Context<'_, '_, Self>, vq: u16, ready: bool);

    /// Returns whether a virtqueue is enabled. Must be `false` after a reset.
    fn get_vq_ready(cx: Context<'_, '_, Self>, vq: u16) -> bool;

    /// Sets the place from which the device goes on.
    fn set_vq_state(cx: Context<'_, '_, Self>, vq: u16, state: VqState) -> Result;

    /// Returns the place from which the device would go on.
    fn get_vq_state(cx: Context<'_, '_, Self>, vq: u16) -> Result<VqState>;

    /// Adds statistics of a virtqueue to a netlink message.
    ///
    /// # Context
    ///
    /// The lock of the vDPA bus is held: register access would stall every other user of it.
    fn get_vendor_vq_stats(cx: Context<'_, '_, Self>, vq: u16, stats: &mut Stats<'_>) -> Result {
        let _ = (cx, vq, stats);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the doorbell of a virtqueue, [`None`] if it must not be mapped.
    ///
    /// The answer must be the same for as long as the device lives: vhost-vdpa checks it when the
    /// doorbell is mapped, but asks again when it is touched, and maps what it is told then. If there
    /// is nothing any more, that is a page that nobody looks at.
    fn get_vq_notification(cx: Context<'_, '_, Self>, vq: u16) -> Option<NotificationArea> {
        let _ = (cx, vq);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the number of the interrupt that serves this virtqueue and nothing else.
    ///
    /// It must not change between `DRIVER_OK` and reset. vhost-vdpa asks right after it requested
    /// `DRIVER_OK`: there must be no answer if the status does not show that.
    ///
    /// # Errors
    ///
    /// Any, if there is no such interrupt.
    fn get_vq_irq(cx: Context<'_, '_, Self>, vq: u16) -> Result<u32> {
        let _ = (cx, vq);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the largest number of entries of one virtqueue, 0 if it does not exist.
    fn get_vq_size(cx: Context<'_, '_, Self>, vq: u16) -> u16 {
        let _ = (cx, vq);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the alignment of the rings in bytes, a power of two. Instead of any other number
    /// consumers are told the size of a page.
    fn get_vq_align(cx: Context<'_, '_, Self>) -> u32;

    /// Returns the group of a virtqueue.
    fn get_vq_group(cx: Context<'_, '_, Self>, vq: u16) -> u32 {
        let _ = (cx, vq);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the group of the descriptor table of a virtqueue.
    fn get_vq_desc_group(cx: Context<'_, '_, Self>, vq: u16) -> u32 {
        let _ = (cx, vq);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the virtio features that the device offers.
    fn get_device_features(cx: Context<'_, '_, Self>) -> u64;

    /// Returns backend features (`VHOST_BACKEND_F_*`) that the operations do not imply.
    fn get_backend_features(cx: Context<'_, '_, Self>) -> u64 {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets the virtio features that the consumer accepts.
    ///
    /// Called with 0 whenever the configuration is read before features were negotiated.
    fn set_driver_features(cx: Context<'_, '_, Self>, features: u64) -> Result;

    /// Returns the virtio features that the consumer accepted.
    fn get_driver_features(cx: Context<'_, '_, Self>) -> u64;

    /// Returns the largest number of entries of any virtqueue, which must not change.
    fn get_vq_num_max(cx: Context<'_, '_, Self>) -> u16;

    /// Returns the least number of entries of any virtqueue.
    fn get_vq_num_min(cx: Context<'_, '_, Self>) -> u16 {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the virtio device ID.
    fn get_device_id(cx: Context<'_, '_, Self>) -> u32;

    /// Returns the virtio vendor ID.
    fn get_vendor_id(cx: Context<'_, '_, Self>) -> u32;

    /// Returns the device status.
    ///
    /// Once it has shown `DRIVER_OK`, it must do so until the reset, whatever happens to the device.
    fn get_status(cx: Context<'_, '_, Self>) -> u8;

    /// Sets the device status, never to 0.
    fn set_status(cx: Context<'_, '_, Self>, status: u8);

    /// Resets the device.
    ///
    /// Once this returns, the device must not touch memory any more, not even on an error: the
    /// consumer gives the memory back either way. The callbacks are removed by the abstraction.
    fn reset(cx: Context<'_, '_, Self>) -> Result;

    /// Like [`reset`](Self::reset), with quirks for old consumers (`VDPA_RESET_F_*`).
    fn compat_reset(cx: Context<'_, '_, Self>, flags: u32) -> Result {
        let _ = (cx, flags);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Suspends the device: no more buffers are used, the state of virtqueues can be read.
    fn suspend(cx: Context<'_, '_, Self>) -> Result {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Goes on where [`suspend`](Self::suspend) stopped.
    fn resume(cx: Context<'_, '_, Self>) -> Result {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the size of the configuration space in bytes.
    fn get_config_size(cx: Context<'_, '_, Self>) -> usize;

    /// Reads from the configuration space.
    ///
    /// All of `buf` is zero on entry, and what is left alone stays zero: netlink reads a whole
    /// `struct virtio_net_config`, whatever [`get_config_size`](Self::get_config_size) says.
    fn get_config(cx: Context<'_, '_, Self>, offset: usize, buf: &mut [u8]);

    /// Writes to the configuration space.
    fn set_config(cx: Context<'_, '_, Self>, offset: usize, buf: &[u8]);

    /// Returns a number that changes when the configuration does.
    fn get_generation(cx: Context<'_, '_, Self>) -> u32 {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the addresses that the device can reach.
    fn get_iova_range(cx: Context<'_, '_, Self>) -> iova::Range {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets the CPUs that should handle the interrupts of a virtqueue, all of them if `mask` is
    /// [`None`].
    fn set_vq_affinity(cx: Context<'_, '_, Self>, vq: u16, mask: Option<&Cpumask>) -> Result {
        let _ = (cx, vq, mask);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the CPUs that handle the interrupts of a virtqueue.
    fn get_vq_affinity<'c>(cx: Context<'c, '_, Self>, vq: u16) -> Option<&'c Cpumask> {
        let _ = (cx, vq);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Replaces the mappings of an address space.
    fn set_map(cx: Context<'_, '_, Self>, asid: u32, iotlb: &Iotlb) -> Result {
        let _ = (cx, asid, iotlb);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Adds memory to an address space.
    ///
    /// Only vhost-vdpa asks for it.
    fn dma_map(cx: Context<'_, '_, Self>, asid: u32, memory: Pinned<'_>) -> Result {
        let _ = (cx, asid, memory);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Undoes [`dma_map`](Self::dma_map), with the range of one or several of its mappings.
    /// Required where that is implemented.
    ///
    /// Errors are ignored: when this returns, the memory must not be used.
    fn dma_unmap(cx: Context<'_, '_, Self>, asid: u32, range: iova::Range) -> Result {
        let _ = (cx, asid, range);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns an address space to its initial mappings. Called for all of them once a driver of the
    /// vDPA bus has left the device, which is reset.
    fn reset_map(cx: Context<'_, '_, Self>, asid: u32) -> Result {
        let _ = (cx, asid);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Moves a group of virtqueues to an address space.
    fn set_group_asid(cx: Context<'_, '_, Self>, group: u32, asid: u32) -> Result {
        let _ = (cx, group, asid);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns for which device a consumer in the kernel maps the memory of a virtqueue.
    ///
    /// vhost-vdpa does not ask: a call proves that the consumer is the kernel.
    fn get_vq_map(cx: Context<'_, '_, Self>, vq: u16, consumer: KernelConsumer<'_>) -> VqMap {
        let _ = (cx, vq, consumer);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Binds the device to an address space of a process.
    fn bind_mm(cx: Context<'_, '_, Self>, mm: &Mm) -> Result {
        let _ = (cx, mm);
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Undoes [`bind_mm`](Self::bind_mm).
    fn unbind_mm(cx: Context<'_, '_, Self>) {
        let _ = cx;
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
