// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that goes on where its device cannot start, until the device can have it back.

use super::{
    control::{
        Control,
        HardwareQueue,
        Phase, //
    },
    function::{
        Function,
        Shared, //
    },
    gate::Gate,
    program::Ring,
    served::{
        Counters,
        Outcome, //
    }, //
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
    guest_memory::{
        Fault,
        GuestMemory, //
    },
    own_memory::{
        OutOfBounds,
        OwnMemory, //
    }, //
};
use virtio::{
    boundary::{
        Boundary,
        Needs,
        Sight, //
    },
    features::Features,
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
    status::Status, //
};

/// How often the rings are looked at before others have their turn.
const ROUNDS: u32 = 8;

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

/// What became of a hand-back.
enum HandBack {
    /// The device serves the consumer's rings.
    Done,
    /// Somebody has the lock of the function.
    Blocked,
    /// The relay is about to end anyhow.
    Ending,
}

/// A virtqueue whose rings the device does not see.
pub(crate) struct RelayQueue {
    relay: Relay<KVec<u64>>,
    boundary: Boundary,
    /// Kicks or interrupts may go past the kernel.
    polls: bool,
    began: Instant<Monotonic>,
    ring: Ring,
    guest: Arc<GuestMemory>,
    shadow: OwnMemory,
    /// Gone before the function is: a reset ends the relay.
    shared: Arc<Shared>,
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
        event_idx: bool,
        boundary: Boundary,
        guest: Arc<GuestMemory>,
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
        let returns = Returns::of(shared.limits.id, ring.vq);
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
            guest,
            shadow,
            shared,
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

    /// Returns the index from which another device would go on, once this one has stopped.
    ///
    /// # Errors
    ///
    /// - `EIO` if the rings make no sense.
    /// - `EBUSY` if the device has not kept the order, and has chains left.
    pub(crate) fn stand(&mut self, counters: &Counters) -> Result<u16> {
        let back = self
            .relay
            .give_back(&*self.guest, &self.shadow)
            .map_err(|_| EIO)?;
        counters.returned(back);

        if self.relay.is_in_order(&*self.guest).map_err(|_| EIO)? {
            Ok(self.relay.next_used())
        } else {
            Err(EBUSY)
        }
    }

    /// Passes on what there is, and hands the queue back if it can be.
    pub(crate) fn step(&mut self, gate: &Gate, counters: &Counters) -> Result<Outcome, Broken> {
        let mut outcome = Outcome::default();
        let mut progress = false;
        let mut held = false;

        for _ in 0..ROUNDS {
            let hold = self.boundary.holds();
            let back = self.relay.give_back(&*self.guest, &self.shadow)?;
            let forth = self.relay.forward(&*self.guest, &self.shadow, hold)?;

            counters.returned(back);
            counters.forwarded(forth);
            if forth.tell {
                self.shared.transport.notifier().ring(self.ring.doorbell);
            }
            outcome.interrupt |= back.tell;
            progress |= back.chains != 0 || forth.chains != 0;
            let left = self.relay.listen(&*self.guest, &self.shadow, hold)?;
            held = left.held;
            outcome.more = left.more;
            if !outcome.more {
                break;
            }
        }
        let mut blocked = false;
        if self.boundary.holds() && self.relay.is_drained() {
            match self.hand_back(gate, counters)? {
                HandBack::Done => {
                    outcome.ended = true;
                    return Ok(outcome);
                }
                HandBack::Ending => return Ok(outcome),
                HandBack::Blocked => blocked = true,
            }
        }
        let sight = Sight {
            there: self.relay.is_at_boundary(),
            more: held,
            in_flight: self.relay.in_flight(),
            progress,
            blocked,
        };
        let now = self.began.elapsed().as_millis();
        if self.boundary.look(sight, u64::try_from(now).unwrap_or(0)) {
            outcome.more = true;
        }
        outcome.nap = self.polls || blocked || self.boundary.watches();
        Ok(outcome)
    }

    /// Has the device serve the consumer's rings by itself. Whatever it was given is returned, and the
    /// consumer's indices are where a device begins.
    fn hand_back(&mut self, gate: &Gate, counters: &Counters) -> Result<HandBack, Broken> {
        // Whoever has it may be waiting for this work to end, or for what is held back.
        let Some(mut control) = self.shared.control.try_lock() else {
            return Ok(HandBack::Blocked);
        };
        let control = &mut *control;
        let runs = control.phase == Phase::Live && !control.status.contains(Status::NEEDS_RESET);
        let relayed = control
            .queue(self.ring.vq)
            .is_some_and(|queue| queue.hardware == HardwareQueue::Relayed);

        if !runs || !relayed {
            return Ok(HandBack::Ending);
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
        gate.hand_over(self.ring.doorbell);
        counters.handed_back();
        Ok(HandBack::Done)
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
        let event_idx = control.accepted.contains(Features::RING_EVENT_IDX);
        let boundary = if limits.hidden.contains(Features::RING_RESET) {
            Boundary::new(Needs::of(limits.id, control.accepted, vq))
        } else {
            Boundary::never()
        };

        self.data_memory(control)
            .and_then(|guest| {
                let (read_only, len) = lengths(ring.size)?;
                // The control queue has the first.
                let slot = vq.saturating_add(1);
                let shadow = self.own_memory(control, slot, len, read_only)?;
                let shared = self.shared.clone();
                RelayQueue::new(ring, event_idx, boundary, guest, shadow, shared)
            })
            .inspect_err(|error| {
                self.complain(fmt!(
                    "virtqueue {vq}: cannot be relayed (error {})",
                    error.to_errno()
                ));
            })
    }
}
