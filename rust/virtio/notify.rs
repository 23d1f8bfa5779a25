// SPDX-License-Identifier: GPL-2.0

//! Doorbells: where a queue is kicked, and whether user space may do it (virtio 1.3, 4.1.4.4).

use core::fmt;

use crate::capability::Notify;

/// A doorbell: what has to be written where to notify a device of available buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// The number of the virtqueue in the device, which is the value to write.
    pub index: u16,
    /// The offset in the BAR, within the notification window.
    pub offset: u32,
}

/// Bytes of a doorbell: the queue index, as NOTIFICATION_DATA is never negotiated.
const DOORBELL_LEN: u64 = 2;

/// The doorbell of a queue lies outside of the notification window.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NotifyError {
    queue_notify_off: u16,
    multiplier: u32,
    length: u32,
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "doorbell at queue_notify_off {} times {} is outside the notification window of {:#x} \
             bytes",
            self.queue_notify_off, self.multiplier, self.length
        )
    }
}

/// The offset in bytes, from the start of the BAR of `notify`, of the 16-bit doorbell of the queue
/// for which the device reports `queue_notify_off`.
pub fn doorbell(notify: &Notify, queue_notify_off: u16) -> Result<u32, NotifyError> {
    let window = notify.window();
    let error = NotifyError {
        queue_notify_off,
        multiplier: notify.multiplier(),
        length: window.length(),
    };
    // 16 by 32 bits: never saturates.
    let offset = u64::from(queue_notify_off).saturating_mul(u64::from(notify.multiplier()));
    if offset.saturating_add(DOORBELL_LEN) > u64::from(window.length()) {
        return Err(error);
    }
    let in_bar = offset.saturating_add(u64::from(window.offset()));
    u32::try_from(in_bar).map_err(|_| error)
}

/// The physical address of the page that holds nothing but the doorbell at `doorbell_offset` of the
/// BAR, for a consumer to map; `None` if there is no such page.
///
/// `bar_start` is the physical address of the BAR and `page_size` the page size of the host in
/// bytes. The page must start with the doorbell and end within the notification window, and the
/// doorbells of other queues must be whole pages away: else the consumer would reach registers that
/// are not its own, or those of the queues that the parent keeps for itself.
#[must_use]
pub fn doorbell_page(
    notify: &Notify,
    bar_start: u64,
    doorbell_offset: u32,
    page_size: u64,
) -> Option<u64> {
    if !page_size.is_power_of_two() {
        return None;
    }
    let in_page = page_size.checked_sub(1)?;
    let multiplier = u64::from(notify.multiplier());
    if multiplier == 0 || multiplier & in_page != 0 {
        return None;
    }
    let start = u64::from(doorbell_offset);
    let end = start.checked_add(page_size)?;
    let window = notify.window();
    if start < u64::from(window.offset()) || end > window.end() {
        return None;
    }
    let address = bar_start.checked_add(start)?;
    address.checked_add(page_size)?;
    (address & in_page == 0).then_some(address)
}
