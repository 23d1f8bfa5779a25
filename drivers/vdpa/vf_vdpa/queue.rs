// SPDX-License-Identifier: GPL-2.0

//! The part of a virtqueue that is used without the function's lock: where kicks and interrupts go,
//! who serves it in the kernel, and counters.

use super::{
    alarm::Alarm,
    gate::Gate,
    served::{
        Counters,
        Served,
        Server, //
    }, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};
use vdpa::{
    irq::in_hard_interrupt,
    notifier::Notifier,
    work::Work, //
};
use virtio::{
    gate::Look,
    relayed::Pass, //
};

/// What is known of a virtqueue without a lock, by the index that the consumer uses.
pub(crate) struct Queue {
    work: Pin<KBox<Work<Served>>>,
    kicks: Atomic<u64>,
    interrupts: Atomic<u64>,
}

impl Queue {
    pub(crate) fn new(notifier: Arc<Notifier>, alarm: Arc<Alarm>) -> Result<Self> {
        let work = Work::new(
            Served::new(notifier, alarm),
            c"vf_vdpa",
            static_lock_class!(),
        );

        Ok(Self {
            work: KBox::pin_init(work, GFP_KERNEL)?,
            kicks: Atomic::new(0),
            interrupts: Atomic::new(0),
        })
    }

    /// Returns where kicks and interrupts go.
    pub(crate) fn gate(&self) -> &Gate {
        &self.work.data().gate
    }

    /// Returns what was relayed since probe.
    pub(crate) fn counters(&self) -> &Counters {
        &self.work.data().counters
    }

    /// Passes a kick on to whoever serves the queue, or remembers it if nobody does. Any context.
    pub(crate) fn kick(&self) {
        self.kicks.add(1, Relaxed);
        if self.gate().kick() == Look::NotNeeded {
            return;
        }
        // A process may have any number of its queues kicked by what one of them signals. In an interrupt
        // nobody but a device has asked for that work.
        if in_hard_interrupt() {
            self.work.data().note_kick();
            self.work.queue();
        } else {
            self.serve_now(Pass::Kick);
        }
    }

    /// Passes an interrupt on to whoever waits for it. Hard interrupt context.
    pub(crate) fn interrupt(&self) {
        self.interrupts.add(1, Relaxed);
        if self.gate().interrupt() == Look::Needed {
            self.serve_now(Pass::Interrupt);
        }
    }

    /// Serves the queue as far as that is possible at once, and has the work do the rest. Any context.
    fn serve_now(&self, pass: Pass) {
        if self.work.data().serve_now(pass) {
            self.work.queue();
        }
    }

    /// Installs whoever serves the queue from [`begin`](Self::begin) on. Nobody does now.
    pub(crate) fn install(&self, server: Server) {
        self.work.data().install(server);
    }

    /// Has the installed server serve from now on.
    pub(crate) fn begin(&self) {
        self.work.data().allow();
        self.gate().serve(self.work.data().relays());
        // Whatever was kicked for before is found by looking.
        self.work.queue();
    }

    /// Has the server look at the rings, if there is one.
    pub(crate) fn look(&self) {
        self.work.queue();
    }

    /// Returns whether the queue is relayed, or was until it was paused.
    pub(crate) fn is_relayed(&self) -> bool {
        self.work.data().relays()
    }

    /// Returns how many chains the queue does not return that somebody has taken before, if it is relayed.
    pub(crate) fn gap(&self) -> u16 {
        self.work.data().gap()
    }

    /// Calls `f` with the server, if there is one, which was paused. Sleeps.
    pub(crate) fn with_server<R>(&self, f: impl FnOnce(&mut Server) -> R) -> Option<R> {
        self.work.data().with(f)
    }

    /// Lets no kick through any more. One that is under way may still reach the device. What is being
    /// served comes to an end soon.
    pub(crate) fn close(&self) {
        self.gate().close();
        self.work.data().hurry();
    }

    /// Serves nothing any more, and waits for what is being served, which is given up. Sleeps.
    pub(crate) fn pause_serving(&self) {
        self.close();
        self.work.data().wait_for_passes();
        self.work.cancel();
    }

    /// Takes the server away. Sleeps.
    pub(crate) fn end_serving(&self) -> Option<Server> {
        self.pause_serving();
        self.work.data().finish()
    }

    /// Returns the number of kicks since probe, without those through a mapped doorbell.
    pub(crate) fn kicks(&self) -> u64 {
        self.kicks.load(Relaxed)
    }

    /// Returns the number of interrupts since probe. A shared interrupt counts for all its queues.
    pub(crate) fn interrupts(&self) -> u64 {
        self.interrupts.load(Relaxed)
    }
}
