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
    page::PAGE_SIZE,
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
        Needs,
        Sight, //
    },
    features::Features,
    iova,
    queue::{
        Addresses,
        Area,
        RingKind,
        Size, //
    },
    relay::{
        Relay,
        RelayError,
        Returns,
        Rings, //
    },
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

impl From<RelayError<Fault, OutOfBounds>> for Broken {
    fn from(error: RelayError<Fault, OutOfBounds>) -> Self {
        Self::Rings(error)
    }
}

/// Why nobody knows where a queue stands.
pub(crate) enum Unclear {
    /// What is in the rings makes no sense, or they cannot be reached.
    Rings(RelayError<Fault, OutOfBounds>),
    /// The device has not kept the order, and has chains left.
    Order,
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rings(error) => error.fmt(f),
            Self::Order => f.write_str("the device has not kept the order"),
        }
    }
}

impl From<RelayError<Fault, OutOfBounds>> for Unclear {
    fn from(error: RelayError<Fault, OutOfBounds>) -> Self {
        Self::Rings(error)
    }
}

/// On whose behalf the rings are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The consumer's, which kicks: it cannot be interrupted from there.
    Kick,
    /// The device's, or nobody's.
    Other,
}

/// What came of a look at the rings.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// There may be more to pass on.
    pub(crate) more: bool,
    /// The consumer wants an interrupt.
    pub(crate) interrupt: bool,
    /// There has to be another look soon, even if nobody asks for one.
    pub(crate) watch: bool,
    /// The device has returned all before the boundary.
    pub(crate) drained: bool,
}

/// A virtqueue whose rings the device does not see.
pub(crate) struct RelayQueue {
    relay: Relay<KVec<u64>>,
    boundary: Boundary,
    /// Kicks or interrupts may go past the kernel.
    polls: bool,
    began: Instant<Monotonic>,
    ring: Ring,
    view: Arc<View>,
    shadow: OwnMemory,
    /// Gone before the function is: a reset ends the relay.
    shared: Arc<Shared>,
    /// There is something to do in the consumer's rings, or may be: they have to be there.
    needed: bool,
    /// The queue is being handed back: the rings are not looked at.
    leaves: bool,
    /// It could have been handed back, but for somebody else who has the lock of the function.
    blocked: bool,
    /// Why it cannot go on.
    broken: Option<RelayError<Fault, OutOfBounds>>,
}

/// Returns the bytes of the shadow rings: those that the device only reads, in whole pages, and all.
fn lengths(size: Size) -> Result<(usize, usize)> {
    let driver = usize::try_from(Area::Driver.len(size, RingKind::Split))?;
    let device = usize::try_from(Area::Device.len(size, RingKind::Split))?;
    let read_only = driver.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE);

    Ok((read_only, read_only.saturating_add(device)))
}

impl RelayQueue {
    /// Makes a relay for a virtqueue that is not enabled. `shadow`, all 0, has the [`lengths`].
    fn new(
        ring: Ring,
        accepted: Features,
        boundary: Boundary,
        view: View,
        shadow: OwnMemory,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let (read_only, _) = lengths(ring.size)?;
        let rings = Rings {
            driver: shadow.address(),
            device: shadow
                .address()
                .checked_add(u64::try_from(read_only)?)
                .ok_or(EINVAL)?,
        };
        let own = Rings {
            driver: ring.addresses.driver,
            device: ring.addresses.device,
        };
        let returns = Returns::of(shared.limits.id, accepted, ring.vq);
        let event_idx = accepted.contains(Features::RING_EVENT_IDX);
        let polls = shared
            .receivers
            .queue(ring.vq)
            .is_some_and(|queue| queue.gate().is_bypassed());
        let words = KVec::from_elem(0, usize::from(ring.size.get()).div_ceil(64), GFP_KERNEL)?;
        let relay = Relay::new(ring.size, own, rings, ring.index, event_idx, returns, words);

        Ok(Self {
            relay: relay.ok_or(EINVAL)?,
            boundary,
            polls,
            began: Instant::now(),
            ring,
            view: Arc::new(view, GFP_KERNEL)?,
            shadow,
            shared,
            needed: true,
            leaves: false,
            blocked: false,
            broken: None,
        })
    }

    /// Returns where the device finds the rings.
    pub(crate) fn addresses(&self) -> Addresses {
        let Rings { driver, device } = self.relay.shadow();

        Addresses {
            desc: self.ring.addresses.desc,
            driver,
            device,
        }
    }

