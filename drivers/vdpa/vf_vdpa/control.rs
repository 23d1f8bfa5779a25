// SPDX-License-Identifier: GPL-2.0

//! The control path: what a consumer asks for, and when the hardware gets to know.

use super::{
    alarm::{
        Pace,
        MOST_CHANGES, //
    },
    function::Function,
    profile::Profile,
    program::Ring,
    requester::Requester, //
};
use kernel::{
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use vdpa::{
    virtio_pci::Selector,
    Text, //
};
use virtio::{
    features::{
        self,
        Features, //
    },
    net::Overlay,
    policy,
    queue::Addresses,
    status::{
        self,
        Status, //
    }, //
};

/// What a driver needs for setting the MAC address.
pub(crate) const MAC_COMMAND: Features = features::net::CTRL_VQ.union(features::net::CTRL_MAC_ADDR);

/// Where the hardware stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not started since the last reset.
    Stopped,
    /// Started: `DRIVER_OK` is set.
    Live,
    /// Started, but the hardware works on no virtqueue.
    Suspended,
    /// Reset without the consumer's doing, or failed to start: waits for the consumer's reset.
    Lost,
    /// In the hands of the PCI core, which resets it: no register may be touched.
    Detached,
    /// Did not stop, or could not be reached: without bus mastering, until a reset succeeds.
    CutOff,
    /// Removed, or the machine goes down.
    Gone,
}

/// What the hardware does with a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HardwareQueue {
    /// It is not enabled.
    Disabled,
    /// It is enabled.
    Enabled,
    /// It is enabled, on rings of the driver's, which the kernel keeps in step with the consumer's.
    Relayed,
    /// It is enabled in a device that has suspended itself, where it stands at `index`.
    Frozen {
        /// As in a split ring.
        index: u16,
    },
    /// The kernel serves it instead.
    Served,
    /// It is enabled, although the consumer has disabled it: a function without `RING_RESET` knows
    /// no way back but a reset.
    Parked,
}

impl HardwareQueue {
    /// Returns whether the hardware works on it.
    pub(crate) fn runs(self) -> bool {
        match self {
            Self::Enabled | Self::Relayed | Self::Parked => true,
            Self::Disabled | Self::Frozen { .. } | Self::Served => false,
        }
    }

    /// Returns whether nothing but its ring tells where it stands.
    pub(crate) fn tells_by_its_ring(self) -> bool {
        matches!(self, Self::Enabled | Self::Parked)
    }

    /// Returns whether nobody works on it.
    pub(crate) fn rests(self) -> bool {
        matches!(self, Self::Disabled | Self::Frozen { .. })
    }
}

/// What a consumer has set of a virtqueue.
#[derive(Clone, Copy)]
pub(crate) struct VirtQueue {
    /// The number of entries; as many as the function has, if never set.
    pub(crate) num: Option<u32>,
    /// The addresses, if they were set.
    pub(crate) addresses: Option<Addresses>,
    pub(crate) ready: bool,
    /// The index from which it goes on when it is enabled, if that is known; of a split virtqueue.
    pub(crate) index: Option<u16>,
    pub(crate) hardware: HardwareQueue,
    /// What the hardware was told last, whatever the consumer has set since.
    pub(crate) programmed: Option<Ring>,
    /// Since when the hardware has worked on it as it does, if it does.
    pub(crate) since: Option<Instant<Monotonic>>,
    /// It was enabled since the last reset: its state is no longer the initial one.
    pub(crate) was_live: bool,
}

impl VirtQueue {
    const INITIAL: Self = Self {
        num: None,
        addresses: None,
        ready: false,
        index: Some(0),
        hardware: HardwareQueue::Disabled,
        programmed: None,
        since: None,
        was_live: false,
    };

    /// Returns whether the device serves it by itself, or will once it is enabled.
    pub(crate) fn is_direct(&self) -> bool {
        self.index == Some(0) && self.hardware != HardwareQueue::Relayed
    }

    /// Returns for how many seconds it has been relayed, if it is.
    pub(crate) fn relayed(&self) -> Option<u64> {
        self.seconds_as(HardwareQueue::Relayed)
    }

    /// Returns for how many seconds the device has served it by itself, if it does.
    pub(crate) fn direct(&self) -> Option<u64> {
        self.seconds_as(HardwareQueue::Enabled)
    }

    fn seconds_as(&self, hardware: HardwareQueue) -> Option<u64> {
        let since = self.since?;

        (self.hardware == hardware)
            .then(|| u64::try_from(since.elapsed().as_millis()).map_or(0, |ms| ms / 1000))
    }
}

