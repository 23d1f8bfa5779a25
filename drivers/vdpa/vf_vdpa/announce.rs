// SPDX-License-Identifier: GPL-2.0

//! Tells switches that a guest is here now, which has been elsewhere.

use super::{
    control::{
        Control,
        Phase, //
    },
    function::Function,
    profile::Profile, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use vdpa::{
    own_memory::OwnMemory,
    virtio_pci::{
        QueueLimits,
        NO_VECTOR, //
    }, //
};
use virtio::{
    announce::Announcement,
    device_id::DeviceId,
    features::{
        self,
        Features, //
    },
    net,
    request::{
        Requests,
        READ_ONLY_LEN,
        WRITABLE_LEN, //
    },
    status::Status, //
};

/// The first queue on which a network device sends.
const TRANSMIT: u16 = 1;

/// How long a device may take to send: it may have no carrier, and a guest waits.
const TIMEOUT: Delta = Delta::from_millis(100);

/// How long a wait is between two looks.
const POLL: Delta = Delta::from_micros(100);

impl Function<'_> {
    /// Has a network device, which is about to start for a process whose rings have been in use
    /// elsewhere, send one frame that tells where its station is now. The device is prepared, and no
    /// data queue is enabled; so it is afterwards. That the frame could not be sent is no error.
    ///
    /// # Errors
    ///
    /// Any, after a log line, if the device cannot be started any more.
    pub(crate) fn announce(&self, control: &mut Control, profile: &Profile) -> Result {
        let Some(mac) = self.arrived(control) else {
            return Ok(());
        };
        let Some(limits) = self.queue_limits(profile, control.accepted, TRANSMIT) else {
            return Ok(());
        };
        // What the queue's relay has later.
        let slot = TRANSMIT.saturating_add(1);
        let Ok(memory) = self.own_memory(control, slot, READ_ONLY_LEN, WRITABLE_LEN) else {
            self.nobody_was_told();
            return Ok(());
        };
        let requests = Requests::new(limits.max_size, memory.address(), memory.writable());
        let Some(mut requests) = requests else {
            return Ok(());
        };
        let negotiated = control.negotiated(self.shared.limits.hidden);
        let announcement = Announcement::new(mac, negotiated);

        self.shared
            .transport
            .queue(&mut control.selector, limits.doorbell.index)
            .enable(requests.size(), &requests.addresses(), NO_VECTOR)
            .inspect_err(|error| {
                self.complain(fmt!(
                    "virtqueue {TRANSMIT}: the device does not enable it (error {})",
                    error.to_errno()
                ));
            })?;
        self.shared
            .transport
            .set_status(control.status.union(Status::DRIVER_OK));
        // Functions send nothing that comes from an address which is not theirs.
        self.program_mac(control)?;
        if !self.send(&mut requests, &memory, limits, announcement.bytes()) {
            self.nobody_was_told();
        }
        if negotiated.contains(Features::RING_RESET) {
            return self
                .stop_queue(control, profile, TRANSMIT)
                .inspect_err(|error| {
                    self.complain(fmt!(
                        "virtqueue {TRANSMIT} cannot be stopped (error {})",
                        error.to_errno()
                    ));
                });
        }
        self.quiesce(control)?;
        // The PCI core may have taken the function.
        if control.phase != Phase::Stopped {
            return Err(EIO);
        }
        self.negotiate_again(control)?;
        self.prepare(control, profile)
    }

    fn nobody_was_told(&self) {
        self.complain(fmt!("nobody was told that its guest is here"));
    }

    /// Returns the address of a station that has come from elsewhere, if there is one.
    fn arrived(&self, control: &mut Control) -> Option<[u8; 6]> {
        let index = control.queue(TRANSMIT)?.index?;
        let network = self.shared.limits.id == DeviceId::NET;

        // One that was suspended and resumes has been here all the time.
        if !network || control.kernel_consumer || index == 0 || control.phase != Phase::Stopped {
            return None;
        }
        if control.mac().is_some() {
            return control.mac();
        }
        if !control.accepted.contains(features::net::MAC) {
            return None;
        }
        self.read_config(control);
        net::check_mac(*control.config.get(net::MAC..)?.first_chunk()?).ok()
    }

    /// Has a started device send a frame, and waits. Returns whether it has.
    fn send(
        &self,
        requests: &mut Requests,
        memory: &OwnMemory,
        limits: QueueLimits,
        frame: &[u8],
    ) -> bool {
        let start = Instant::<Monotonic>::now();

        if requests.submit(memory, frame, 0).is_err() {
            return false;
        }
        self.shared.transport.notifier().ring(limits.doorbell);
        loop {
            let late = start.elapsed() > TIMEOUT;
            match requests.poll(memory, &mut []) {
                Ok(true) => return true,
                Ok(false) if !late => fsleep(POLL),
                _ => return false,
            }
        }
    }
}
