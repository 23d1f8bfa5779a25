// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that goes on where its device cannot start, until the device can have it back.

use super::{
    control::Control,
    function::{
        Function,
        Shared, //
    },
    hand_back::{
        HandBack,
        HandedBack, //
    },
    program::Ring,
    served::Counters, //
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        Instant,
        Monotonic, //
    }, //
};
use vdpa::{
    guest_memory::Fault,
    own_memory::{
        OutOfBounds,
        OwnMemory, //
    },
    view::View, //
};
use virtio::{
    boundary::{
        Boundary,
        Needs, //
    },
    device_id::DeviceId,
    features::Features,
    iova,
    policy,
    queue::{
        Addresses,
        Area,
        RingKind, //
    },
    relay::{
        Relay,
        RelayError,
        Returns,
        Rings, //
    },
    relayed::{
        Need,
        Pass,
        Passed,
        Relayed,
        Unclear, //
    },
    standing, //
};

/// Why a queue cannot be relayed any more.
pub(crate) enum Broken {
    /// What is in the rings makes no sense, or they cannot be reached.
    Rings(RelayError<Fault, OutOfBounds>),
    /// The device does not take the consumer's rings.
    Device(Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rings(error) => error.fmt(f),
            Self::Device(error) => write!(
                f,
                "the device does not take the queue back (error {})",
                error.to_errno()
            ),
        }
    }
}

/// A virtqueue whose rings the device does not see.
pub(crate) struct RelayQueue {
    queue: Relayed<KVec<u64>, Fault, OutOfBounds>,
    began: Instant<Monotonic>,
    ring: Ring,
    view: Arc<View>,
    shadow: OwnMemory,
    /// Gone before the function is: a reset ends the relay.
    shared: Arc<Shared>,
}

impl RelayQueue {
    /// Makes a relay for a virtqueue that is not enabled. `shadow`, all 0, has room for both rings.
    fn new(
        ring: Ring,
        accepted: Features,
        boundary: Boundary,
        view: View,
        shadow: OwnMemory,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let rings = Rings {
            driver: shadow.address(),
            device: shadow.writable(),
        };
        let own = Rings::from(ring.addresses);
        let returns = Returns::of(shared.limits.id, accepted, ring.vq);
        let event_idx = accepted.contains(Features::RING_EVENT_IDX);
        // Frames may be lost. What any other device was told to do, somebody waits for.
        let skips = shared.limits.id == DeviceId::NET;
        let polls = shared
            .receivers
            .queue(ring.vq)
            .is_some_and(|queue| queue.gate().is_bypassed());
        let words = KVec::from_elem(0, ring.size.words(), GFP_KERNEL)?;
        let relay = Relay::new(ring.size, own, rings, ring.index, event_idx, returns, words);

        Ok(Self {
            queue: Relayed::new(relay.ok_or(EINVAL)?.skipping(skips), boundary, polls),
            began: Instant::now(),
            ring,
            view: Arc::new(view, GFP_KERNEL)?,
            shadow,
            shared,
        })
    }

    /// Returns where the device finds the rings.
    pub(crate) fn addresses(&self) -> Addresses {
        let Rings { driver, device } = self.queue.shadow();

        Addresses {
            desc: self.ring.addresses.desc,
            driver,
            device,
        }
    }

    /// Returns the index from which another device would go on, once this one has stopped. Sleeps.
    pub(crate) fn stand(
        &mut self,
        counters: &Counters,
    ) -> Result<u16, Unclear<Fault, OutOfBounds>> {
        let guest = self.view.memory();

        self.queue
            .stand(guest, &self.shadow, |back| counters.returned(back))
    }

    /// Passes on what there is, or a good part of it. Any context.
    pub(crate) fn pass(&mut self, pass: Pass, counters: &Counters) -> Passed {
        let guest = self.view.access();
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(0);
        let passed = self
            .queue
            .pass(guest.as_ref(), &self.shadow, pass, now, || {
                self.shared.transport.notifier().ring(self.ring.doorbell);
            });

        counters.returned(passed.back);
        counters.forwarded(passed.forth);
        passed
    }

