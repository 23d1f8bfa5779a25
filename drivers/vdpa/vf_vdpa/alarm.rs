// SPDX-License-Identifier: GPL-2.0

//! What is to be known of a function without its lock: that its configuration or its status have
//! changed, and who is to be told.

use kernel::{
    device,
    fmt,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use vdpa::{
    callback::Slot,
    virtio_bus::break_virtqueues, //
};

/// Changes of the configuration in a second that a consumer is shown at most. A device that interrupts
/// for more of them is not right.
pub(crate) const MOST_CHANGES: u32 = 64;

/// A line of the log a second.
#[pin_data]
struct Rate {
    #[pin]
    last: Mutex<Option<Instant<Monotonic>>>,
}

impl Rate {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            last <- new_mutex!(None, "vf_vdpa::Rate"),
        })
    }

    /// Returns whether there may be one now, which the caller then writes.
    fn allows(&self) -> bool {
        let mut last = self.last.lock();
        let quiet = last.is_some_and(|last| last.elapsed() < Delta::from_secs(1));

        if !quiet {
            *last = Some(Instant::now());
        }
        !quiet
    }
}

/// How often the configuration interrupts, as whoever holds the lock of the function sees it.
#[derive(Default)]
pub(crate) struct Pace {
    /// When it was looked at last, and how many interrupts there had been until then.
    last: Option<(Instant<Monotonic>, u64)>,
    /// That was too often, which has been logged.
    told: bool,
}

impl Pace {
    /// Returns how many of `count` interrupts there were in a second since that was said last; or nothing
    /// if that was less than a second ago.
    fn a_second(&mut self, count: u64) -> Option<u64> {
        let (since, before) = *self.last.get_or_insert_with(|| (Instant::now(), count));
        let milliseconds = u64::try_from(since.elapsed().as_millis()).ok()?;

        if milliseconds < 1000 {
            return None;
        }
        self.last = Some((Instant::now(), count));
        count
            .saturating_sub(before)
            .saturating_mul(1000)
            .checked_div(milliseconds)
    }
}

/// Who is told of a function's changes, and what has changed.
#[pin_data]
pub(crate) struct Alarm {
    dev: ARef<device::Device>,
    /// The consumer's callback for configuration changes.
    #[pin]
    pub(crate) config: Slot,
    config_interrupts: Atomic<u64>,
    /// The configuration or the status may have changed since somebody looked.
    stale: Atomic<bool>,
    /// The device has to be reset, which the consumer was not told yet.
    broken: Atomic<bool>,
    /// Of what a consumer has done.
    #[pin]
    complaints: Rate,
    /// Of what the device has done, or what has been found in rings: what a consumer
    /// does all the time must not hide it.
    #[pin]
    reports: Rate,
}

impl Alarm {
    pub(crate) fn new(dev: &device::Device) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                dev: dev.into(),
                config <- Slot::new(),
                config_interrupts: Atomic::new(0),
                stale: Atomic::new(true),
                broken: Atomic::new(false),
                complaints <- Rate::new(),
                reports <- Rate::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Notes that configuration and status have to be read again.
    pub(crate) fn mark_stale(&self) {
        self.stale.xchg(true, Full);
    }

    /// Returns whether configuration and status have to be read again, which the caller then does.
    pub(crate) fn take_stale(&self) -> bool {
        self.stale.xchg(false, Full)
    }

    /// Returns whether the device has to be reset, of which the caller then tells.
    pub(crate) fn take_broken(&self) -> bool {
        self.broken.xchg(false, Full)
    }

    /// Returns the number of configuration interrupts since probe.
    pub(crate) fn config_interrupts(&self) -> u64 {
        self.config_interrupts.load(Relaxed)
    }

    /// Passes a configuration interrupt on. Hard interrupt context.
    pub(crate) fn config_changed(&self) {
        self.config_interrupts.add(1, Relaxed);
        self.mark_stale();
        self.config.call();
    }

    /// Logs that the device interrupts all the time, once until it does not. May sleep.
    ///
    /// An interrupt handler that looked at the time would make a storm worse. So nobody notices one
    /// that no consumer, and no reader of the configuration, looks after.
    pub(crate) fn judge_interrupts(&self, pace: &mut Pace) {
        let Some(count) = pace.a_second(self.config_interrupts()) else {
            return;
        };
        let storms = count > u64::from(MOST_CHANGES);

        pace.told = storms
            && (pace.told || self.report(fmt!("configuration interrupts: {} a second", count)));
    }

    /// Demands a reset from the consumer, for a reason that is logged, from a context that cannot
    /// wait for the lock of the function. May sleep.
    pub(crate) fn raise(&self, why: fmt::Arguments<'_>) {
        self.report(why);
        self.broken.xchg(true, Full);
        // It may be waiting for an answer.
        break_virtqueues(&self.dev);
        self.config.call();
    }

    /// Logs something that a consumer can provoke, unless that has just been done. May sleep.
    pub(crate) fn complain(&self, what: fmt::Arguments<'_>) {
        if self.complaints.allows() {
            dev_warn!(&*self.dev, "{}\n", what);
        }
    }

    /// Logs something that the device has done, unless that has just been done. Returns whether it was
    /// logged. May sleep.
    pub(crate) fn report(&self, what: fmt::Arguments<'_>) -> bool {
        let may = self.reports.allows();

        if may {
            dev_warn!(&*self.dev, "{}\n", what);
        }
        may
    }
}
