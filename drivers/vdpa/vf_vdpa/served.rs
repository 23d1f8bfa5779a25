// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that the kernel serves, instead of the device.

use super::{
    alarm::Alarm,
    control_queue::{
        self,
        ControlQueue, //
    },
    gate::Gate,
    hand_back::HandedBack,
    relay_queue::{
        self,
        RelayQueue, //
    }, //
};
use core::fmt;
use kernel::{
    new_mutex,
    new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLockIrq, //
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
    relay::Moved,
    relayed::{
        Pass,
        Passed, //
    }, //
};

/// How long nothing is served after a command that the device had no part in.
const UNPACED_PAUSE: Delta = Delta::from_millis(1);

/// How long a relay waits that watches its device.
const NAP: Delta = Delta::from_millis(1);

/// How long one waits that looks by itself for what comes meanwhile, and so how much later a chain is passed
/// on at most.
const REST: Delta = Delta::from_micros(200);

/// How often the rings of a relay are looked at before others have their turn.
const ROUNDS: u32 = 8;

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
        // What is left may tell.
        if moved.chains != 0 && !moved.tell && !moved.more {
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
    /// The rings of the virtqueue that is relayed are broken.
    Relay(u16, relay_queue::Broken),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Control(broken) => write!(f, "control queue: {broken}"),
            Self::Relay(vq, broken) => write!(f, "relayed virtqueue {vq}: {broken}"),
        }
    }
}

/// What the kernel serves a virtqueue with: in its work item, and of a relay where a kick or an interrupt
/// is noticed.
#[pin_data]
pub(crate) struct Served {
    #[pin]
    pub(crate) gate: Gate,
    pub(crate) counters: Counters,
    alarm: Arc<Alarm>,
    /// Serves the control queue, if that is what this is. Held while it does.
    #[pin]
    control: Mutex<Option<ControlQueue>>,
    /// Relays the queue, if it is relayed. Held while it does.
    #[pin]
    relay: SpinLockIrq<Option<RelayQueue>>,
    /// What is being served shall come to an end.
    stop: Atomic<bool>,
}

