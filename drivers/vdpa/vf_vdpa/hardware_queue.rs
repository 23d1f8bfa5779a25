// SPDX-License-Identifier: GPL-2.0

//! A virtqueue as the hardware has it: how it is enabled, and stopped.

use super::{
    control::{
        Control,
        HardwareQueue, //
    },
    function::Function,
    profile::Profile,
    program::Ring,
    relay_queue::RelayQueue,
    served::Server, //
};
use kernel::{
    prelude::*,
    time::Instant, //
};
use virtio::{
    features::Features,
    policy, //
};

/// A virtqueue that can be enabled.
pub(crate) struct PreparedQueue {
    ring: Ring,
    relay: Option<RelayQueue>,
}

impl Function<'_> {
    /// Enables all that the consumer has enabled but what the kernel serves.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn enable_data_queues(&self, control: &mut Control, profile: &Profile) -> Result {
        let queues = self.prepare_data_queues(control, profile)?;

        self.enable_prepared(control, queues)
    }

    /// Checks and allocates what it takes to enable all that the consumer has enabled but what the kernel
    /// serves. Nothing of it is enabled.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn prepare_data_queues(
        &self,
        control: &mut Control,
        profile: &Profile,
    ) -> Result<KVVec<PreparedQueue>> {
        let served = self.control_vq(profile, control.accepted);
        let ready = |control: &Control, vq: u16| {
            let queue = control.queues.get(usize::from(vq));
            served != Some(vq) && queue.is_some_and(|queue| queue.ready)
        };
        let count = (0..profile.nvqs).filter(|vq| ready(control, *vq)).count();
        // A relay is large, and there may be many.
        let mut queues = KVVec::with_capacity(count, GFP_KERNEL)
            .inspect_err(|_| self.complain(fmt!("no memory to enable its virtqueues")))?;

        for vq in 0..profile.nvqs {
            if ready(control, vq) {
                queues.push(self.prepare_queue(control, profile, vq)?, GFP_KERNEL)?;
            }
        }
        Ok(queues)
    }

    /// Enables virtqueues.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn enable_prepared(
        &self,
        control: &mut Control,
        queues: KVVec<PreparedQueue>,
    ) -> Result {
        queues
            .into_iter()
            .try_for_each(|queue| self.enable_queue(control, queue))
    }

    /// Checks and allocates what it takes to enable a virtqueue: with a relay if its device cannot start
    /// where the consumer is.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn prepare_queue(
        &self,
        control: &mut Control,
        profile: &Profile,
        vq: u16,
    ) -> Result<PreparedQueue> {
        if control
            .queue(vq)
            .is_some_and(|queue| queue.hardware == HardwareQueue::Parked)
        {
            self.complain(fmt!(
                "virtqueue {vq} cannot be enabled again before a reset"
            ));
            return Err(EBUSY);
        }
        let ring = self.ring(control, profile, vq)?;
        let receiver = self.shared.receivers.queue(vq).ok_or(EINVAL)?;
        // What is left of an earlier relay has the same place in the driver's window.
        drop(receiver.end_serving());
        let relay = if self.needs_relay(control, &ring) {
            Some(self.relay(control, ring)?)
        } else {
            None
        };
        Ok(PreparedQueue { ring, relay })
    }

    /// Programs a virtqueue, and enables it.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn enable_queue(&self, control: &mut Control, queue: PreparedQueue) -> Result {
        let PreparedQueue { ring, relay } = queue;
        let vq = ring.vq;
        let receiver = self.shared.receivers.queue(vq).ok_or(EINVAL)?;
        let addresses = relay.as_ref().map_or(ring.addresses, RelayQueue::addresses);

        // The first interrupt may come at once.
        receiver.gate().set_muted(false);
        self.shared
            .transport
            .queue(&mut control.selector, ring.doorbell.index)
            .enable(ring.size, &addresses, ring.vector)
            .inspect_err(|error| {
                self.complain(fmt!(
                    "virtqueue {vq}: the device does not enable it (error {})",
                    error.to_errno()
                ));
            })?;
        let queue = control.queue(vq).ok_or(EINVAL)?;
        queue.was_live = true;
        queue.hardware = HardwareQueue::Enabled;
        queue.since = Some(Instant::now());
        queue.programmed = Some(ring);
        if let Some(relay) = relay {
            receiver.install(Server::Relay(relay));
            queue.hardware = HardwareQueue::Relayed;
        }
        Ok(())
    }

    /// Stops one virtqueue of a live device, and nothing else.
    pub(crate) fn disable_queue(&self, control: &mut Control, profile: &Profile, vq: u16) {
        let Some(receiver) = self.shared.receivers.queue(vq) else {
            return;
        };
        if !control.queue(vq).is_some_and(|queue| queue.hardware.runs()) {
            return;
        }
        receiver.pause_serving();
        receiver.gate().set_muted(true);

        let result = self.stop_queue(control, profile, vq);
        match result {
            Err(_) if control.kernel_consumer => {
                self.complain(fmt!(
                    "virtqueue {vq} cannot be stopped before a reset, so the device is"
                ));
                // Its ring is freed next, by a virtio driver whose probe has failed: it does not reset.
                self.give_up(control);
                control.demand_reset();
            }
            Err(error) => self.complain(fmt!(
                "virtqueue {vq} cannot be stopped before a reset (error {}), only muted: it goes on",
                error.to_errno()
            )),
            Ok(()) => {}
        }
        // A process that enables it again wants to go on where its rings are. The kernel makes new
        // ones, and so does whoever uses rings that do not tell.
        let tells = !control.kernel_consumer && policy::is_movable(control.accepted);
        let index = if tells {
            result.and_then(|()| self.standing_alone(control, vq)).ok()
        } else {
            Some(0)
        };
        if let Some(queue) = control.queue(vq) {
            queue.index = index;
            queue.hardware = match result {
                Ok(()) => HardwareQueue::Disabled,
                Err(_) => HardwareQueue::Parked,
            };
        }
        receiver.gate().callback.call();
    }

    /// Stops a virtqueue in hardware.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP` if the function can only stop all of them.
    /// - `EINVAL` if there is no such virtqueue.
    /// - `ENODEV`, `ETIMEDOUT` if it does not stop.
    pub(crate) fn stop_queue(&self, control: &mut Control, profile: &Profile, vq: u16) -> Result {
        if !self.shared.limits.hidden.contains(Features::RING_RESET) {
            return Err(EOPNOTSUPP);
        }
        let limits = self
            .queue_limits(profile, control.accepted, vq)
            .ok_or(EINVAL)?;

        self.shared
            .transport
            .queue(&mut control.selector, limits.doorbell.index)
            .reset()
    }
}
