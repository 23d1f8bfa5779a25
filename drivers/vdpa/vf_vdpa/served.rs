// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that the kernel serves, instead of the device.

use super::{
    alarm::Alarm,
    control_queue::{
        Broken,
        ControlQueue, //
    },
    requester::Requester, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use vdpa::{
    callback::Slot,
    work::Run,
    Text, //
};

/// How long nothing is served after a command that was refused.
const REFUSAL_PAUSE: Delta = Delta::from_millis(1);

/// What the work item of a virtqueue works on.
#[pin_data]
pub(crate) struct Served {
    /// The consumer's callback.
    #[pin]
    pub(crate) callback: Slot,
    alarm: Arc<Alarm>,
    /// Whoever serves the queue, if the kernel does. Held while a command is served.
    #[pin]
    server: Mutex<Option<ControlQueue>>,
    /// What is being served shall come to an end.
    stop: Atomic<bool>,
}

impl Served {
    pub(crate) fn new(alarm: Arc<Alarm>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            callback <- Slot::new(),
            alarm,
            server <- new_mutex!(None, "vf_vdpa::Served"),
            stop: Atomic::new(false),
        })
    }

    /// Begins to serve, once the work is queued.
    pub(crate) fn start(&self, server: ControlQueue) {
        self.stop.xchg(false, Full);
        *self.server.lock() = Some(server);
    }

    /// Makes whatever is being served come to an end soon. Any context.
    pub(crate) fn hurry(&self) {
        self.stop.xchg(true, Full);
    }

    /// Ends serving. The work is neither queued nor running.
    pub(crate) fn finish(&self) -> Option<Requester> {
        let server = self.server.lock().take();

        server.map(ControlQueue::into_requester)
    }
}

impl Run for Served {
    fn run(&self) -> bool {
        if self.stop.load(Acquire) {
            return false;
        }
        let mut guard = self.server.lock();
        let Some(server) = (*guard).as_mut() else {
            return false;
        };

        match server.step(&self.stop) {
            Ok(outcome) => {
                drop(guard);
                if let Some(refusal) = outcome.refusal {
                    self.alarm
                        .complain(fmt!("control command refused: {}", Text(refusal)));
                    // Others are slowed down by the device. Nobody is charged for this work.
                    fsleep(REFUSAL_PAUSE);
                }
                if outcome.reconfigured {
                    self.alarm.mark_stale();
                }
                if outcome.interrupt {
                    self.callback.call();
                }
                outcome.more
            }
            Err(broken) => {
                drop(guard);
                // It is not touched any more.
                self.hurry();
                match broken {
                    // It is being stopped.
                    Broken::Device(ECANCELED) => return false,
                    Broken::Consumer(error) => {
                        self.alarm.raise(fmt!("control queue: {}", Text(error)));
                    }
                    Broken::NoAnswer => self
                        .alarm
                        .raise(fmt!("control queue: a command has no room for its answer")),
                    Broken::Device(error) => self.alarm.raise(fmt!(
                        "control queue: the device does not answer (error {})",
                        error.to_errno()
                    )),
                }
                false
            }
        }
    }
}
