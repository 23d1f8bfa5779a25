// SPDX-License-Identifier: GPL-2.0

//! The registers of a virtio 1.x PCI function.
//!
//! See section 4.1.4 of the virtio specification 1.3. Registers are only reached through windows
//! that [`virtio::capability`] has checked against the BARs.
//!
//! C header: [`include/uapi/linux/virtio_pci.h`](srctree/include/uapi/linux/virtio_pci.h)

use super::{
    notifier::Notifier,
    pci::NUM_BARS,
    registers::Registers, //
};
use kernel::{
    device::Bound,
    io::poll::read_poll_timeout,
    pci::{
        self,
        Bar, //
    },
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use virtio::{
    capability::Layout,
    features::Features,
    status::{
        Status,
        SuspendError, //
    }, //
};

mod queue;

pub use self::queue::{
    QueueLimits,
    SelectedQueue,
    NO_VECTOR, //
};

/// Offsets in the common configuration (`struct virtio_pci_modern_common_cfg`), in bytes.
mod reg {
    pub(super) const DEVICE_FEATURE_SELECT: u32 = 0x00;
    pub(super) const DEVICE_FEATURE: u32 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u32 = 0x08;
    pub(super) const DRIVER_FEATURE: u32 = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: u32 = 0x10;
    pub(super) const NUM_QUEUES: u32 = 0x12;
    pub(super) const DEVICE_STATUS: u32 = 0x14;
    pub(super) const CONFIG_GENERATION: u32 = 0x15;
    pub(super) const QUEUE_SELECT: u32 = 0x16;
    pub(super) const QUEUE_SIZE: u32 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u32 = 0x1a;
    pub(super) const QUEUE_ENABLE: u32 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u32 = 0x1e;
    pub(super) const QUEUE_DESC: u32 = 0x20;
    pub(super) const QUEUE_DRIVER: u32 = 0x28;
    pub(super) const QUEUE_DEVICE: u32 = 0x30;
    pub(super) const QUEUE_RESET: u32 = 0x3a;

    /// The length of a common configuration that has `queue_reset`.
    pub(super) const LEN_WITH_RESET: u32 = 0x3c;
}

/// How long a device may take for a reset before it counts as stuck.
const RESET_TIMEOUT: Delta = Delta::from_secs(2);

/// How often the status is read meanwhile.
const RESET_POLL: Delta = Delta::from_millis(1);

/// The right to use the registers that select other registers (`queue_select`, the feature
/// selects). To be kept in a mutex: there is one for each function.
pub struct Selector(());

/// The registers of a function.
pub struct Transport {
    common: Registers,
    device: Option<Registers>,
    notifier: Arc<Notifier>,
    layout: Layout,
}

/// The BARs of a function, which nobody else may have.
pub struct Claim<'bound>(#[expect(dead_code)] [Option<Bar<'bound>>; NUM_BARS]);

impl<'bound> Claim<'bound> {
    /// Claims the BARs that `layout` needs.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if the regions of a BAR are taken.
    /// - `ENOMEM`
    pub fn new(
        pdev: &'bound pci::Device<Bound>,
        layout: &Layout,
        name: &'static CStr,
    ) -> Result<Self> {
        let mut bars = [const { None }; NUM_BARS];
        let windows = [
            Some(layout.common()),
            Some(layout.notify().window()),
            layout.device(),
        ];

        for window in windows.into_iter().flatten() {
            let slot = bars.get_mut(usize::from(window.bar())).ok_or(EINVAL)?;
            if slot.is_none() {
                *slot = Some(pdev.iomap_region(u32::from(window.bar()), name)?);
            }
        }
        Ok(Self(bars))
    }
}

impl Transport {
    /// Maps the windows of a function.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if a window is not within the BARs of the function.
    /// - `ENOMEM`
    pub fn new(pdev: &pci::Device<Bound>, layout: Layout) -> Result<(Self, Selector)> {
        let device = layout
            .device()
            .map(|window| Registers::new(pdev, window))
            .transpose()?;
        let notifier = Notifier::new(pdev, layout.notify().window())?;
        let transport = Self {
            common: Registers::new(pdev, layout.common())?,
            device,
            notifier: Arc::new(notifier, GFP_KERNEL)?,
            layout,
        };

        Ok((transport, Selector(())))
    }

    /// Returns the windows of the function.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the doorbells.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// Writes a 64-bit field as two 32-bit accesses, as section 4.1.3.1 demands.
    fn write64(&self, offset: u32, value: u64) {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = value.to_le_bytes();

        self.common
            .write32(offset, u32::from_le_bytes([b0, b1, b2, b3]));
        self.common
            .write32(offset.wrapping_add(4), u32::from_le_bytes([b4, b5, b6, b7]));
    }

    /// Returns the device status.
    pub fn status(&self) -> Status {
        Status::from_bits(self.common.read8(reg::DEVICE_STATUS))
    }

    /// Sets the device status.
    pub fn set_status(&self, status: Status) {
        self.common.write8(reg::DEVICE_STATUS, status.bits());
    }

