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
    notify::Doorbell,
    policy,
    queue::{
        Addresses,
        RingKind,
        Size, //
    },
    status::Status, //
};

/// A virtqueue as it is programmed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ring {
    /// Its number, as the consumer counts.
    pub(crate) vq: u16,
    pub(crate) size: Size,
    pub(crate) addresses: Addresses,
    /// Where the consumer wants it to begin; meaningful for a split ring.
    pub(crate) index: u16,
    pub(crate) vector: u16,
    pub(crate) doorbell: Doorbell,
}

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
        // The status of a fresh device would be taken for that of the one that was reset.
        if !self.enabled.is_master() {
            self.complain(fmt!("was reset behind our back"));
            return Err(EIO);
        }
        self.reroute_interrupts(control)?;
        self.prepare(control, profile)?;
        self.announce(control, profile)?;
        let served = self.control_vq(profile, control.accepted);
        // A process can name the driver's own ring in its data queues, and have a frame that arrives say
        // there that the device has the address.
        let guarded = control.overlay.mac.is_some() && !control.kernel_consumer;
        if !guarded {
            self.enable_data_queues(control, profile)?;
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
        if guarded {
            self.enable_data_queues(control, profile)?;
        }
        self.replay(control)?;
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

    /// Sets up what is the driver's own in a device whose features were negotiated, and which is confined.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn prepare(&self, control: &mut Control, profile: &Profile) -> Result {
        self.shared
            .transport
            .set_config_vector(Interrupts::CONFIG_VECTOR)
            .inspect_err(|_| self.complain(fmt!("the device takes no configuration interrupt")))?;
        self.start_requester(control, profile)
    }

    /// Enables or disables a virtqueue, at once if the device is live, else when it starts.
    ///
    /// A consumer has no answer: one that waits for a queue which could not be enabled is told that the
    /// device needs a reset.
    pub(crate) fn set_queue_ready(&self, profile: &Profile, vq: u16, ready: bool) {
        let result = {
            let mut control = self.shared.control.lock();

            self.switch_queue(&mut control, profile, vq, ready)
                .inspect_err(|_| {
                    self.sever();
                    control.demand_reset();
                })
        };

        if result.is_err() {
            self.shared.receivers.alarm.config.call();
        }
    }

    /// Does so, under the lock.
    ///
    /// # Errors
    ///
    /// Any, after a log line: the virtqueue is not enabled.
    fn switch_queue(
        &self,
        control: &mut Control,
        profile: &Profile,
        vq: u16,
        ready: bool,
    ) -> Result {
        let live = control.is_live();

        if control.queue(vq).is_none_or(|queue| queue.ready == ready) {
            return Ok(());
        }
        if self.control_vq(profile, control.accepted) == Some(vq) {
            return self.set_control_ready(control, profile, vq, ready);
        }
        let Some(queue) = control.queue(vq) else {
            return Ok(());
        };
        queue.ready = ready;
        if !live {
            if !ready && control.kernel_consumer && control.phase == Phase::Live {
                // It needs a reset, and may not answer: no single queue of it is stopped. Its ring goes.
                self.give_up(control);
            }
            return Ok(());
        }
        if !ready {
            self.disable_queue(control, profile, vq);
            return Ok(());
        }
        let result = self
            .prepare_queue(control, profile, vq)
            .and_then(|queue| self.enable_queue(control, queue));
        if result.is_ok() {
            self.open_gate(control, profile, vq);
        } else if let Some(queue) = control.queue(vq) {
            queue.ready = false;
        }
        result
    }

    /// Returns the ring of a virtqueue as the consumer has set it up, checked.
    ///
    /// # Errors
    ///
    /// After a log line:
    ///
    /// - `EINVAL` if the consumer has not set up what a device can work with.
    /// - `EOPNOTSUPP` if it wants to begin where such a ring cannot.
    /// - `EIO` if it has not said where, and nobody knows.
    pub(crate) fn ring(&self, control: &mut Control, profile: &Profile, vq: u16) -> Result<Ring> {
        let kind = RingKind::from_features(control.accepted);
        let Some(limits) = self.queue_limits(profile, control.accepted, vq) else {
            self.complain(fmt!(
                "virtqueue {vq} does not exist with the negotiated features"
            ));
            return Err(EINVAL);
        };
        let queue = *control.queue(vq).ok_or(EINVAL)?;
        let Some(index) = queue.index else {
            self.complain(fmt!("virtqueue {vq}: nobody knows where it stands"));
            return Err(EIO);
        };
        if index != 0 && !policy::is_movable(control.accepted) {
            self.complain(fmt!(
                "virtqueue {vq}: rings of this kind cannot begin at {index}"
            ));
            return Err(EOPNOTSUPP);
        }
        let Some(addresses) = queue.addresses else {
            self.complain(fmt!("virtqueue {vq} has no addresses"));
            return Err(EINVAL);
        };
        let num = queue.num.unwrap_or(u32::from(limits.max_size));
        let size = Size::new(num, limits.max_size, kind)
            .and_then(|size| addresses.validate(size, kind).map(|()| size))
            .map_err(|error| {
                self.complain(fmt!("virtqueue {vq}: {}", Text(error)));
                EINVAL
            })?;

        Ok(Ring {
            vq,
            size,
            addresses,
            index,
            vector: self.interrupts.access(control).vector(vq),
            doorbell: limits.doorbell,
        })
    }

    /// Lets kicks of an enabled virtqueue through, and tells the consumer, if it is a process, to look:
    /// its ring may have been in use elsewhere, where an interrupt was still on its way.
    pub(crate) fn open_gate(&self, control: &mut Control, profile: &Profile, vq: u16) {
        let limits = self.queue_limits(profile, control.accepted, vq);
        let hardware = control.queue(vq).map(|queue| queue.hardware);
        let receiver = self.shared.receivers.queue(vq);

        match (hardware, limits, receiver) {
            (Some(HardwareQueue::Enabled), Some(limits), Some(queue)) => {
                queue.gate().open(limits.doorbell);
            }
            (Some(HardwareQueue::Relayed), _, Some(queue)) => queue.begin(),
            _ => return,
        }
        if let (false, Some(queue)) = (control.kernel_consumer, receiver) {
            queue.gate().callback.call();
        }
    }

    /// Lets no kick through any more, and no interrupt of a virtqueue: the consumer may be gone when
    /// a device makes one up.
    pub(crate) fn close_gates(&self) {
        for queue in &self.shared.receivers.queues {
            queue.close();
            queue.gate().set_muted(true);
        }
    }

    /// Logs something that a consumer can provoke, unless that has just been done.
    pub(crate) fn complain(&self, what: fmt::Arguments<'_>) {
        self.shared.receivers.alarm.complain(what);
    }

    /// Logs something that the device has done by itself, unless that has just been done.
    pub(crate) fn report(&self, what: fmt::Arguments<'_>) {
        self.shared.receivers.alarm.report(what);
    }
}
