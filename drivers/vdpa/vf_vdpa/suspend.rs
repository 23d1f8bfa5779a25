// SPDX-License-Identifier: GPL-2.0

//! Stopping a device so that it, or another, can go on: where each virtqueue stands.

use super::{
    control::{
        Control,
        HardwareQueue,
        Phase,
        VirtQueue, //
    },
    function::Function,
    means::{
        Means,
        NotOn, //
    },
    profile::Profile,
    queue::Queue,
    served::Server, //
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
    Text,
    VqState, //
};
use virtio::{
    device_id::DeviceId,
    features::Features,
    policy,
    standing::{
        self,
        StandingError, //
    },
    status::Status, //
};

/// How long a network device may take for what it was told of before it is stopped anyhow.
const SHORT_DRAIN: Delta = Delta::from_millis(100);

/// How long any other may take, before it is not stopped. As long as a reset, under the same lock.
const LONG_DRAIN: Delta = Delta::from_secs(2);

/// How often rings are looked at again, at most, until the consumer shows what it has written into them. One
/// that is stopped never does. Not a time: a busy host may keep it from running for as long.
const LOOKS: u32 = 500;

/// How long a wait is between two looks.
const POLL: Delta = Delta::from_micros(200);

/// How often rings may be looked at again.
struct Looks {
    left: u32,
    began: Instant<Monotonic>,
}

impl Looks {
    /// Until the consumer has had time to show what it has written into them.
    fn new() -> Self {
        Self {
            left: LOOKS,
            began: Instant::now(),
        }
    }

    /// Not at all.
    fn none() -> Self {
        Self {
            left: 0,
            ..Self::new()
        }
    }

    /// Waits for the next look, if there is one. Sleeps.
    fn again(&mut self) -> bool {
        // Those at long rings take long.
        if self.left == 0 || self.began.elapsed() > LONG_DRAIN {
            return false;
        }
        self.left -= 1;
        fsleep(POLL);
        true
    }
}