/// The software copy of what the consumer wants, and the state of the hardware.
pub(crate) struct Control {
    pub(crate) selector: Selector,
    pub(crate) phase: Phase,
    /// The PCI core has given up recovering from an error, and does nothing more about it.
    pub(crate) abandoned: bool,
    /// The vDPA device, if there is one.
    pub(crate) profile: Option<Profile>,
    /// What the configuration shows instead of the function's values.
    pub(crate) overlay: Overlay,
    /// The MAC address that a process has written to the configuration. It is the device's until its
    /// driver sets another, or there is another consumer.
    pub(crate) written_mac: Option<[u8; 6]>,
    /// The status that the consumer sees.
    pub(crate) status: Status,
    /// The features that the consumer has accepted.
    pub(crate) accepted: Features,
    /// The consumer is the kernel's own virtio driver, not a process.
    pub(crate) kernel_consumer: bool,
    /// The address spaces of the two groups of virtqueues, [`DATA`] and [`CONTROL`].
    ///
    /// [`DATA`]: super::space::DATA
    /// [`CONTROL`]: super::space::CONTROL
    pub(crate) asids: [u32; 2],
    /// Not all of the memory that the consumer has mapped for data queues is there for them.
    pub(crate) incomplete: bool,
    /// The hardware's control queue, while the function has been started and the consumer's is not
    /// enabled.
    pub(crate) requester: Option<Requester>,
    /// What commands are copied into, while the kernel serves no control queue but has done so: nothing has to
    /// be allocated for the next one.
    pub(crate) command: KVec<u8>,
    pub(crate) queues: KVec<VirtQueue>,
    /// The configuration of the function when it was last read.
    pub(crate) config: KVec<u8>,
    /// Changes with `config`.
    pub(crate) generation: u32,
    /// When changes were first counted, and how many there were since.
    changes: Option<(Instant<Monotonic>, u32)>,
    /// How often the device says that there are any.
    pub(crate) pace: Pace,
}

impl Control {
    pub(crate) fn new(selector: Selector, queues: u16, config_len: usize) -> Result<Self> {
        Ok(Self {
            selector,
            phase: Phase::Stopped,
            abandoned: false,
            profile: None,
            overlay: Overlay::default(),
            written_mac: None,
            status: Status::RESET,
            accepted: Features::EMPTY,
            kernel_consumer: false,
            asids: [0; 2],
            incomplete: false,
            requester: None,
            command: KVec::new(),
            queues: KVec::from_elem(VirtQueue::INITIAL, usize::from(queues), GFP_KERNEL)?,
            config: KVec::from_elem(0, config_len, GFP_KERNEL)?,
            generation: 0,
            changes: None,
            pace: Pace::default(),
        })
    }

    /// Returns whether registers may be touched.
    pub(crate) fn reachable(&self) -> bool {
        matches!(
            self.phase,
            Phase::Stopped | Phase::Live | Phase::Suspended | Phase::Lost
        )
    }

    /// Returns whether the device works for its consumer, and may be told of single virtqueues.
    pub(crate) fn is_live(&self) -> bool {
        self.phase == Phase::Live && !self.status.contains(Status::NEEDS_RESET)
    }

    /// Returns a virtqueue.
    pub(crate) fn queue(&mut self, vq: u16) -> Option<&mut VirtQueue> {
        self.queues.get_mut(usize::from(vq))
    }

    /// Returns whether a change of the configuration may be shown now: so many a second. Consumers
    /// read on until it does not change any more.
    pub(crate) fn may_change(&mut self) -> bool {
        let (since, count) = self
            .changes
            .filter(|(since, _)| since.elapsed() < Delta::from_secs(1))
            .unwrap_or_else(|| (Instant::now(), 0));
        self.changes = Some((since, count.saturating_add(1)));
        count < MOST_CHANGES
    }

    /// Shows that the device has to be reset, unless it is in that state.
    pub(crate) fn demand_reset(&mut self) {
        if !self.status.is_reset() {
            self.status = self.status.union(Status::NEEDS_RESET);
        }
    }

    /// Returns the MAC address that the device has to be given when it starts, if it does not keep
    /// the function's own. The administrator's comes before that of a process.
    pub(crate) fn mac(&self) -> Option<[u8; 6]> {
        self.overlay.mac.or(self.written_mac)
    }

