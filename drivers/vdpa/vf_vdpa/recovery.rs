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
use virtio::status::Status;

impl Function<'_> {
    /// Resets the device for the consumer. Idempotent.
    ///
    /// When this returns, the device reaches no memory, no interrupt handler runs, and nothing of
    /// what the consumer had set is left.
    ///
    /// # Errors
    ///
    /// `EIO` if the device cannot be used any more. It was cut off from memory all the same.
    pub(crate) fn reset(&self) -> Result {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.close_gates();
        control.forget();
        if control.reachable() {
            self.quiesce(control);
            if control.reachable() {
                control.phase = Phase::Stopped;
            }
        }
        self.interrupts.synchronize();
        self.shared.receivers.mark_stale();

        match control.phase {
            Phase::Gone if !vdpa::pci::is_offline(self.pdev) => Err(EIO),
            _ => Ok(()),
        }
    }

    /// Makes the device stop, by whatever it takes.
    pub(crate) fn quiesce(&self, control: &mut Control) {
        if vdpa::pci::is_offline(self.pdev) {
            return self.lose_for_good(control);
        }
        if !self.enabled.is_master() {
            dev_warn!(
                self.pdev,
                "was reset behind our back, restoring its configuration\n"
            );
            if self.enabled.restore().is_err() {
                return self.lose_for_good(control);
            }
        }
        let Err(error) = self.transport.reset() else {
            return;
        };

        dev_warn!(
            self.pdev,
            "does not finish its reset (error {}), resetting the function\n",
            error.to_errno()
        );
        let result = self
            .enabled
            .function_level_reset()
            .and_then(|()| self.transport.reset());
        if let Err(error) = result {
            dev_err!(
                self.pdev,
                "does not come back from a reset (error {}), giving it up\n",
                error.to_errno()
            );
            self.lose_for_good(control);
        }
    }

    /// Gives the device up: it is removed, or cannot be made to stop.
    pub(crate) fn lose_for_good(&self, control: &mut Control) {
        self.close_gates();
        self.enabled.clear_master();
        control.phase = Phase::Gone;
        if !control.status.is_reset() {
            control.status = control.status.union(Status::NEEDS_RESET);
        }
    }

    /// Takes the hands off the registers, as somebody else is about to reset the function.
    pub(crate) fn detach(&self) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.close_gates();
        if control.reachable() {
            // A device in the middle of a transfer is better off with a reset that it knows.
            let _ = self.transport.reset();
            control.phase = Phase::Detached;
        }
    }

    /// Like [`detach`](Self::detach), if registers do not work already.
    pub(crate) fn freeze(&self) {
        let mut control = self.shared.control.lock();

        self.close_gates();
        if control.phase != Phase::Gone {
            control.phase = Phase::Detached;
        }
    }

    /// Takes the function back after it was reset, and tells the consumer that it must reset, too.
    pub(crate) fn attach(&self) {
        {
            let mut control = self.shared.control.lock();

            if control.phase != Phase::Detached {
                return;
            }
            // The PCI core has consumed what was saved.
            if let Err(error) = self.enabled.save() {
                dev_err!(
                    self.pdev,
                    "cannot save its state (error {})\n",
                    error.to_errno()
                );
            }
            if control.status.is_reset() {
                control.phase = Phase::Stopped;
            } else {
                dev_warn!(
                    self.pdev,
                    "was reset, waiting for its consumer to reset it\n"
                );
                control.phase = Phase::Lost;
                control.status = control.status.union(Status::NEEDS_RESET);
            }
        }
        self.shared.receivers.mark_stale();
        self.shared.receivers.config.call();
    }

    /// Notes that the function has vanished, so that operations return quickly.
    pub(crate) fn vanish(&self) {
        {
            let mut control = self.shared.control.lock();

            self.lose_for_good(&mut control);
        }
        self.shared.receivers.config.call();
    }

    /// Stops the device for good, as the machine goes down.
    pub(crate) fn shut_down(&self) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        self.close_gates();
        if control.reachable() {
            self.quiesce(control);
        }
        self.lose_for_good(control);
    }
}