impl Function<'_> {
    /// Stops the virtqueues of a live device, and finds out where they stand.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP` if the rings do not tell, and if the consumer is the kernel.
    /// - `ENOMEM`: it goes on.
    /// - `EBUSY` if the device does not finish what must be finished: it goes on.
    /// - `EIO` if the device cannot be stopped, or has not kept the order, or its rings make no
    ///   sense: it demands a reset.
    pub(crate) fn suspend(&self, profile: &Profile) -> Result {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.refresh(control);
        match control.phase {
            Phase::Suspended => return Ok(()),
            Phase::Live if !control.status.contains(Status::NEEDS_RESET) => {}
            _ => return Err(EIO),
        }
        if control.kernel_consumer || !policy::is_movable(control.accepted) {
            return Err(EOPNOTSUPP);
        }
        // Once the queues have stopped it would be too late to have no memory.
        let mut words = self.words(control)?;
        for queue in &self.shared.receivers.queues {
            queue.gate().close_kicks();
        }
        if let Err(error) = self.drain(control, profile) {
            self.reopen(control, profile);
            return Err(error);
        }
        self.close_gates();
        for queue in &self.shared.receivers.queues {
            queue.pause_serving();
        }
        let means = self.means();
        let result = means
            .stop(self, control, profile)
            .and_then(|()| self.note_standings(control, profile, means, &mut words))
            // The PCI core may have taken the function meanwhile, or a ring was found broken by
            // whoever served it.
            .and_then(|()| {
                let fine =
                    control.phase == Phase::Live && !self.shared.receivers.alarm.take_broken();
                fine.then_some(()).ok_or(EIO)
            });
        if result.is_ok() {
            control.phase = Phase::Suspended;
        } else {
            self.give_up(control);
            control.demand_reset();
        }
        // Interrupts may have come too late to be passed on, or were never sent for what a relay
        // has returned just now.
        for queue in &self.shared.receivers.queues {
            queue.gate().callback.call();
        }
        result.map_err(|_| EIO)
    }

    /// Lets kicks through again.
    fn reopen(&self, control: &mut Control, profile: &Profile) {
        for (vq, queue) in (0..profile.nvqs).zip(&self.shared.receivers.queues) {
            let served =
                control.queue(vq).map(|queue| queue.hardware) == Some(HardwareQueue::Served);
            if served {
                queue.begin();
            } else {
                self.open_gate(control, profile, vq);
            }
        }
    }

    /// Waits for what the device has been told of, now for the last time.
    ///
    /// What a network device receives into cannot be waited for, and what it sends is done in order:
    /// the wait only keeps frames from being sent twice. Any other device has to finish, as it may
    /// keep no order.
    ///
    /// # Errors
    ///
    /// `EBUSY` if that takes too long.
    fn drain(&self, control: &mut Control, profile: &Profile) -> Result {
        let network = self.shared.limits.id == DeviceId::NET;
        let memory = self.data_memory(control)?;
        let start = Instant::<Monotonic>::now();

        for vq in 0..profile.nvqs {
            let Some(&mut VirtQueue {
                hardware,
                programmed: Some(ring),
                ..
            }) = control.queue(vq)
            else {
                continue;
            };
            let addresses = ring.addresses;
            let Ok(available) = standing::available(&*memory, addresses) else {
                continue;
            };
            // What somebody has lost before does not come back.
            let gap = self.shared.receivers.queue(vq).map_or(0, Queue::gap);
            let aim = available.wrapping_sub(gap);
            // What was made available and not kicked for yet.
            match (hardware, self.shared.receivers.queue(vq)) {
                (HardwareQueue::Enabled, _) => self.shared.transport.notifier().ring(ring.doorbell),
                (HardwareQueue::Relayed, Some(queue)) => queue.look(),
                _ => continue,
            }
            // Nobody knows when a frame will be received.
            if network && vq % 2 == 0 {
                continue;
            }

            while !standing::has_returned(&*memory, addresses, aim).unwrap_or(true) {
                let elapsed = start.elapsed();
                if network && elapsed > SHORT_DRAIN {
                    break;
                }
                if elapsed > LONG_DRAIN {
                    self.complain(fmt!("virtqueue {vq}: the device does not finish"));
                    return Err(EBUSY);
                }
                fsleep(POLL);
            }
        }
        Ok(())
    }

    /// Finds out where the virtqueues stand, which have been stopped.
    fn note_standings(
        &self,
        control: &mut Control,
        profile: &Profile,
        means: &dyn Means,
        words: &mut [u64],
    ) -> Result {
        let mut looks = Looks::new();

        for vq in 0..profile.nvqs {
            let hardware = control.queue(vq).ok_or(EINVAL)?.hardware;
            if hardware == HardwareQueue::Disabled {
                continue;
            }
            let mut none = Looks::none();
            // The consumer has disabled it, and may have used its memory for something else.
            let looks = match hardware {
                HardwareQueue::Parked => &mut none,
                _ => &mut looks,
            };
            let index = match self.standing(control, vq, looks, words) {
                Ok(index) => Some(index),
                Err(_) if hardware == HardwareQueue::Parked => None,
                Err(error) => return Err(error),
            };

            if let Some(queue) = control.queue(vq) {
                queue.index = index;
                queue.hardware = match (hardware, index) {
                    (HardwareQueue::Enabled | HardwareQueue::Parked, Some(index)) => {
                        means.stopped(index)
                    }
                    _ => HardwareQueue::Disabled,
                };
            }
        }
        Ok(())
    }

    /// Returns what [`Self::standing`] notes chains in, of any of the virtqueues that the device serves by
    /// itself.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, after a log line.
    fn words(&self, control: &Control) -> Result<KVec<u64>> {
        let most = (control.queues.iter())
            .filter(|queue| queue.hardware.tells_by_its_ring())
            .filter_map(|queue| queue.programmed.map(|ring| ring.size.words()))
            .max();

        let words = KVec::from_elem(0, most.unwrap_or(0), GFP_KERNEL);
        Ok(words.inspect_err(|_| self.complain(fmt!("no memory to find out where it stands")))?)
    }

    /// Finds out where the one virtqueue of a live device stands that has been stopped.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    pub(crate) fn standing_alone(&self, control: &mut Control, vq: u16) -> Result<u16> {
        let queue = control.queue(vq).ok_or(EINVAL)?;
        let most = match queue.programmed {
            Some(ring) if queue.hardware.tells_by_its_ring() => ring.size.words(),
            _ => 0,
        };
        let mut words = KVec::from_elem(0, most, GFP_KERNEL).inspect_err(|_| {
            self.complain(fmt!(
                "virtqueue {vq}: no memory to find out where it stands"
            ));
        })?;

        self.standing(control, vq, &mut Looks::new(), &mut words)
    }

    /// Finds out where a virtqueue stands, which has been stopped. Its ring is looked at again, as far as `looks`
    /// allow it, while it is not clear: what the consumer shows meanwhile may hide what the device has done, as
    /// any lap of the ring does.
    ///
    /// # Errors
    ///
    /// Any, after a log line.
    fn standing(
        &self,
        control: &mut Control,
        vq: u16,
        looks: &mut Looks,
        words: &mut [u64],
    ) -> Result<u16> {
        let receiver = self.shared.receivers.queue(vq).ok_or(EINVAL)?;
        let served = receiver.with_server(|server| match server {
            Server::Control(server) => Ok(server.next()),
            Server::Relay(relay) => relay.stand(receiver.counters()),
        });

        if let Some(index) = served {
            return index.map_err(|unclear| {
                self.report(fmt!("relayed virtqueue {vq}: {}", Text(unclear)));
                EIO
            });
        }
        let memory = self.data_memory(control)?;
        let ring = control.queue(vq).ok_or(EINVAL)?.programmed.ok_or(EIO)?;
        let words = words.get_mut(..ring.size.words()).ok_or(EINVAL)?;
        let found = loop {
            words.fill(0);
            // A device that serves a queue by itself began at the beginning.
            match standing::find(&*memory, ring.size, ring.addresses, 0, words) {
                Err(StandingError::Order { .. }) if looks.again() => {}
                found => break found,
            }
        };

        found.map(|standing| standing.index).map_err(|error| {
            self.complain(fmt!("virtqueue {vq}: {}", Text(error)));
            EIO
        })
    }

    /// Goes on where the device was suspended.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: it stays suspended.
    /// - `EIO` if the device was not suspended, or does not go on: it demands a reset.
    pub(crate) fn resume(&self, profile: &Profile) -> Result {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        match control.phase {
            Phase::Live => return Ok(()),
            Phase::Suspended => {}
            _ => return Err(EIO),
        }
        match self.means().go_on(self, control, profile) {
            Ok(()) => Ok(()),
            Err(NotOn::NoMemory) => Err(ENOMEM),
            Err(NotOn::Broken) => {
                self.give_up(control);
                control.demand_reset();
                Err(EIO)
            }
        }
    }

    /// Sets the place from which a virtqueue shall go on.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such virtqueue.
    /// - `EBUSY` while it is enabled.
    /// - `EOPNOTSUPP` if it is not the beginning, where a device starts, and the ring cannot be relayed.
    pub(crate) fn set_vq_state(&self, vq: u16, state: VqState) -> Result {
        let mut control = self.shared.control.lock();
        let movable = policy::is_movable(control.accepted);
        let queue = control.queue(vq).ok_or(EINVAL)?;
        let index = match state {
            VqState::Split { avail_index } if movable || avail_index == 0 => avail_index,
            VqState::Split { .. } => return Err(EOPNOTSUPP),
            VqState::INITIAL_PACKED => 0,
            VqState::Packed { .. } => return Err(EOPNOTSUPP),
        };

        if !queue.hardware.rests() {
            return Err(EBUSY);
        }
        queue.index = Some(index);
        Ok(())
    }

    /// Returns the place from which a virtqueue would go on, which is not enabled.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if there is no such virtqueue.
    /// - `EBUSY` while it is enabled.
    /// - `EOPNOTSUPP` if nobody knows.
    pub(crate) fn vq_state(&self, vq: u16) -> Result<VqState> {
        let mut control = self.shared.control.lock();
        let packed = control.accepted.contains(Features::RING_PACKED);
        let queue = control.queue(vq).ok_or(EINVAL)?;

        if !queue.hardware.rests() {
            return Err(EBUSY);
        }
        if !packed {
            return Ok(VqState::Split {
                avail_index: queue.index.ok_or(EOPNOTSUPP)?,
            });
        }
        if queue.was_live {
            return Err(EOPNOTSUPP);
        }
        Ok(VqState::INITIAL_PACKED)
    }
}