    /// Forgets what a process has written to the configuration.
    pub(crate) fn forget_written(&mut self) {
        if self.written_mac.take().is_some() {
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Returns what the configuration shows instead of the function's values.
    pub(crate) fn shown(&self) -> Overlay {
        let mac = match self.phase {
            // It was given to the device, whose driver may have set another since.
            Phase::Live | Phase::Suspended => self.overlay.mac,
            _ => self.mac(),
        };

        Overlay {
            mac,
            ..self.overlay
        }
    }

    /// Returns the features that are negotiated with the function: those that the consumer has
    /// accepted, those that are `hidden` from it, and what the driver needs for the MAC address.
    pub(crate) fn negotiated(&self, hidden: Features) -> Features {
        let negotiated = self.accepted.union(hidden);

        if self.mac().is_some() {
            negotiated.union(MAC_COMMAND)
        } else {
            negotiated
        }
    }

    /// Forgets all that the consumer has set.
    pub(crate) fn forget(&mut self) {
        self.status = Status::RESET;
        self.accepted = Features::EMPTY;
        self.kernel_consumer = false;
        for queue in &mut self.queues {
            *queue = VirtQueue::INITIAL;
        }
        self.generation = self.generation.wrapping_add(1);
    }
}

impl Function<'_> {
    /// Sets the features that the consumer accepts.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if they are not offered, or lack what is required.
    /// - `EBUSY` after `FEATURES_OK`.
    pub(crate) fn set_features(&self, profile: &Profile, features: Features) -> Result {
        let mut control = self.shared.control.lock();

        if control.status.contains(Status::FEATURES_OK) {
            // The core sets no features before it reads the configuration of a device that was
            // never told any. That must not disturb.
            let harmless = features.is_empty() || features == control.accepted;
            return if harmless { Ok(()) } else { Err(EBUSY) };
        }
        if let Err(error) = policy::accept(profile.features, features, self.shared.limits.id) {
            self.complain(fmt!("features refused: {}", Text(error)));
            return Err(EINVAL);
        }
        control.accepted = features;
        Ok(())
    }

    /// Takes a new value of the status. What cannot be honoured does not show afterwards.
    pub(crate) fn set_status(&self, profile: &Profile, requested: Status) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.refresh(control);
        let wants_driver_ok = requested
            .difference(control.status)
            .contains(Status::DRIVER_OK);

        let transition = match status::transition(control.status, requested) {
            Ok(transition) => transition,
            Err(error) => {
                self.complain(fmt!("status {} refused: {}", Text(requested), Text(error)));
                if wants_driver_ok {
                    self.fail(control);
                }
                return;
            }
        };

        let negotiated = Status::FEATURES_OK.union(Status::DRIVER_OK);
        control.status = control.status.union(transition.set.difference(negotiated));
        if !matches!(control.phase, Phase::Stopped | Phase::Live) {
            if wants_driver_ok {
                self.fail(control);
            }
            return;
        }
        self.shared.transport.set_status(control.status);
        if transition.features_ok && !self.negotiate(control) {
            if wants_driver_ok {
                self.fail(control);
            }
            return;
        }
        if transition.driver_ok && self.start(control, profile).is_err() {
            self.fail(control);
        }
    }

    /// Negotiates the features with the device. Returns whether it agrees.
    pub(crate) fn negotiate(&self, control: &mut Control) -> bool {
        let limits = &self.shared.limits;
        let required = policy::MANDATORY;
        let wanted = control.status.union(Status::FEATURES_OK);

        if !control.accepted.contains(required) {
            self.complain(fmt!("FEATURES_OK refused: no features were set"));
            return false;
        }
        let negotiated = control.negotiated(limits.hidden);
        self.shared
            .transport
            .set_driver_features(&mut control.selector, negotiated);
        self.shared.transport.set_status(wanted);

        let status = self.shared.transport.status();
        if status.is_gone() {
            self.cut_off(control);
            return false;
        }
        if !status.contains(Status::FEATURES_OK) {
            self.complain(fmt!(
                "the device refuses the features {}",
                Text(control.accepted.names(limits.id))
            ));
            return false;
        }
        control.status = wanted;
        true
    }

    /// Shows `FAILED`, and takes from the device what it may have been told already.
    fn fail(&self, control: &mut Control) {
        control.status = control
            .status
            .difference(Status::DRIVER_OK)
            .union(Status::FAILED);
        self.give_up(control);
    }

    /// Stops a device that has got into a state which only its consumer's reset ends.
    pub(crate) fn give_up(&self, control: &mut Control) {
        self.sever();
        if control.reachable() {
            control.phase = Phase::Lost;
            let _ = self.quiesce(control);
        }
    }
}