    /// Returns the view of the consumer's rings, and since when they have to be there.
    pub(crate) fn view(&self) -> (Arc<View>, Option<Need>) {
        (self.view.clone(), self.queue.needed())
    }

    /// Notes that the consumer's rings are not there, as when they were looked for.
    pub(crate) fn miss(&mut self, before: Option<Need>, fault: Fault) {
        self.queue.miss(before, fault);
    }

    /// Returns whether there is time before the next look of those that nobody asks for.
    pub(crate) fn rests(&self) -> bool {
        self.queue.rests()
    }

    /// Notes that there may be something to do in the consumer's rings.
    pub(crate) fn need(&mut self) {
        self.queue.need();
    }

    /// Returns how many chains somebody has taken before, and nobody returns.
    pub(crate) fn gap(&self) -> u16 {
        self.queue.gap()
    }

    /// Returns the virtqueue's number.
    pub(crate) fn vq(&self) -> u16 {
        self.ring.vq
    }

    /// Returns why it cannot go on, if it cannot.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.queue.broken().map(Broken::Rings)
    }

    /// If the queue can be handed back, has the rings not looked at any more.
    pub(crate) fn leave(&mut self) -> Option<HandBack> {
        self.queue
            .leave()
            .then(|| HandBack::new(self.ring, self.view.clone(), self.shared.clone()))
    }

    /// Has the rings looked at again, after the queue could not be handed back.
    pub(crate) fn stay(&mut self, why: HandedBack) {
        self.queue.stay(why == HandedBack::Blocked);
    }
}

impl Function<'_> {
    /// Returns whether a consumer may map the doorbell of a virtqueue, which it does then: not if the
    /// queue is to be relayed, as it starts.
    pub(crate) fn gives_doorbell(&self, vq: u16) -> bool {
        let mut control = self.shared.control.lock();
        let direct = control.queue(vq).is_some_and(|queue| queue.is_direct());

        if let (true, Some(queue)) = (direct, self.shared.receivers.queue(vq)) {
            queue.gate().note_bypass();
        }
        direct
    }

    /// Returns whether a virtqueue has to be relayed: its device starts at index 0 of both rings. The used one
    /// may be behind, where somebody has lost chains.
    pub(crate) fn needs_relay(&self, control: &Control, ring: &Ring) -> bool {
        if ring.index != 0 {
            return true;
        }
        if self.shared.limits.id != DeviceId::NET || !policy::is_movable(control.accepted) {
            return false;
        }
        // Rings that are not there yet, or that hold anything else, are the device's to complain of.
        self.data_memory(control).is_ok_and(|memory| {
            standing::is_behind_start(&*memory, ring.size, ring.addresses).unwrap_or(false)
        })
    }

    /// Makes a relay for a virtqueue that is not enabled.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn relay(&self, control: &Control, ring: Ring) -> Result<RelayQueue> {
        let vq = ring.vq;
        let limits = &self.shared.limits;
        let accepted = control.accepted;
        let boundary = if limits.hidden.contains(Features::RING_RESET) {
            Boundary::new(Needs::of(limits.id, accepted, vq))
        } else {
            Boundary::never()
        };

        self.data_memory(control)
            .and_then(|memory| {
                let area = |area: Area, start| {
                    let len = area.len(ring.size, RingKind::Split);

                    iova::Range::from_size(start, len).ok_or(EINVAL)
                };
                let view = View::new(
                    memory,
                    area(Area::Driver, ring.addresses.driver)?,
                    area(Area::Device, ring.addresses.device)?,
                )?;
                let len = |area: Area| usize::try_from(area.len(ring.size, RingKind::Split));
                // The control queue has the first.
                let slot = vq.saturating_add(1);
                let shadow =
                    self.own_memory(control, slot, len(Area::Driver)?, len(Area::Device)?)?;
                let shared = self.shared.clone();
                RelayQueue::new(ring, accepted, boundary, view, shadow, shared)
            })
            .inspect_err(|error| {
                self.complain(fmt!(
                    "virtqueue {vq}: cannot be relayed (error {})",
                    error.to_errno()
                ));
            })
    }
}
