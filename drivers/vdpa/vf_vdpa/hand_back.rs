// SPDX-License-Identifier: GPL-2.0

//! Giving a relayed virtqueue back to its device.

use super::{
    control::HardwareQueue,
    function::Shared,
    program::Ring,
    relay_queue::Broken,
    served::Served, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::Instant, //
};
use vdpa::view::View;

/// What became of a hand-back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandedBack {
    /// The device serves the consumer's rings.
    Done,
    /// Somebody has the lock of the function, or the consumer's rings are not there just now.
    Blocked,
    /// The relay is about to end anyhow.
    Ending,
}

/// A queue whose device may have it back: whatever it was given is returned, the consumer's indices are
/// where a device begins, and its rings are not looked at.
pub(crate) struct HandBack {
    ring: Ring,
    view: Arc<View>,
    shared: Arc<Shared>,
}

impl HandBack {
    pub(crate) fn new(ring: Ring, view: Arc<View>, shared: Arc<Shared>) -> Self {
        Self { ring, view, shared }
    }

    /// Returns the virtqueue's number.
    pub(crate) fn vq(&self) -> u16 {
        self.ring.vq
    }

    /// Has the device serve the consumer's rings by itself. Sleeps.
    ///
    /// # Errors
    ///
    /// If the device does not take them.
    pub(crate) fn run(&self, served: &Served) -> Result<HandedBack, Broken> {
        // Whoever has it may be waiting for the caller to end, or for what is held back.
        let Some(mut control) = self.shared.control.try_lock() else {
            return Ok(HandedBack::Blocked);
        };
        let control = &mut *control;
        let runs = control.is_live();
        let relayed = control
            .queue(self.ring.vq)
            .is_some_and(|queue| queue.hardware == HardwareQueue::Relayed);

        if !runs || !relayed {
            return Ok(HandedBack::Ending);
        }
        // A consumer at rest may be mapping its rings anew. The device looks at them at once.
        if self.view.access().is_none() {
            return Ok(HandedBack::Blocked);
        }
        let hardware = self
            .shared
            .transport
            .queue(&mut control.selector, self.ring.doorbell.index);
        hardware.reset().map_err(Broken::Device)?;
        hardware
            .enable(self.ring.size, &self.ring.addresses, self.ring.vector)
            .map_err(Broken::Device)?;
        if let Some(queue) = control.queue(self.ring.vq) {
            queue.hardware = HardwareQueue::Enabled;
            queue.since = Some(Instant::now());
            queue.index = Some(0);
        }
        // A kick that found the gate as it was leads nowhere from here on: both sides are told.
        let relay = served.take_relay();
        served.gate.hand_over(self.ring.doorbell);
        served.counters.handed_back();
        drop(relay);
        Ok(HandedBack::Done)
    }
}
