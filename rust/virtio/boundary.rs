// SPDX-License-Identifier: GPL-2.0

//! When a relay holds back what lies behind the boundary, and when it gives that up.
//!
//! A [relayed](crate::relay) queue can be handed back to its device at the boundary, once the device
//! has returned all before it. So the relay holds back what comes behind. But a device may need more
//! than it has: a packet that is received into several buffers waits for the ones that are held back.
//! Nobody sees that from outside. So a device that returns nothing for some time while more is held back
//! is given more: the queue stays relayed until the next boundary. With few left that time is short.
//! With plenty it is longer, because a device that is only idle looks the same; but no number of buffers
//! is enough for every packet, so it ends, too.

use crate::device_id::DeviceId;
use crate::features::net;
use crate::features::Features;

/// How many chains are enough for most that a device has to do with several of them at once. Not for
/// all: a received packet of 64 KiB takes more if they are smaller than 1 KiB.
const PLENTY: u16 = 64;

/// Milliseconds without progress after which the boundary is passed, with fewer than [`PLENTY`] left.
const PATIENCE: u64 = 100;

/// The same with [`PLENTY`] left, when the device is more likely to be idle than to wait for more, and if
/// it never waits for more: then it is slow with one, and may be done with others meanwhile.
const LONG_PATIENCE: u64 = 2000;

/// The same when only a lock is in the way. Whoever has it may be waiting for what is held back.
const LOCK_PATIENCE: u64 = 50;

/// What a device may need several chains for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It is done with each by itself: it never waits for another.
    One,
    /// It may wait for more of them.
    Several,
}

impl Needs {
    /// What the device on virtqueue `vq`, by the consumer's number, needs chains for.
    ///
    /// A network device receives one packet into several mergeable buffers (virtio 1.3, 5.1.6.3.2), and
    /// is done with everything else in its turn. Of other devices, nothing is known: one that is slow
    /// with one request must not keep the rest waiting.
    #[must_use]
    pub fn of(id: DeviceId, accepted: Features, vq: u16) -> Self {
        let receives = vq & 1 == 0;
        if id == DeviceId::NET && !(receives && accepted.contains(net::MRG_RXBUF)) {
            Self::One
        } else {
            Self::Several
        }
    }
}

/// What a relay sees of its queue.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// It has come to the boundary.
    pub there: bool,
    /// The driver has made chains available behind it.
    pub more: bool,
    /// How many chains the device has.
    pub in_flight: u16,
    /// Something was passed on, in either direction, since the last look.
    pub progress: bool,
    /// The device has returned everything, but the queue cannot be handed back at the moment.
    pub blocked: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    /// On the way to the boundary, or waiting there.
    Holding,
    /// Waiting at the boundary since this time, with a device that may want more.
    Doubting(u64),
    /// The boundary is being passed.
    Passing,
    /// It is not worth the wait: the queue cannot be handed back.
    Never,
}

/// The boundary of a relayed queue.
#[derive(Clone, Debug)]
pub struct Boundary {
    needs: Needs,
    state: State,
}

impl Boundary {
    /// The boundary of a queue that can be handed back there.
    #[must_use]
    pub const fn new(needs: Needs) -> Self {
        Self {
            needs,
            state: State::Holding,
        }
    }

    /// The boundary of a queue that cannot be handed back.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            needs: Needs::One,
            state: State::Never,
        }
    }

    /// True if nothing behind the boundary is passed on.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self.state, State::Holding | State::Doubting(_))
    }

    /// True if there has to be another look soon, even if nobody asks for one.
    #[must_use]
    pub const fn watches(&self) -> bool {
        matches!(self.state, State::Doubting(_))
    }

    /// Notes what the relay sees at `now`, in milliseconds. Returns true if what was held back may be
    /// passed on.
    pub fn look(&mut self, sight: Sight, now: u64) -> bool {
        let doubtful = sight.there && sight.more && (sight.in_flight != 0 || sight.blocked);
        let patience = match (sight.blocked, self.needs) {
            (true, _) => LOCK_PATIENCE,
            (false, Needs::Several) if sight.in_flight < PLENTY => PATIENCE,
            (false, _) => LONG_PATIENCE,
        };
        self.state = match self.state {
            State::Never => State::Never,
            State::Passing if sight.there => State::Passing,
            State::Doubting(since) if doubtful && !sight.progress => {
                if now.saturating_sub(since) < patience {
                    State::Doubting(since)
                } else {
                    State::Passing
                }
            }
            _ if doubtful => State::Doubting(now),
            _ => State::Holding,
        };
        // Nothing to pass on is nothing to look at again: a driver may take back what it made available.
        sight.there && sight.more && matches!(self.state, State::Passing)
    }
}