    /// Returns the index from which another device would go on, once this one has stopped. Sleeps.
    pub(crate) fn stand(&mut self, counters: &Counters) -> Result<u16, Unclear> {
        let guest = self.view.memory();
        let mut more = true;

        // Nobody may have been told yet of what a kick or an interrupt has found.
        if let Some(broken) = self.broken {
            return Err(Unclear::Rings(broken));
        }
        while more {
            let back = self.relay.give_back(guest, &self.shadow)?;

            counters.returned(back);
            more = back.more;
        }
        if self.relay.is_in_order(guest).map_err(RelayError::Guest)? {
            Ok(self.relay.next_used())
        } else {
            Err(Unclear::Order)
        }
    }

    /// Passes on what there is, or a good part of it. Any context.
    pub(crate) fn pass(&mut self, pass: Pass, counters: &Counters) -> Passed {
        if self.leaves {
            return Passed::default();
        }
        let passed = match self.broken {
            None => self.try_pass(pass, counters),
            Some(error) => Err(error),
        };
        passed.unwrap_or_else(|error| {
            self.broken = Some(error);
            // The work tells of it, if it has not done so.
            Passed {
                more: true,
                ..Passed::default()
            }
        })
    }

    fn try_pass(
        &mut self,
        pass: Pass,
        counters: &Counters,
    ) -> Result<Passed, RelayError<Fault, OutOfBounds>> {
        let mut passed = Passed::default();
        let Some(guest) = self.view.access() else {
            let due = self
                .relay
                .is_due(&self.shadow)
                .map_err(RelayError::Shadow)?;

            self.needed |= pass == Pass::Kick || due;
            passed.more = self.needed;
            passed.watch = self.watches();
            return Ok(passed);
        };
        let hold = self.boundary.holds();
        let mut progress = false;

        if pass != Pass::Kick {
            let back = self.relay.give_back(&guest, &self.shadow)?;

            counters.returned(back);
            passed.interrupt = back.tell;
            passed.more = back.more;
            progress = back.chains != 0;
        }
        let forth = self.relay.forward(&guest, &self.shadow, hold)?;
        counters.forwarded(forth);
        if forth.tell {
            self.shared.transport.notifier().ring(self.ring.doorbell);
        }
        progress |= forth.chains != 0;

        let left = match pass {
            Pass::Kick => self.relay.listen_forward(&guest, &self.shadow, hold)?,
            Pass::Other => self.relay.listen(&guest, &self.shadow, hold)?,
        };
        passed.more |= left.more || forth.more;
        passed.drained = hold && self.relay.is_drained();
        self.blocked &= passed.drained;
        let sight = Sight {
            there: self.relay.is_at_boundary(),
            more: left.held,
            in_flight: self.relay.in_flight(),
            progress,
            blocked: self.blocked,
        };
        let now = self.began.elapsed().as_millis();
        passed.more |= self.boundary.look(sight, u64::try_from(now).unwrap_or(0));
        passed.watch = self.watches();
        // Nobody tells again of what is left.
        self.needed = passed.more || passed.drained;
        Ok(passed)
    }

    /// Returns the view of the consumer's rings, and whether they have to be there: it may map them anew
    /// while there is nothing to do.
    pub(crate) fn view(&self) -> (Arc<View>, bool) {
        (self.view.clone(), self.needed)
    }

    /// Returns whether there has to be another look soon, even if nobody asks for one.
    pub(crate) fn watches(&self) -> bool {
        self.polls || self.boundary.watches()
    }

    /// Notes that there may be something to do in the consumer's rings.
    pub(crate) fn need(&mut self) {
        self.needed = true;
    }

    /// Notes that it cannot go on.
    pub(crate) fn break_off(&mut self, fault: Fault) {
        self.broken = Some(RelayError::Guest(fault));
    }

    /// Returns why it cannot go on, if it cannot.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.broken.map(Broken::Rings)
    }

    /// If the queue can be handed back, has the rings not looked at any more.
    pub(crate) fn leave(&mut self) -> Option<HandBack> {
        self.leaves = self.broken.is_none() && self.boundary.holds() && self.relay.is_drained();
        self.leaves
            .then(|| HandBack::new(self.ring, self.shared.clone()))
    }

    /// Has the rings looked at again, after the queue could not be handed back.
    pub(crate) fn stay(&mut self, why: HandedBack) {
        self.leaves = false;
        self.blocked = why == HandedBack::Blocked;
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
                let (read_only, len) = lengths(ring.size)?;
                // The control queue has the first.
                let slot = vq.saturating_add(1);
                let shadow = self.own_memory(control, slot, len, read_only)?;
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