    /// Resets the device and waits until it says that it did. May sleep.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if the function is gone.
    /// - `ETIMEDOUT` if the device does not finish.
    pub fn reset(&self) -> Result {
        self.set_status(Status::RESET);
        let status = poll(
            || self.status(),
            |status| status.is_reset() || status.is_gone(),
        )?;
        if status.is_gone() {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Has a live device, with which `SUSPEND` was negotiated, suspend itself: it finishes what it has
    /// begun, and then uses no virtqueue any more (virtio 1.4, 3.4). May sleep.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if the device cannot be reached.
    /// - `EIO` if it fails: it has to be reset.
    /// - `ETIMEDOUT` if it does not come to an end.
    pub fn suspend(&self) -> Result {
        self.turn(Status::SUSPEND, Status::has_suspended)
    }

    /// Has a device that has suspended itself go on where it was. May sleep.
    ///
    /// # Errors
    ///
    /// As [`suspend`](Self::suspend).
    pub fn resume(&self) -> Result {
        self.turn(Status::DRIVER_OK, Status::has_resumed)
    }

    /// Sets a bit of the status, and waits until the device has done what that asks for.
    fn turn(&self, bit: Status, has_turned: fn(Status) -> Result<bool, SuspendError>) -> Result {
        let status = self.status();
        if status.is_gone() {
            return Err(ENODEV);
        }
        self.set_status(status.union(bit));
        let status = poll(|| self.status(), |status| has_turned(*status) != Ok(false))?;
        match has_turned(status) {
            Ok(_) => Ok(()),
            Err(SuspendError::Gone) => Err(ENODEV),
            Err(SuspendError::Failed(_) | SuspendError::Lost(_)) => Err(EIO),
        }
    }

    /// Returns the number that changes with the device configuration.
    pub fn config_generation(&self) -> u8 {
        self.common.read8(reg::CONFIG_GENERATION)
    }

    /// Returns the number of virtqueues.
    pub fn num_queues(&self) -> u16 {
        self.common.read16(reg::NUM_QUEUES)
    }

    /// Returns the features that the device offers, the first 64 of them.
    pub fn device_features(&self, _: &mut Selector) -> Features {
        self.common.write32(reg::DEVICE_FEATURE_SELECT, 0);
        let low = self.common.read32(reg::DEVICE_FEATURE);
        self.common.write32(reg::DEVICE_FEATURE_SELECT, 1);
        let high = self.common.read32(reg::DEVICE_FEATURE);

        Features::from_bits(u64::from(high) << 32 | u64::from(low))
    }

    /// Sets the features that the driver accepts.
    pub fn set_driver_features(&self, _: &mut Selector, features: Features) {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = features.bits().to_le_bytes();

        self.common.write32(reg::DRIVER_FEATURE_SELECT, 0);
        self.common
            .write32(reg::DRIVER_FEATURE, u32::from_le_bytes([b0, b1, b2, b3]));
        self.common.write32(reg::DRIVER_FEATURE_SELECT, 1);
        self.common
            .write32(reg::DRIVER_FEATURE, u32::from_le_bytes([b4, b5, b6, b7]));
    }

    /// Sets the MSI-X vector of configuration changes.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the device has no resources for it.
    pub fn set_config_vector(&self, vector: u16) -> Result {
        self.common.write16(reg::CONFIG_MSIX_VECTOR, vector);
        if self.common.read16(reg::CONFIG_MSIX_VECTOR) != vector {
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Selects a virtqueue.
    pub fn queue<'t>(&'t self, _: &'t mut Selector, index: u16) -> SelectedQueue<'t> {
        self.common.write16(reg::QUEUE_SELECT, index);
        SelectedQueue {
            transport: self,
            index,
        }
    }

    /// Returns whether virtqueues have `queue_reset`, should the feature be negotiated.
    pub fn has_queue_reset(&self) -> bool {
        self.layout.common().length() >= reg::LEN_WITH_RESET
    }

    /// Returns the length of the device-specific configuration in bytes.
    pub fn config_len(&self) -> usize {
        self.layout
            .device()
            .and_then(|window| usize::try_from(window.length()).ok())
            .unwrap_or(0)
    }

    /// Reads the device-specific configuration from its start; what lies beyond its end is left
    /// alone.
    pub fn read_config(&self, buf: &mut [u8]) {
        let (Some(window), Some(device)) = (self.layout.device(), &self.device) else {
            return;
        };

        for (offset, byte) in (0..window.length()).zip(buf) {
            *byte = device.read8(offset);
        }
    }

    /// Writes to the device-specific configuration; what lies beyond its end is dropped.
    pub fn write_config(&self, offset: usize, buf: &[u8]) {
        let (Some(window), Some(device)) = (self.layout.device(), &self.device) else {
            return;
        };
        let Ok(start) = u32::try_from(offset) else {
            return;
        };

        for (offset, byte) in (start..window.length()).zip(buf) {
            device.write8(offset, *byte);
        }
    }
}

/// Reads until `done`. May sleep.
///
/// # Errors
///
/// `ETIMEDOUT` if that takes too long.
fn poll<T>(read: impl Fn() -> T, done: impl Fn(&T) -> bool) -> Result<T> {
    match read_poll_timeout(|| Ok(read()), &done, RESET_POLL, RESET_TIMEOUT) {
        // A host that is busy may have been away for all that time, between a read and the look at
        // the clock.
        Err(ETIMEDOUT) => Some(read()).filter(done).ok_or(ETIMEDOUT),
        result => result,
    }
}
