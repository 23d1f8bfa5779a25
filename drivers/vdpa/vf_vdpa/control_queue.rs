// SPDX-License-Identifier: GPL-2.0

//! The control queue of a network device, as its consumer sees it: served by the kernel.
//!
//! The consumer's commands are checked, copied, and passed on through a queue of the driver's own.
//! The device never sees the consumer's control queue, so it can be in an address space to which
//! no data queue belongs.

use super::{
    alarm::Alarm,
    requester::Requester, //
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    }, //
};
use vdpa::guest_memory::{
    Fault,
    GuestMemory, //
};
use virtio::{
    control::{
        self,
        Command,
        Effect,
        Refusal,
        Rules,
        MAX_COMMAND, //
    },
    request::MAX_ANSWER,
    split::{
        Chain,
        RingError,
        SplitQueue, //
    }, //
};

/// Bytes of the answer to a command that is refused: what the longest command asks for, and the
/// byte that says so.
const ERRORS: usize = 9;

/// Most descriptors of a command. Linux uses five.
const MAX_DESCRIPTORS: u32 = 64;

/// Why the queue cannot be served any more. The device has to be reset.
pub(crate) enum Broken {
    /// By the consumer.
    Consumer(RingError<Fault>),
    /// A command of the consumer has no room for an answer.
    NoAnswer,
    /// By the device, or because the queue is being stopped.
    Device(Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer(error) => error.fmt(f),
            Self::NoAnswer => f.write_str("a command has no room for its answer"),
            Self::Device(error) => {
                write!(f, "the device does not answer (error {})", error.to_errno())
            }
        }
    }
}

impl From<RingError<Fault>> for Broken {
    fn from(error: RingError<Fault>) -> Self {
        Self::Consumer(error)
    }
}

/// What became of a look at the queue.
#[derive(Default)]
pub(crate) struct Outcome {
    /// There may be more to do.
    pub(crate) more: bool,
    /// The consumer wants an interrupt.
    pub(crate) interrupt: bool,
    /// The command was refused, which the consumer was told.
    pub(crate) refusal: Option<Refusal>,
    /// The device had no part in it, and has slowed nobody down.
    pub(crate) unpaced: bool,
}

/// A control queue that is being served.
pub(crate) struct ControlQueue {
    queue: SplitQueue,
    memory: Arc<GuestMemory>,
    requester: Requester,
    rules: Rules,
    /// The command that is looked at, one byte longer than it may be.
    command: KVec<u8>,
}

impl ControlQueue {
    /// Allocates the buffer of a control queue.
    pub(crate) fn buffer() -> Result<KVec<u8>> {
        Ok(KVec::from_elem(
            0,
            MAX_COMMAND.saturating_add(1),
            GFP_KERNEL,
        )?)
    }

    /// Serves `queue`, which lies in `memory`, by `requester`.
    pub(crate) fn new(
        queue: SplitQueue,
        memory: Arc<GuestMemory>,
        requester: Requester,
        rules: Rules,
        buffer: KVec<u8>,
    ) -> Self {
        Self {
            queue,
            memory,
            requester,
            rules,
            command: buffer,
        }
    }

    /// Returns the index of the next command: one that was given up is to be looked at again.
    pub(crate) fn next(&self) -> u16 {
        self.queue.next_used()
    }

    /// Stops serving, and returns what the device's queue is reached by, and the buffer.
    pub(crate) fn into_parts(self) -> (Requester, KVec<u8>) {
        (self.requester, self.command)
    }

    /// Serves one command, if there is one. Sleeps until the device has answered, or `stop` is set.
    pub(crate) fn step(&mut self, stop: &Atomic<bool>, alarm: &Alarm) -> Result<Outcome, Broken> {
        let memory = &*self.memory;
        let mut outcome = Outcome::default();

        let Some(chain) = self.queue.pop(memory)? else {
            outcome.more = self.queue.enable_notifications(memory)?;
            return Ok(outcome);
        };
        let mut chain = chain.at_most(MAX_DESCRIPTORS);
        let len = chain.read(memory, &mut self.command)?;
        let bytes = self.command.get(..len).unwrap_or_default();
        let mut answer = [0; MAX_ANSWER];

        let answer = match Command::parse(bytes, &self.rules) {
            Err(refusal) => {
                outcome.refusal = Some(refusal);
                outcome.unpaced = true;
                // Where the answer is, depends on the command: behind what the device has to say.
                let len = usize::try_from(chain.lengths(&memory)?.writable).unwrap_or(usize::MAX);
                let answer = answer.get_mut(..len.clamp(1, ERRORS)).unwrap_or_default();
                answer.fill(control::ERR);
                answer
            }
            Ok(command) => {
                let reply_len = command.reply_len();
                let answer = answer
                    .get_mut(..reply_len.saturating_add(1))
                    .unwrap_or_default();

                // Before the device does something of which nobody would hear.
                room(&chain, memory, answer.len())?;
                let Some((ack, reply)) = answer.split_last_mut() else {
                    return Err(Broken::NoAnswer);
                };
                // The device has the administrator's address, which is the only one that passes the rules. A
                // guest that can forge an answer has no command in the driver's ring that sets another
                // one, once what follows has been written over its end.
                if self.rules.mac.is_some() && matches!(command.effect(), Effect::MacAddr(_)) {
                    *ack = control::OK;
                    outcome.unpaced = true;
                } else {
                    let said = self
                        .requester
                        .ask(command.bytes(), reply, stop)
                        .map_err(Broken::Device)?;
                    *ack = control::ack(said);
                    if *ack == control::OK {
                        self.requester.record(&command);
                    }
                }
                if *ack == control::OK {
                    // Whoever sees the answer has the configuration read again, which these change.
                    if matches!(command.effect(), Effect::MacAddr(_) | Effect::AnnounceAck) {
                        alarm.mark_stale();
                    }
                }
                answer
            }
        };
        room(&chain, memory, answer.len())?;
        chain.write(memory, answer)?;

        let old = self.queue.next_used();
        self.queue
            .push_used(memory, chain.head(), chain.written())?;
        outcome.interrupt = self.queue.needs_interrupt(memory, old)?;
        outcome.more = true;
        Ok(outcome)
    }
}

/// Checks that a chain has room for an answer.
fn room(chain: &Chain, memory: &GuestMemory, len: usize) -> Result<(), Broken> {
    let writable = chain.lengths(&memory)?.writable;

    if usize::try_from(writable).is_ok_and(|writable| writable >= len) {
        Ok(())
    } else {
        Err(Broken::NoAnswer)
    }
}
