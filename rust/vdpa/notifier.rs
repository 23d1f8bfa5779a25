// SPDX-License-Identifier: GPL-2.0

//! The doorbells of a function.

use super::registers::Registers;
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use virtio::{
    capability::Window,
    notify::Doorbell, //
};

/// The doorbells of a function. They can be rung in any context, also when the function is not bound
/// any more: nothing happens then.
pub struct Notifier {
    registers: Registers,
    /// Where the window begins in its BAR.
    start: u32,
}

impl Notifier {
    /// Maps a notification window, which was checked against its BAR.
    pub(crate) fn new(pdev: &pci::Device<Bound>, window: &Window) -> Result<Self> {
        Ok(Self {
            registers: Registers::new(pdev, window)?,
            start: window.offset(),
        })
    }

    /// Notifies the device of available buffers, which were written to memory before.
    pub fn ring(&self, doorbell: Doorbell) {
        if let Some(offset) = doorbell.offset.checked_sub(self.start) {
            self.registers.write16(offset, doorbell.index);
        }
    }
}
