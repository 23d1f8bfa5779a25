// SPDX-License-Identifier: GPL-2.0

//! Reset: asked for by the consumer, done by others behind its back, or because all else failed.

use super::{
    control::{
        Control,
        Phase, //
    },
    function::Function, //
};
use kernel::prelude::*;
use vdpa::{
    pci::{
        channel_state,
        ChannelState, //
    },
    virtio_bus::break_virtqueues, //
};

impl Function<'_> {
    /// Resets the device for the consumer. Idempotent.
    ///
    /// When this returns, the device reaches no memory, no interrupt handler runs, and nothing of
    /// what the consumer had set is left, even on an error; but for a MAC address that it has written,
    /// which may be for the start that follows.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if the device is removed.
    /// - `EIO` if it does not stop. It is cut off from memory; another reset tries again.
    pub(crate) fn reset(&self) -> Result {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.close_gates();
        for queue in &self.shared.receivers.queues {
            queue.pause_serving();
        }
        // What it had to say was of the time before.
        self.shared.receivers.alarm.take_broken();
        control.forget();
        let result = match control.phase {
            Phase::Gone => Err(ENODEV),
            // It was stopped, or cut off from memory, when it was detached.
            Phase::Detached => Ok(()),
            Phase::Stopped | Phase::Live | Phase::Suspended | Phase::Lost | Phase::CutOff => {
                self.quiesce(control)
            }
        };
        if result.is_ok() && control.phase != Phase::Detached {
            control.phase = Phase::Stopped;
        }
        // It reaches no memory any more, whatever came of it.
        control.requester = None;
        for queue in &self.shared.receivers.queues {
            drop(queue.end_serving());
            queue.gate().forget_bypass();
        }
        self.reset_groups(control);
        self.unconfine(control);
        self.interrupts.access(control).synchronize();
        self.shared.receivers.alarm.mark_stale();
        result
    }

    /// Makes the device stop, by whatever it takes, and lets it reach memory only then.
    ///
    /// # Errors
    ///
    /// As [`reset`](Self::reset): it is cut off from memory then.
    pub(crate) fn quiesce(&self, control: &mut Control) -> Result {
        match channel_state(self.pdev) {
            // The PCI core is about to tell, and to reset it.
            ChannelState::Frozen if !control.abandoned => {
                self.enabled.clear_master();
                control.phase = Phase::Detached;
                return Ok(());
            }
            ChannelState::PermanentFailure => {
                self.lose(control);
                return Err(ENODEV);
            }
            ChannelState::Normal | ChannelState::Frozen => {}
        }
        if !self.enabled.is_master() {
            if control.phase != Phase::CutOff {
                self.report(fmt!(
                    "was reset behind our back, restoring its configuration"
                ));
            }
            if self.enabled.restore().is_err() {
                self.cut_off(control);
                return Err(EIO);
            }
        }
        if let Err(error) = self.shared.transport.reset() {
            self.report(fmt!(
                "does not finish its reset (error {}), resetting the function",
                error.to_errno()
            ));
            let result = self
                .enabled
                .function_level_reset()
                .and_then(|()| self.shared.transport.reset());
            if result.is_err() {
                self.cut_off(control);
                return Err(EIO);
            }
        }
        self.let_run(control)
    }

    /// Lets a device that was reset reach memory.
    fn let_run(&self, control: &mut Control) -> Result {
        if !self.enabled.is_master() {
            self.enabled.set_master();
        }
        if !self.enabled.is_master() {
            self.cut_off(control);
            return Err(EIO);
        }
        Ok(())
    }

    /// Takes a device that has stopped without the consumer's doing from the consumer, which may
    /// wait for an answer.
    pub(crate) fn sever(&self) {
        self.close_gates();
        // What is being served may read what the consumer frees once it is told.
        for queue in &self.shared.receivers.queues {
            queue.pause_serving();
        }
        break_virtqueues(self.pdev.as_ref());
    }

    /// Takes the memory from a device that does not stop or cannot be reached.
    pub(crate) fn cut_off(&self, control: &mut Control) {
        self.sever();
        self.enabled.clear_master();
        if control.phase != Phase::CutOff {
            dev_err!(
                self.pdev,
                "does not stop or answer, cut off from memory until a reset\n"
            );
        }
        control.phase = Phase::CutOff;
        control.demand_reset();
    }

    /// Gives the device up.
    fn lose(&self, control: &mut Control) {
        self.sever();
        self.enabled.clear_master();
        control.phase = Phase::Gone;
        control.demand_reset();
    }

    /// Takes the device from its consumer because somebody else is about to reset the function.
    fn part(&self, control: &Control) {
        if control.phase == Phase::Live {
            self.sever();
        } else {
            self.close_gates();
        }
    }

    /// Takes the hands off the registers, as somebody else is about to reset the function.
    pub(crate) fn detach(&self) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.part(control);
        // A device in the middle of a transfer is better off with a reset that it knows.
        if !control.reachable() || self.shared.transport.reset().is_err() {
            self.enabled.clear_master();
        }
        if control.phase != Phase::Gone {
            control.phase = Phase::Detached;
        }
    }

    /// Like [`detach`](Self::detach), if registers may not work already.
    pub(crate) fn freeze(&self) {
        let mut control = self.shared.control.lock();

        self.part(&control);
        self.enabled.clear_master();
        control.abandoned = false;
        if control.phase != Phase::Gone {
            control.phase = Phase::Detached;
        }
    }

    /// Takes the function back after it was reset, and tells the consumer that it must reset, too.
    pub(crate) fn attach(&self) {
        {
            let mut control = self.shared.control.lock();
            let control = &mut *control;

            if control.phase != Phase::Detached {
                return;
            }
            // The PCI core comes here as well if no reset has succeeded.
            let restored = self.enabled.is_master() || self.enabled.restore().is_ok();
            if !restored || self.shared.transport.reset().is_err() {
                self.cut_off(control);
            } else if self.let_run(control).is_ok() {
                if control.status.is_reset() {
                    control.phase = Phase::Stopped;
                    self.unconfine(control);
                } else {
                    dev_warn!(
                        self.pdev,
                        "was reset, waiting for its consumer to reset it\n"
                    );
                    control.phase = Phase::Lost;
                    control.demand_reset();
                }
            }
        }
        self.shared.receivers.alarm.mark_stale();
        self.shared.receivers.alarm.config.call();
    }

    /// Goes on after an error that left the registers working, and from which the PCI core could not
    /// recover all functions below the port: a driver without handlers is enough for that.
    pub(crate) fn carry_on(&self) {
        dev_warn!(
            self.pdev,
            "an error below its port was not recovered from, goes on\n"
        );
        // It may have been detached for the reset that another function wanted.
        self.attach();
        self.shared.receivers.alarm.mark_stale();
        self.refresh(&mut self.shared.control.lock());
        self.shared.receivers.alarm.config.call();
    }

    /// Goes on without the PCI core, which could not recover from an error that has blocked the
    /// registers: of this function, or only of one that shares its port.
    pub(crate) fn abandon(&self) {
        {
            let mut control = self.shared.control.lock();

            control.abandoned = true;
            if control.phase != Phase::Gone {
                self.cut_off(&mut control);
            }
        }
        self.shared.receivers.alarm.config.call();
    }

    /// Notes that the function has vanished, so that operations return quickly.
    pub(crate) fn vanish(&self) {
        {
            let mut control = self.shared.control.lock();

            self.lose(&mut control);
        }
        self.shared.receivers.alarm.config.call();
    }

    /// Stops the device for good, as the machine goes down.
    pub(crate) fn shut_down(&self) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.close_gates();
        let stopped = control.reachable() && self.quiesce(control).is_ok();
        self.lose(control);
        if stopped && !self.enabled.is_master() {
            dev_info!(self.pdev, "stopped, the machine goes down\n");
        }
    }
}
