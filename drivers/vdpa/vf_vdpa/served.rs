// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that the kernel serves, instead of the device.

use super::{
    alarm::Alarm,
    control_queue::{
        self,
        ControlQueue, //
    },
    gate::Gate,
    relay_queue::{
        self,
        RelayQueue, //
    }, //
};
use core::fmt;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
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
    notifier::Notifier,
    work::Run,
    Text, //
};
use virtio::{
    control::Refusal,
    relay::Moved, //
};

/// How long nothing is served after a command that was refused.
const REFUSAL_PAUSE: Delta = Delta::from_millis(1);

/// How long a relay waits that watches its device.
const NAP: Delta = Delta::from_millis(1);

/// What became of a look at a queue.
#[derive(Default)]
pub(crate) struct Outcome {
    /// There may be more to do.
    pub(crate) more: bool,
    /// The consumer wants an interrupt.
    pub(crate) interrupt: bool,
    /// The command was refused, which the consumer was told.
    pub(crate) refusal: Option<Refusal>,
    /// There has to be another look soon.
    pub(crate) nap: bool,
    /// The device has the queue.
    pub(crate) ended: bool,
}

/// What was relayed since probe.
pub(crate) struct Counters {
    forwarded: Atomic<u64>,
    returned: Atomic<u64>,
    suppressed: Atomic<u64>,
    hand_backs: Atomic<u64>,
}

impl Counters {
    const fn new() -> Self {
        Self {
            forwarded: Atomic::new(0),
            returned: Atomic::new(0),
            suppressed: Atomic::new(0),
            hand_backs: Atomic::new(0),
        }
    }

    fn count(&self, chains: &Atomic<u64>, moved: Moved) {
        chains.add(u64::from(moved.chains), Relaxed);
        if moved.chains != 0 && !moved.tell {
            self.suppressed.add(1, Relaxed);
        }
    }

    /// Counts chains that were passed to the device.
    pub(crate) fn forwarded(&self, moved: Moved) {
        self.count(&self.forwarded, moved);
    }

    /// Counts chains that were returned to the consumer.
    pub(crate) fn returned(&self, moved: Moved) {
        self.count(&self.returned, moved);
    }

    /// Counts a queue that its device has got back.
    pub(crate) fn handed_back(&self) {
        self.hand_backs.add(1, Relaxed);
    }

    /// Returns their names and values: chains passed to the device and returned to the consumer, how
    /// often neither had to be told, and how often the device has got the queue back.
    pub(crate) fn all(&self) -> [(&'static CStr, u64); 4] {
        [
            (c"forwarded", self.forwarded.load(Relaxed)),
            (c"returned", self.returned.load(Relaxed)),
            (c"suppressed", self.suppressed.load(Relaxed)),
            (c"hand_backs", self.hand_backs.load(Relaxed)),
        ]
    }
}

/// Who serves a virtqueue.
pub(crate) enum Server {
    /// The kernel, instead of the device.
    Control(ControlQueue),
    /// The device, by way of the kernel.
    Relay(RelayQueue),
}

/// Why a server cannot go on.
pub(crate) enum Trouble {
    /// It was told to stop.
    Stopped,
    /// The control queue is broken.
    Control(control_queue::Broken),
    /// The rings that are relayed are broken.
    Relay(relay_queue::Broken),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Control(broken) => write!(f, "control queue: {broken}"),
            Self::Relay(broken) => write!(f, "relayed virtqueue: {broken}"),
        }
    }
}

impl Server {
    /// Does some of what there is to do. Sleeps until the device has answered, or is to stop.
    fn step(&mut self, served: &Served) -> Result<Outcome, Trouble> {
        match self {
            Self::Control(queue) => {
                queue
                    .step(&served.stop, &served.alarm)
                    .map_err(|broken| match broken {
                        control_queue::Broken::Device(ECANCELED) => Trouble::Stopped,
                        broken => Trouble::Control(broken),
                    })
            }
            Self::Relay(queue) => queue
                .step(&served.gate, &served.counters)
                .map_err(Trouble::Relay),
        }
    }
}

/// What the work item of a virtqueue works on.
#[pin_data]
pub(crate) struct Served {
    #[pin]
    pub(crate) gate: Gate,
    pub(crate) counters: Counters,
    alarm: Arc<Alarm>,
    /// Whoever serves the queue, if the kernel does. Held while it does.
    #[pin]
    server: Mutex<Option<Server>>,
    /// What is being served shall come to an end.
    stop: Atomic<bool>,
}

impl Served {
    pub(crate) fn new(notifier: Arc<Notifier>, alarm: Arc<Alarm>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            gate <- Gate::new(notifier),
            counters: Counters::new(),
            alarm,
            server <- new_mutex!(None, "vf_vdpa::Served"),
            stop: Atomic::new(true),
        })
    }

    /// Installs a server, which does nothing before it is [allowed](Self::allow) to. The work is
    /// neither queued nor running, or has been told to end.
    pub(crate) fn install(&self, server: Server) {
        *self.server.lock() = Some(server);
    }

    /// Has the server work, once the work is queued.
    pub(crate) fn allow(&self) {
        self.stop.xchg(false, Full);
    }

    /// Calls `f` with the server. The work is neither queued nor running.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Server) -> R) -> Option<R> {
        let mut guard = self.server.lock();

        (*guard).as_mut().map(f)
    }

    /// Makes whatever is being served come to an end soon. Any context.
    pub(crate) fn hurry(&self) {
        self.stop.xchg(true, Full);
    }

    /// Takes the server away. The work is neither queued nor running.
    pub(crate) fn finish(&self) -> Option<Server> {
        self.server.lock().take()
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

        match server.step(self) {
            Ok(outcome) => {
                let ended = outcome.ended.then(|| (*guard).take());
                drop(guard);
                drop(ended);
                if let Some(refusal) = outcome.refusal {
                    self.alarm
                        .complain(fmt!("control command refused: {}", Text(refusal)));
                    // Others are slowed down by the device. Nobody is charged for this work.
                    fsleep(REFUSAL_PAUSE);
                }
                if outcome.interrupt {
                    self.gate.callback.call();
                }
                if outcome.nap {
                    fsleep(NAP);
                }
                outcome.more || outcome.nap
            }
            Err(trouble) => {
                drop(guard);
                // It is not touched any more.
                self.hurry();
                if !matches!(trouble, Trouble::Stopped) {
                    self.alarm.raise(fmt!("{}", Text(trouble)));
                }
                false
            }
        }
    }
}
