// SPDX-License-Identifier: GPL-2.0

//! The hardware's control queue, which only this driver uses.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use vdpa::{
    notifier::Notifier,
    own_memory::OwnMemory,
    virtio_pci::QueueLimits, //
};
use virtio::{
    control::{
        self,
        Command,
        MAX_COMMAND, //
    },
    journal::{
        self,
        Cursor,
        Journal, //
    },
    notify::Doorbell,
    queue::{
        Addresses,
        Size, //
    },
    request::{
        Requests,
        MAX_ANSWER, //
    }, //
};

/// How long a device may take to answer a command.
const TIMEOUT: Delta = Delta::from_secs(5);

/// How long a device may take for all that it is told again.
const REPLAY_TIMEOUT: Delta = Delta::from_secs(5);

/// How long the first wait for an answer is, and the longest.
const FIRST_WAIT: Delta = Delta::from_micros(20);
const LONGEST_WAIT: Delta = Delta::from_millis(1);

/// Sends commands to the device, one at a time.
pub(crate) struct Requester {
    requests: Requests,
    memory: OwnMemory,
    notifier: Arc<Notifier>,
    doorbell: Doorbell,
    /// The last command was given up: its answer is still to come.
    abandoned: bool,
    /// What the consumer's commands have made of the device.
    journal: Journal<KVec<u8>>,
}

/// Returns the journal of a device with `pairs` queue pairs that was reset.
pub(crate) fn new_journal(pairs: u16) -> Result<Journal<KVec<u8>>> {
    let buffer = KVec::from_elem(0, journal::buffer_len(pairs), GFP_KERNEL)?;

    Journal::new(buffer, pairs).ok_or(EINVAL)
}

impl Requester {
    /// Makes the ring for a control queue in `memory`, which is all 0. The device has been reset.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the queue has no room for a command.
    pub(crate) fn new(
        limits: QueueLimits,
        memory: OwnMemory,
        notifier: Arc<Notifier>,
        journal: Journal<KVec<u8>>,
    ) -> Result<Self> {
        let requests =
            Requests::new(limits.max_size, memory.address(), memory.writable()).ok_or(EINVAL)?;

        Ok(Self {
            requests,
            memory,
            notifier,
            doorbell: limits.doorbell,
            abandoned: false,
            journal,
        })
    }

    /// Returns the number of entries.
    pub(crate) fn size(&self) -> Size {
        self.requests.size()
    }

    /// Returns where the device finds the rings.
    pub(crate) fn addresses(&self) -> Addresses {
        self.requests.addresses()
    }

    /// Takes what is known of the device's configuration, as the device is reset.
    pub(crate) fn into_journal(self) -> Journal<KVec<u8>> {
        self.journal
    }

    /// Notes a command of the consumer that the device has accepted.
    pub(crate) fn record(&mut self, command: &Command<'_>) {
        self.journal.record(command);
    }

    /// Makes a device that was reset what the consumer's commands had made of it. Sleeps.
    ///
    /// # Errors
    ///
    /// - `EIO` if the device does not accept again what it has accepted before.
    /// - `ETIMEDOUT` if that takes too long.
    /// - As [`ask`](Self::ask).
    pub(crate) fn replay(&mut self) -> Result {
        let mut command = KVec::from_elem(0, MAX_COMMAND, GFP_KERNEL)?;
        let mut cursor = Cursor::default();
        let start = Instant::<Monotonic>::now();

        while let Some(len) = self.journal.next(&mut cursor, &mut command) {
            let bytes = command.get(..len).unwrap_or_default();

            if self.ask(bytes, &mut [], &Atomic::new(false))? != control::OK {
                return Err(EIO);
            }
            if start.elapsed() > REPLAY_TIMEOUT {
                return Err(ETIMEDOUT);
            }
        }
        Ok(())
    }

    /// Sends a command, and waits for the answer, of which all but the last byte go to `reply`.
    /// Returns the last byte, which says whether the device has accepted the command. Sleeps.
    ///
    /// # Errors
    ///
    /// - `ECANCELED` if `stop` is set meanwhile.
    /// - `ETIMEDOUT` if no answer comes.
    /// - `EIO` if the device has broken the ring.
    /// - `EINVAL` if the command, or the answer, is too long.
    pub(crate) fn ask(
        &mut self,
        command: &[u8],
        reply: &mut [u8],
        stop: &Atomic<bool>,
    ) -> Result<u8> {
        let mut answer = [0; MAX_ANSWER];
        let deadline = Deadline::new();

        if self.abandoned {
            self.wait(&mut answer, stop, &deadline)?;
        }
        if stop.load(Acquire) {
            return Err(ECANCELED);
        }
        self.requests
            .submit(&self.memory, command, reply.len().saturating_add(1))
            .map_err(|_| EINVAL)?;
        self.notifier.ring(self.doorbell);
        self.wait(&mut answer, stop, &deadline)?;

        let (said, rest) = answer.split_at_checked(reply.len()).ok_or(EINVAL)?;
        for (to, from) in reply.iter_mut().zip(said) {
            *to = *from;
        }
        rest.first().copied().ok_or(EINVAL)
    }

    fn wait(&mut self, answer: &mut [u8], stop: &Atomic<bool>, deadline: &Deadline) -> Result {
        let mut pause = FIRST_WAIT;

        self.abandoned = true;
        loop {
            // Before the first look, too: a guest can forge answers, and nobody is charged for this work.
            fsleep(pause);
            pause = (pause + pause).min(LONGEST_WAIT);
            // A host that is busy may have been away all that time, between a look at the ring and
            // one at the clock.
            let late = deadline.is_over();
            if self.requests.poll(&self.memory, answer).map_err(|_| EIO)? {
                self.abandoned = false;
                return Ok(());
            }
            if late {
                return Err(ETIMEDOUT);
            }
            if stop.load(Acquire) {
                return Err(ECANCELED);
            }
        }
    }
}

/// When to give up.
struct Deadline(Instant<Monotonic>);

impl Deadline {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn is_over(&self) -> bool {
        self.0.elapsed() > TIMEOUT
    }
}
