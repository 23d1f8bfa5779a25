// SPDX-License-Identifier: GPL-2.0

//! The one place where the hardware is told what the consumer wants.

use super::{
    control::{
        Control,
        HardwareQueue,
        Phase, //
    },
    function::Function,
    interrupts::Interrupts,
    limits::MULTIQUEUE,
    profile::Profile, //
};
use kernel::{
    fmt,
    prelude::*, //
};
use vdpa::{
    virtio_pci::QueueLimits,
    Text, //
};
use virtio::{
    features::Features,
    queue::{
        RingKind,
        Size, //
    },
    status::Status, //
};

impl Function<'_> {
    /// Returns the limits of a virtqueue, by the index that the consumer uses, if it exists with the
    /// features that were accepted, or with all that are offered as long as none were.
    pub(crate) fn queue_limits(
        &self,
        profile: &Profile,
        accepted: Features,
        vq: u16,
    ) -> Option<QueueLimits> {
        let limits = &self.shared.limits;
        let negotiated = if accepted.is_empty() {
            profile.features
        } else {
            accepted
        };
        let index = profile.map.hardware_index(vq, negotiated, limits.id)?;

        limits.queue(index, negotiated)
    }

    /// Returns the limits of a virtqueue if they, and its index in the function, are the same
    /// whatever the consumer accepts of what is offered, and the kernel never serves it.
    pub(crate) fn fixed_limits(&self, profile: &Profile, vq: u16) -> Option<QueueLimits> {
        let all = self.queue_limits(profile, profile.features, vq)?;
        let some = profile.features.difference(MULTIQUEUE);
        let served = [profile.features, some].map(|accepted| self.control_vq(profile, accepted));

        if served.contains(&Some(vq)) {
            return None;
        }

        match self.queue_limits(profile, some, vq) {
            Some(other) if other.doorbell != all.doorbell => None,
            _ => Some(all),
        }
    }

    /// Enables all virtqueues that are ready, and starts the device (`DRIVER_OK`).
    ///
    /// # Errors
    ///
    /// Any, after a log line; the hardware may be programmed in part.
    pub(crate) fn start(&self, control: &mut Control, profile: &Profile) -> Result {
        let wanted = control.status.union(Status::DRIVER_OK);

        self.confine(control)?;
        if let Err(error) = self.shared.transport.set_config_vector(Interrupts::CONFIG_VECTOR) {
            self.complain(fmt!("the device takes no configuration interrupt"));
            return Err(error);
        }
        self.start_requester(control, profile)?;
        let served = self.control_vq(profile, control.accepted);
        for vq in 0..profile.nvqs {
            if control.queue(vq).is_some_and(|queue| queue.ready) && served != Some(vq) {
                self.enable_queue(control, profile, vq)?;
            }
        }
        self.shared.receivers.alarm.mark_stale();
        self.shared.transport.set_status(wanted);

        let status = self.shared.transport.status();
        let broken = Status::FAILED.union(Status::NEEDS_RESET);
        if status.is_gone() || !status.contains(Status::DRIVER_OK) || status.intersects(broken) {
            self.complain(fmt!(
                "the device does not start: its status is {}",
                Text(status)
            ));
            return Err(EIO);
        }
        self.program_mac(control)?;
        if let Some(vq) = served {
            if control.queue(vq).is_some_and(|queue| queue.ready) {
                self.serve_control(control, profile, vq)?;
            }
        }
        control.status = wanted;
        control.phase = Phase::Live;
        for vq in 0..profile.nvqs {
            self.open_gate(control, profile, vq);
        }
        Ok(())
    }

    /// Enables or disables a virtqueue, at once if the device is live, else when it starts.
    pub(crate) fn set_queue_ready(&self, profile: &Profile, vq: u16, ready: bool) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;
        let live = control.phase == Phase::Live;

        if control.queue(vq).is_none_or(|queue| queue.ready == ready) {
            return;
        }
        if self.control_vq(profile, control.accepted) == Some(vq) {
            return self.set_control_ready(control, profile, vq, ready);
        }
        let Some(queue) = control.queue(vq) else {
            return;
        };
        queue.ready = ready;
        if !live {
            return;
        }
        if !ready {
            self.disable_queue(control, profile, vq);
        } else if self.enable_queue(control, profile, vq).is_ok() {
            self.open_gate(control, profile, vq);
        } else if let Some(queue) = control.queue(vq) {
            queue.ready = false;
        }
    }

    /// Programs a virtqueue, and enables it.
    fn enable_queue(&self, control: &mut Control, profile: &Profile, vq: u16) -> Result {
        let kind = RingKind::from_features(control.accepted);
        let Some(limits) = self.queue_limits(profile, control.accepted, vq) else {
            self.complain(fmt!(
                "virtqueue {vq} does not exist with the negotiated features"
            ));
            return Err(EINVAL);
        };
        let queue = *control.queue(vq).ok_or(EINVAL)?;

        if queue.hardware == HardwareQueue::Parked {
            self.complain(fmt!(
                "virtqueue {vq} cannot be enabled again before a reset"
            ));
            return Err(EBUSY);
        }
        let Some(addresses) = queue.addresses else {
            self.complain(fmt!("virtqueue {vq} has no addresses"));
            return Err(EINVAL);
        };
        let num = queue.num.unwrap_or(u32::from(limits.max_size));
        let checked = Size::new(num, limits.max_size, kind)
            .and_then(|size| addresses.validate(size, kind).map(|()| size));
        let size = match checked {
            Ok(size) => size,
            Err(error) => {
                self.complain(fmt!("virtqueue {vq}: {}", Text(error)));
                return Err(EINVAL);
            }
        };

        // The first interrupt may come at once.
        if let Some(queue) = self.shared.receivers.queue(vq) {
            queue.set_muted(false);
        }
        let result = self
            .shared
            .transport
            .queue(&mut control.selector, limits.doorbell.index)
            .enable(size, &addresses, self.interrupts.vector(vq));
        if let Err(error) = result {
            self.complain(fmt!(
                "virtqueue {vq}: the device does not enable it (error {})",
                error.to_errno()
            ));
            return Err(error);
        }
        if let Some(queue) = control.queue(vq) {
            queue.hardware = HardwareQueue::Enabled;
            queue.was_live = true;
        }
        Ok(())
    }

    /// Stops one virtqueue of a live device, and nothing else.
    fn disable_queue(&self, control: &mut Control, profile: &Profile, vq: u16) {
        let resettable = self.shared.limits.hidden.contains(Features::RING_RESET);
        let Some(limits) = self.queue_limits(profile, control.accepted, vq) else {
            return;
        };
        let enabled = control
            .queue(vq)
            .is_some_and(|queue| queue.hardware == HardwareQueue::Enabled);
        if !enabled {
            return;
        }

        if let Some(queue) = self.shared.receivers.queue(vq) {
            queue.close();
            queue.set_muted(true);
        }
        let result = if resettable {
            self.shared.transport
                .queue(&mut control.selector, limits.doorbell.index)
                .reset()
        } else {
            Err(EOPNOTSUPP)
        };
        if let Err(error) = result {
            self.complain(
                fmt!(
                    "virtqueue {vq} cannot be stopped before a reset (error {}), only muted: it goes on",
                    error.to_errno()
                ),
            );
        }
        if let Some(queue) = control.queue(vq) {
            queue.hardware = match result {
                Ok(()) => HardwareQueue::Disabled,
                Err(_) => HardwareQueue::Parked,
            };
        }
    }

    /// Lets kicks of an enabled virtqueue through.
    fn open_gate(&self, control: &mut Control, profile: &Profile, vq: u16) {
        let limits = self.queue_limits(profile, control.accepted, vq);
        let enabled = control
            .queue(vq)
            .is_some_and(|queue| queue.hardware == HardwareQueue::Enabled);

        if let (true, Some(limits), Some(queue)) =
            (enabled, limits, self.shared.receivers.queue(vq))
        {
            queue.open(limits.doorbell);
        }
    }

    /// Lets no kick through any more, and no interrupt of a virtqueue: the consumer may be gone when
    /// a device makes one up.
    pub(crate) fn close_gates(&self) {
        for queue in &self.shared.receivers.queues {
            queue.close();
            queue.forget_kicks();
            queue.set_muted(true);
        }
    }

    /// Logs something that a consumer can provoke, unless it has just been done.
    pub(crate) fn complain(&self, what: fmt::Arguments<'_>) {
        self.shared.receivers.alarm.complain(what);
    }
}
