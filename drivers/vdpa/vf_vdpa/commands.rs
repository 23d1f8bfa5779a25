// SPDX-License-Identifier: GPL-2.0

//! How control commands get from the consumer's queue to the hardware's: when each is set up, and
//! when it goes.

use super::{
    control::{
        Control,
        HardwareQueue, //
    },
    control_queue::ControlQueue,
    function::Function,
    profile::Profile,
    queue::Queue,
    requester::{
        new_journal,
        Requester, //
    },
    served::Server, //
};
use core::mem;
use kernel::{
    prelude::*,
    sync::atomic::Atomic, //
};
use vdpa::{
    virtio_pci::NO_VECTOR,
    Text, //
};
use virtio::{
    control::{
        self,
        Limits,
        Opcode,
        Rules, //
    },
    features::Features,
    queue::{
        self,
        RingKind,
        Size, //
    },
    request::{
        READ_ONLY_LEN,
        WRITABLE_LEN, //
    },
    split::SplitQueue, //
};

impl Function<'_> {
    /// Returns the number that the consumer has for the control queue, if the kernel serves that,
    /// with the features that were accepted, or with all that are offered as long as none were.
    pub(crate) fn control_vq(&self, profile: &Profile, accepted: Features) -> Option<u16> {
        if !profile.serves_control {
            return None;
        }
        let features = if accepted.is_empty() {
            profile.features
        } else {
            accepted
        };

        queue::control_index(self.shared.limits.id, features, profile.map.shown_pairs())
    }

    /// Returns the largest size of a virtqueue that its consumer may choose, if it exists.
    ///
    /// The device never sees the ring of a control queue that the kernel serves, and what it has
    /// room for is no matter: that ring may be as large as any. DPDK gives all virtqueues one size.
    pub(crate) fn size_max(&self, profile: &Profile, accepted: Features, vq: u16) -> Option<u16> {
        let limits = self.queue_limits(profile, accepted, vq)?;

        if self.control_vq(profile, accepted) == Some(vq) {
            Some(self.shared.limits.num_max(accepted))
        } else {
            Some(limits.max_size)
        }
    }

    /// Sets up the hardware's control queue for the driver, if there is one and nobody else uses it.
    /// The function is confined and not started yet.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn start_requester(&self, control: &mut Control, profile: &Profile) -> Result {
        let limits = &self.shared.limits;
        let negotiated = control.negotiated(limits.hidden);

        if !profile.serves_control {
            return Ok(());
        }
        let Some(index) = queue::control_index(limits.id, negotiated, profile.map.hardware_pairs())
        else {
            return Ok(());
        };
        let old = control.requester.take().map(Requester::into_journal);
        let result = limits
            .queue(index, negotiated)
            .ok_or(EINVAL)
            .and_then(|limits| {
                let journal = old.map_or_else(|| new_journal(profile.map.shown_pairs()), Ok)?;
                let memory = self.own_memory(control, 0, READ_ONLY_LEN, WRITABLE_LEN)?;
                let notifier = self.shared.transport.notifier().clone();
                let requester = Requester::new(limits, memory, notifier, journal)?;

                self.shared
                    .transport
                    .queue(&mut control.selector, index)
                    .enable(requester.size(), &requester.addresses(), NO_VECTOR)?;
                Ok(requester)
            });

        match result {
            Ok(requester) => {
                control.requester = Some(requester);
                Ok(())
            }
            Err(error) => {
                self.complain(fmt!(
                    "control queue: the device does not enable it (error {})",
                    error.to_errno()
                ));
                Err(error)
            }
        }
    }

    /// Gives the device the MAC address that the administrator has set, or else the process. The
    /// device has been started.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn program_mac(&self, control: &mut Control) -> Result {
        let Some([a, b, c, d, e, f]) = control.mac() else {
            return Ok(());
        };
        let [class, command] = Opcode::MacAddrSet.code();
        let command = [class, command, a, b, c, d, e, f];
        let requester = control.requester.as_mut().ok_or(EIO)?;

        match requester.ask(&command, &mut [], &Atomic::new(false)) {
            Ok(control::OK) => Ok(()),
            Ok(_) => {
                self.complain(fmt!("the device does not take the MAC address"));
                Err(EIO)
            }
            Err(error) => {
                self.complain(fmt!(
                    "control queue: the device does not answer (error {})",
                    error.to_errno()
                ));
                Err(error)
            }
        }
    }

    /// Makes the device what its consumer's commands had made of it, if it was reset since. It has been
    /// started.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn replay(&self, control: &mut Control) -> Result {
        let Some(requester) = &mut control.requester else {
            return Ok(());
        };

        requester.replay().inspect_err(|error| {
            self.complain(fmt!(
                "control queue: the device does not take its configuration again (error {})",
                error.to_errno()
            ));
        })
    }

    /// Serves the consumer's control queue, which it has enabled, of a live device.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn serve_control(
        &self,
        control: &mut Control,
        profile: &Profile,
        vq: u16,
    ) -> Result {
        let max_size = self.size_max(profile, control.accepted, vq).ok_or(EINVAL)?;
        let queue = *control.queue(vq).ok_or(EINVAL)?;
        let index = queue.index.unwrap_or(0);
        let memory = self.control_memory(control)?;
        // Commands are judged by what the device shows, which nobody may have looked at.
        self.read_config(control);
        let rules = Rules {
            features: control.accepted,
            pairs: profile.map.shown_pairs(),
            mac: control.overlay.mac,
            limits: Limits::from_config(&control.config),
        };

        let Some(addresses) = queue.addresses else {
            self.complain(fmt!("virtqueue {vq} has no addresses"));
            return Err(EINVAL);
        };
        let num = queue.num.unwrap_or(u32::from(max_size));
        let queue = Size::new(num, max_size, RingKind::Split)
            .and_then(|size| SplitQueue::new(size, addresses, control.accepted))
            .map(|queue| queue.with_state(index, index))
            .map_err(|error| {
                self.complain(fmt!("virtqueue {vq}: {}", Text(error)));
                EINVAL
            })?;
        let receiver = self.shared.receivers.queue(vq).ok_or(EINVAL)?;
        if control.command.is_empty() {
            control.command = ControlQueue::buffer()
                .inspect_err(|_| self.complain(fmt!("virtqueue {vq}: no memory to serve it")))?;
        }
        let Some(requester) = control.requester.take() else {
            self.complain(fmt!("virtqueue {vq}: the device has no control queue"));
            return Err(EIO);
        };

        let buffer = mem::take(&mut control.command);
        let server = ControlQueue::new(queue, memory, requester, rules, buffer);
        receiver.install(Server::Control(server));
        receiver.begin();
        if let Some(queue) = control.queue(vq) {
            queue.hardware = HardwareQueue::Served;
            queue.was_live = true;
        }
        Ok(())
    }

    /// Ends serving the control queue, which the consumer has disabled. Waits for the command that is
    /// being served, which is given up.
    pub(crate) fn end_control(&self, control: &mut Control, vq: u16) {
        let queue = self.shared.receivers.queue(vq);

        if let Some(Server::Control(server)) = queue.and_then(Queue::end_serving) {
            // The consumer of a device that is suspended may have said meanwhile where it goes on.
            if let Some(queue) = control.queue(vq) {
                if queue.hardware == HardwareQueue::Served {
                    queue.index = Some(server.next());
                }
            }
            let (requester, command) = server.into_parts();
            control.requester = Some(requester);
            control.command = command;
        }
    }

    /// Enables or disables the control queue that the kernel serves: at once if the device is live,
    /// else when it starts.
    ///
    /// # Errors
    ///
    /// Any, after a log line: it is not enabled.
    pub(crate) fn set_control_ready(
        &self,
        control: &mut Control,
        profile: &Profile,
        vq: u16,
        ready: bool,
    ) -> Result {
        let live = control.is_live();
        let result = match (live, ready) {
            (true, true) => self.serve_control(control, profile, vq),
            (true, false) => {
                self.end_control(control, vq);
                Ok(())
            }
            (false, _) => Ok(()),
        };
        let ready = ready && result.is_ok();

        if let Some(queue) = control.queue(vq) {
            queue.ready = ready;
            if live && !ready {
                queue.hardware = HardwareQueue::Disabled;
            }
        }
        result
    }
}
