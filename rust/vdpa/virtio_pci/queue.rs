// SPDX-License-Identifier: GPL-2.0

//! The registers of one virtqueue.

use super::{
    poll,
    reg,
    Transport, //
};
use kernel::prelude::*;
use virtio::{
    notify::{
        self,
        Doorbell, //
    },
    queue::{
        Addresses,
        Size, //
    }, //
};

/// The vector of a virtqueue that gives no interrupts (`VIRTIO_MSI_NO_VECTOR`).
pub const NO_VECTOR: u16 = 0xffff;

/// The fixed properties of a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The largest number of entries, not 0.
    pub max_size: u16,
    /// Where `queue_notify_off` points to.
    pub doorbell: Doorbell,
}

/// The registers of one virtqueue.
pub struct SelectedQueue<'t> {
    pub(super) transport: &'t Transport,
    pub(super) index: u16,
}

impl SelectedQueue<'_> {
    /// Returns what does not change, [`None`] if there is no such virtqueue. To be called before the
    /// size is set, for the register holds the maximum only until then.
    ///
    /// # Errors
    ///
    /// If the doorbell is not within the notification window.
    pub fn limits(&self) -> Result<Option<QueueLimits>, notify::NotifyError> {
        let max_size = self.transport.common.read16(reg::QUEUE_SIZE);
        if max_size == 0 {
            return Ok(None);
        }
        let notify_off = self.transport.common.read16(reg::QUEUE_NOTIFY_OFF);
        let offset = notify::doorbell(self.transport.layout.notify(), notify_off)?;

        Ok(Some(QueueLimits {
            max_size,
            doorbell: Doorbell {
                index: self.index,
                offset,
            },
        }))
    }

    /// Sets size, addresses and MSI-X vector, and enables the virtqueue.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` if the device has no resources for the interrupt.
    /// - `EIO` if the device does not take the size, or stays disabled.
    pub fn enable(&self, size: Size, addresses: &Addresses, vector: u16) -> Result {
        let transport = self.transport;

        transport.common.write16(reg::QUEUE_SIZE, size.get());
        if transport.common.read16(reg::QUEUE_SIZE) != size.get() {
            return Err(EIO);
        }
        transport.write64(reg::QUEUE_DESC, addresses.desc);
        transport.write64(reg::QUEUE_DRIVER, addresses.driver);
        transport.write64(reg::QUEUE_DEVICE, addresses.device);
        transport.common.write16(reg::QUEUE_MSIX_VECTOR, vector);
        if transport.common.read16(reg::QUEUE_MSIX_VECTOR) != vector {
            return Err(ENOSPC);
        }
        transport.common.write16(reg::QUEUE_ENABLE, 1);
        if transport.common.read16(reg::QUEUE_ENABLE) != 1 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Resets the virtqueue and waits until the device says that it did. May sleep.
    ///
    /// `VIRTIO_F_RING_RESET` must have been negotiated.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if the function is gone.
    /// - `ETIMEDOUT` if the device does not finish.
    pub fn reset(&self) -> Result {
        let transport = self.transport;

        transport.common.write16(reg::QUEUE_RESET, 1);
        let (reset, _) = poll(
            || {
                (
                    transport.common.read16(reg::QUEUE_RESET),
                    transport.common.read16(reg::QUEUE_ENABLE),
                )
            },
            |(reset, enable)| *reset == u16::MAX || (*reset == 0 && *enable == 0),
        )?;
        if reset == u16::MAX {
            return Err(ENODEV);
        }
        Ok(())
    }
}