impl Served {
    pub(crate) fn new(notifier: Arc<Notifier>, alarm: Arc<Alarm>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            gate <- Gate::new(notifier),
            counters: Counters::new(),
            alarm,
            control <- new_mutex!(None, "vf_vdpa::Served::control"),
            relay <- new_spinlock_irq!(None, "vf_vdpa::Served::relay"),
            stop: Atomic::new(true),
        })
    }

    /// Installs a server, which does nothing before it is [allowed](Self::allow) to. There is none.
    pub(crate) fn install(&self, server: Server) {
        match server {
            Server::Control(queue) => *self.control.lock() = Some(queue),
            Server::Relay(queue) => *self.relay.lock() = Some(queue),
        }
    }

    /// Has the server work, once the work is queued: there may be something to do.
    pub(crate) fn allow(&self) {
        self.with_relay(RelayQueue::need);
        self.stop.xchg(false, Full);
    }

    /// Notes a kick for the work, which is then queued. Any context.
    pub(crate) fn note_kick(&self) {
        self.with_relay(RelayQueue::need);
    }

    /// Makes whatever is being served come to an end soon. Any context.
    pub(crate) fn hurry(&self) {
        self.stop.xchg(true, Full);
    }

    /// Waits until nobody relays any more, who was told to [`hurry`](Self::hurry): but for the work.
    pub(crate) fn wait_for_passes(&self) {
        // Whoever gets it later finds that it has to stop.
        drop(self.relay.lock());
    }

    /// Takes the relay away, if there is one.
    pub(crate) fn take_relay(&self) -> Option<RelayQueue> {
        self.relay.lock().take()
    }

    /// Calls `f` with the server, if there is one. Nobody works.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Server) -> R) -> Option<R> {
        let mut server = self.finish()?;
        let result = f(&mut server);

        self.install(server);
        Some(result)
    }

    /// Takes the server away. Nobody works.
    pub(crate) fn finish(&self) -> Option<Server> {
        let control = self.control.lock().take();

        control
            .map(Server::Control)
            .or_else(|| self.take_relay().map(Server::Relay))
    }

    /// Returns whether the queue is relayed, if it is served.
    pub(crate) fn relays(&self) -> bool {
        self.relay.lock().is_some()
    }

    /// Returns how many chains the queue does not return, if it is relayed: see
    /// [`gap`](virtio::relayed::Relayed::gap).
    pub(crate) fn gap(&self) -> u16 {
        self.with_relay(|relay| relay.gap()).unwrap_or(0)
    }

    /// Passes on what there is in the rings, if the queue is relayed. Any context.
    ///
    /// Returns [`None`] if it is not relayed, or not now.
    fn pass(&self, pass: Pass) -> Option<Passed> {
        let mut relay = self.relay.lock();

        if self.stop.load(Acquire) {
            return None;
        }
        (*relay)
            .as_mut()
            .map(|relay| relay.pass(pass, &self.counters))
    }

    /// Serves a kick or an interrupt as far as that is possible at once. Any context.
    ///
    /// Returns whether there is something left for the work.
    pub(crate) fn serve_now(&self, pass: Pass) -> bool {
        let Some(passed) = self.pass(pass) else {
            return !self.stop.load(Acquire);
        };

        if passed.back.tell {
            self.gate.callback.call();
        }
        passed.has_left_something()
    }

    /// Serves a command, if this is a control queue, or else relays. Returns whether there is more to do.
    fn serve(&self) -> Result<bool, Trouble> {
        let mut control = self.control.lock();
        let Some(queue) = (*control).as_mut() else {
            drop(control);
            return self.serve_relay();
        };
        let outcome = queue
            .step(&self.stop, &self.alarm)
            .map_err(|broken| match broken {
                control_queue::Broken::Device(ECANCELED) => Trouble::Stopped,
                broken => Trouble::Control(broken),
            })?;
        drop(control);

        if let Some(refusal) = outcome.refusal {
            self.alarm
                .complain(fmt!("control command refused: {}", Text(refusal)));
        }
        if outcome.unpaced {
            // Others are slowed down by the device. Nobody is charged for this work.
            fsleep(UNPACED_PAUSE);
        }
        if outcome.interrupt {
            self.gate.callback.call();
        }
        Ok(outcome.more)
    }

    /// Does for a relay what cannot be done at once. Returns whether there is more to do.
    fn serve_relay(&self) -> Result<bool, Trouble> {
        let rests = self.with_relay(|relay| relay.rests()) == Some(true);
        if rests {
            fsleep(REST);
        }
        let Some((view, needed)) = self.with_relay(|relay| relay.view()) else {
            return Ok(false);
        };
        if let Err(fault) = view.locate() {
            // Whoever needs them from here on has the work queued again, but for a device that was asked
            // not to interrupt.
            self.with_relay(|relay| relay.miss(needed, fault));
            self.unless_broken()?;
            let passed = self.pass_on(Pass::Work);
            if passed.watch || passed.paced {
                fsleep(NAP);
            }
            return Ok(passed.has_left_something());
        }
        let mut passed = self.pass_on(if rests { Pass::Rested } else { Pass::Work });
        self.unless_broken()?;
        if passed.drained {
            match self.hand_back()? {
                Some(HandedBack::Done) => return Ok(false),
                Some(HandedBack::Blocked) => passed.watch = true,
                Some(HandedBack::Ending) | None => {}
            }
        }
        if passed.watch {
            fsleep(NAP);
        }
        Ok(passed.more || passed.watch || passed.paced)
    }

    /// Returns why a relay cannot go on, if it cannot.
    fn unless_broken(&self) -> Result<(), Trouble> {
        let broken = self.with_relay(|relay| Some((relay.vq(), relay.broken()?)));

        match broken.flatten() {
            Some((vq, broken)) => Err(Trouble::Relay(vq, broken)),
            None => Ok(()),
        }
    }

    /// Passes on what there is in the rings of a relay, several times, and tells the consumer. `first` is the
    /// first look.
    fn pass_on(&self, first: Pass) -> Passed {
        let mut interrupt = false;
        let mut passed = Passed::default();

        for round in 0..ROUNDS {
            let pass = if round == 0 { first } else { Pass::Work };
            passed = self.pass(pass).unwrap_or_default();
            interrupt |= passed.back.tell;
            if !passed.more {
                break;
            }
        }
        if interrupt {
            self.gate.callback.call();
        }
        passed
    }

    /// Hands a relayed queue back to its device, if that can still be done.
    fn hand_back(&self) -> Result<Option<HandedBack>, Trouble> {
        let Some(hand_back) = self.with_relay(RelayQueue::leave).flatten() else {
            return Ok(None);
        };
        let handed = hand_back
            .run(self)
            .map_err(|broken| Trouble::Relay(hand_back.vq(), broken))?;

        if handed != HandedBack::Done {
            self.with_relay(|relay| relay.stay(handed));
        }
        Ok(Some(handed))
    }

    /// Calls `f`, which must not sleep, with the relay, if there is one.
    fn with_relay<R>(&self, f: impl FnOnce(&mut RelayQueue) -> R) -> Option<R> {
        (*self.relay.lock()).as_mut().map(f)
    }
}

impl Run for Served {
    fn run(&self) -> bool {
        if self.stop.load(Acquire) {
            return false;
        }
        self.serve().unwrap_or_else(|trouble| {
            // It is not touched any more.
            self.hurry();
            if !matches!(trouble, Trouble::Stopped) {
                self.alarm.raise(fmt!("{}", Text(trouble)));
            }
            false
        })
    }
}
