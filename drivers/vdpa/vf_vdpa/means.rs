// SPDX-License-Identifier: GPL-2.0

//! The means of stopping the virtqueues of a live device, and of going on: which one a function has.

use super::{
    control::{
        Control,
        HardwareQueue,
        Phase, //
    },
    function::Function,
    profile::Profile,
    program::Ring,
    queue::Queue, //
};
use kernel::{
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use vdpa::Text;
use virtio::{
    device_id::DeviceId,
    features::{
        self,
        Features, //
    },
    status::Status, //
};

/// How long the virtqueues of a device may take to be reset before no other one is.
const ALL_QUEUES: Delta = Delta::from_secs(2);

/// The most of it that one of them takes up: a host may stand still once.
const ONE_QUEUE: Delta = Delta::from_millis(500);

/// Why a device that was stopped does not go on.
pub(crate) enum NotOn {
    /// There was no memory, and nothing was done: it is as it was.
    NoMemory,
    /// It may have gone on in part.
    Broken,
}

impl From<Error> for NotOn {
    fn from(_: Error) -> Self {
        Self::Broken
    }
}

/// A means of stopping a device so that it can go on.
pub(crate) trait Means {
    /// Stops all data queues of a live device in hardware.
    ///
    /// # Errors
    ///
    /// Any, after a log line. Some of them may go on.
    fn stop(&self, function: &Function<'_>, control: &mut Control, profile: &Profile) -> Result;

    /// Returns what the hardware does with a virtqueue that it served, and that stands at `index`.
    fn stopped(&self, _index: u16) -> HardwareQueue {
        HardwareQueue::Disabled
    }

    /// Lets a device that was stopped so go on where its consumer wants it to.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    fn go_on(
        &self,
        function: &Function<'_>,
        control: &mut Control,
        profile: &Profile,
    ) -> Result<(), NotOn>;
}

/// The device suspends itself (`SUSPEND`, virtio 1.4), and loses nothing.
struct Suspension;

/// The virtqueues are reset, one by one (`RING_RESET`). The rest of the device stays as it is.
struct RingReset;

/// The device is reset, and made what it was: any device can do that.
struct FullReset;

impl Means for Suspension {
    fn stop(&self, function: &Function<'_>, _: &mut Control, _: &Profile) -> Result {
        function.shared.transport.suspend().inspect_err(|error| {
            function.complain(fmt!(
                "does not suspend itself (error {}), its status is {}",
                error.to_errno(),
                Text(function.shared.transport.status())
            ));
        })
    }

    fn stopped(&self, index: u16) -> HardwareQueue {
        HardwareQueue::Frozen { index }
    }

    fn go_on(
        &self,
        function: &Function<'_>,
        control: &mut Control,
        profile: &Profile,
    ) -> Result<(), NotOn> {
        if !function.is_as_it_was(control, profile) {
            // Nothing else may be told to a device that is suspended.
            FullReset.stop(function, control, profile)?;
            if control.phase != Phase::Suspended {
                return Err(NotOn::Broken);
            }
            for queue in &mut control.queues {
                if queue.hardware.rests() {
                    queue.hardware = HardwareQueue::Disabled;
                }
            }
            return FullReset.go_on(function, control, profile);
        }
        for (vq, queue) in (0..profile.nvqs).zip(&mut control.queues) {
            if matches!(queue.hardware, HardwareQueue::Frozen { .. }) {
                queue.hardware = HardwareQueue::Enabled;
                queue.since = Some(Instant::now());
                // As of a queue that the device serves alone, whatever it has done before.
                queue.index = Some(0);
                // The first interrupt may come at once.
                if let Some(receiver) = function.shared.receivers.queue(vq) {
                    receiver.gate().set_muted(false);
                }
            }
        }
        function.shared.transport.resume().inspect_err(|error| {
            function.complain(fmt!(
                "does not resume (error {}), its status is {}",
                error.to_errno(),
                Text(function.shared.transport.status())
            ));
        })?;
        Ok(function.be_live(control, profile)?)
    }
}

impl Means for RingReset {
    fn stop(&self, function: &Function<'_>, control: &mut Control, profile: &Profile) -> Result {
        let mut spent = Delta::ZERO;

        for vq in 0..profile.nvqs {
            if !control.queue(vq).is_some_and(|queue| queue.hardware.runs()) {
                continue;
            }
            // Each may take as long as a reset, but not one after the other under the function's lock.
            if spent > ALL_QUEUES {
                function.complain(fmt!(
                    "virtqueue {vq} is not stopped: those before it took too long"
                ));
                return Err(ETIMEDOUT);
            }
            let start = Instant::<Monotonic>::now();
            function
                .stop_queue(control, profile, vq)
                .inspect_err(|error| {
                    function.complain(fmt!(
                        "virtqueue {vq} cannot be stopped (error {})",
                        error.to_errno()
                    ));
                })?;
            spent += start.elapsed().min(ONE_QUEUE);
        }
        Ok(())
    }

    fn go_on(
        &self,
        function: &Function<'_>,
        control: &mut Control,
        profile: &Profile,
    ) -> Result<(), NotOn> {
        let status = function.shared.transport.status();
        if status.is_gone() {
            function.cut_off(control);
            return Err(NotOn::Broken);
        }
        if !status.contains(Status::DRIVER_OK) || status.contains(Status::NEEDS_RESET) {
            function.complain(fmt!("does not go on: its status is {}", Text(status)));
            return Err(NotOn::Broken);
        }
        let queues =
            function
                .prepare_data_queues(control, profile)
                .map_err(|error| match error {
                    ENOMEM => NotOn::NoMemory,
                    _ => NotOn::Broken,
                })?;
        function.enable_prepared(control, queues)?;
        Ok(function.be_live(control, profile)?)
    }
}

impl Means for FullReset {
    fn stop(&self, function: &Function<'_>, control: &mut Control, _: &Profile) -> Result {
        function.quiesce(control)
    }

    fn go_on(
        &self,
        function: &Function<'_>,
        control: &mut Control,
        profile: &Profile,
    ) -> Result<(), NotOn> {
        let shown = control.status;
        let commanded = function.shared.limits.id == DeviceId::NET
            && control.accepted.contains(features::net::CTRL_VQ);

        if commanded && !profile.serves_control {
            function.complain(fmt!(
                "does not resume: nobody knows what its control queue has been told"
            ));
            return Err(NotOn::Broken);
        }
        if let Some(vq) = function.control_vq(profile, control.accepted) {
            function.end_control(control, vq);
        }
        let result = function
            .negotiate_again(control)
            .and_then(|()| function.start(control, profile));
        // The consumer has not been told of any of this.
        control.status = control.status.union(shown);
        Ok(result?)
    }
}

impl Function<'_> {
    /// Returns the best means that the function has.
    pub(crate) fn means(&self) -> &'static dyn Means {
        let hidden = self.shared.limits.hidden;

        if hidden.contains(Features::SUSPEND) {
            &Suspension
        } else if hidden.contains(Features::RING_RESET) {
            &RingReset
        } else {
            &FullReset
        }
    }

    /// Returns whether the consumer of a device that has suspended itself wants each data queue as the
    /// device has it.
    fn is_as_it_was(&self, control: &mut Control, profile: &Profile) -> bool {
        let served = self.control_vq(profile, control.accepted);

        (0..profile.nvqs)
            .filter(|vq| served != Some(*vq))
            .all(|vq| {
                let Some(&mut queue) = control.queue(vq) else {
                    return false;
                };
                // The device has the driver's rings.
                let relayed = self
                    .shared
                    .receivers
                    .queue(vq)
                    .is_some_and(Queue::is_relayed);
                if relayed {
                    return false;
                }
                match queue.hardware {
                    HardwareQueue::Disabled => !queue.ready,
                    HardwareQueue::Frozen { index }
                        if queue.ready && queue.index == Some(index) =>
                    {
                        // Where it began does not matter any more.
                        let wanted = self.ring(control, profile, vq).ok();
                        wanted.zip(queue.programmed).is_some_and(|(wanted, had)| {
                            had == Ring {
                                index: had.index,
                                ..wanted
                            }
                        })
                    }
                    _ => false,
                }
            })
    }

    /// Negotiates what the consumer has accepted once more, with a device that was reset since.
    ///
    /// # Errors
    ///
    /// `EIO`, after a log line, if the device does not agree any more.
    pub(crate) fn negotiate_again(&self, control: &mut Control) -> Result {
        let negotiated = Status::FEATURES_OK.union(Status::DRIVER_OK);

        control.status = control.status.difference(negotiated);
        self.shared.transport.set_status(control.status);
        self.negotiate(control).then_some(()).ok_or(EIO)
    }

    /// Makes a device live again that was not reset, and whose data queues have been enabled.
    fn be_live(&self, control: &mut Control, profile: &Profile) -> Result {
        self.shared.receivers.alarm.mark_stale();
        if let Some(vq) = self.control_vq(profile, control.accepted) {
            self.end_control(control, vq);
            if control.queue(vq).is_some_and(|queue| queue.ready) {
                self.serve_control(control, profile, vq)?;
            }
        }
        control.phase = Phase::Live;
        for vq in 0..profile.nvqs {
            self.open_gate(control, profile, vq);
        }
        Ok(())
    }
}
