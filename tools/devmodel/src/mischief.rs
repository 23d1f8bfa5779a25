// SPDX-License-Identifier: GPL-2.0

//! What the function does wrong by itself, and how it behaves again.

use anyhow::Result;
use vm_memory::{Bytes, GuestAddress};

use crate::device::Device;
use crate::misbehaviour::Misbehaviour;
use crate::status::NEEDS_RESET;

/// Where nobody maps anything.
const NOWHERE: GuestAddress = GuestAddress(0xdead_0000_0000);

impl Device {
    /// Takes up a misbehaviour.
    pub fn misbehave(&mut self, words: &[&str]) -> Result<()> {
        let how = self.behaviour.take_up(words)?;
        match how {
            Misbehaviour::Forget => self.reset_device(),
            Misbehaviour::ForgetAll => self.reset_function(),
            Misbehaviour::NeedsReset => self.registers.status |= NEEDS_RESET,
            Misbehaviour::SpuriousInterrupt => self.interrupts.send_all(self.shape.vectors()),
            Misbehaviour::DmaOutside => self.write_outside(),
            // Whatever of it can be told is told.
            Misbehaviour::StatusFlips
            | Misbehaviour::UnsettledGeneration
            | Misbehaviour::RestlessConfiguration
            | Misbehaviour::AllOnes
            | Misbehaviour::DeadRegisters => {
                self.config_changed();
                return Ok(());
            }
            _ => return Ok(()),
        }
        if how == Misbehaviour::NeedsReset {
            self.config_changed();
        }
        self.behaviour.drop(how);
        Ok(())
    }

    /// Behaves again. What was pulled out has been without power.
    pub fn behave(&mut self) {
        let cold = self.behaviour.does(Misbehaviour::AllOnes);
        self.behaviour.behave();
        self.late = None;
        self.late_queues.clear();
        if cold {
            self.reset_function();
        }
        for queue in 0..self.shape.queues() {
            let registers = self.registers.queues.get(usize::from(queue));
            if registers.is_some_and(|registers| registers.resetting) {
                self.reset_queue(queue);
            }
        }
        self.work_on_all();
    }

    fn write_outside(&mut self) {
        let places = self.given.iter().chain([&NOWHERE]);
        let (mut reached, mut refused) = (0, 0);
        for place in places {
            let done = self.is_master()
                && self
                    .memory
                    .reach()
                    .write_obj(0x5a5a_5a5a_u32, *place)
                    .is_ok();
            if done { reached += 1 } else { refused += 1 }
        }
        self.counts.outside_reached += reached;
        self.counts.outside_refused += refused;
    }

    /// Does what has to be done again and again. Returns whether that is much: then it is to be called
    /// again after a millisecond or more.
    pub fn tick(&mut self) -> bool {
        if std::mem::take(&mut self.unfinished) {
            self.work_on_all();
        }
        let storm = self.behaviour.argument(Misbehaviour::InterruptStorm);
        if let Some(apart) = storm {
            self.calm = self.calm.saturating_sub(1);
            if self.calm == 0 {
                self.calm = apart;
                self.interrupts.send_all(self.shape.vectors());
            }
        }
        storm.is_some() || self.unfinished
    }
}
