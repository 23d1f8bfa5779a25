// SPDX-License-Identifier: GPL-2.0

//! The function: its registers and what follows from them, and what it does wrong.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use vm_memory::GuestAddress;

use crate::interrupts::Interrupts;
use crate::memory::Memory;
use crate::misbehaviour::{Behaviour, Misbehaviour};
use crate::net::Net;
use crate::pci_config::PciConfig;
use crate::registers::{Event, Fixed, NO_VECTOR, Registers, at};
use crate::ring::Ring;
use crate::shape::{CapabilityFault, Shape};
use crate::status::{self, NEEDS_RESET, Terms};
use crate::{feature, layout};

/// What has happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Resets of the function.
    pub flrs: u64,
    /// Frames that were returned.
    pub frames: u64,
    /// Frames that found no buffer.
    pub lost: u64,
    /// Commands of the control queue.
    pub commands: u64,
    /// Writes to where it has no business that came through.
    pub outside_reached: u64,
    /// And those that did not.
    pub outside_refused: u64,
}

/// The function.
pub struct Device {
    pub(crate) shape: Shape,
    pub(crate) pci: PciConfig,
    pub(crate) registers: Registers,
    pub(crate) memory: Memory,
    pub(crate) interrupts: Interrupts,
    pub(crate) behaviour: Behaviour,
    pub(crate) rings: Vec<Option<Ring>>,
    pub(crate) net: Net,
    pub(crate) counts: Counts,
    /// A ring has more than was done in one turn.
    pub(crate) unfinished: bool,
    /// A frame was kept that was to be sent.
    pub(crate) keeps: bool,
    /// The status that is shown until a reset has come to its end.
    pub(crate) late: Option<(Instant, u8)>,
    /// The queues whose reset comes to an end later, and when.
    pub(crate) late_queues: Vec<(u16, Instant)>,
    /// Milliseconds at least until the next interrupts of a storm.
    pub(crate) calm: u64,
    flips: bool,
    /// The configuration was read since its generation was.
    looked_at: bool,
    /// Queues that were enabled when the first command came since the last reset.
    pub(crate) enabled_when_told: Option<usize>,
    /// Where the rings are that it was given last.
    pub(crate) given: Vec<GuestAddress>,
}

impl Device {
    /// Becomes another function, to which nothing has happened: what the emulator has set up stays.
    pub fn take_shape(&mut self, shape: Shape) {
        let mut other = Self::new(shape);
        std::mem::swap(&mut self.memory, &mut other.memory);
        other.memory.forget_refused();
        std::mem::swap(&mut self.interrupts, &mut other.interrupts);
        *self = other;
    }

    /// A function of this shape.
    pub fn new(shape: Shape) -> Self {
        let fixed = Fixed {
            features: shape.features(),
            num_queues: shape.num_queues.unwrap_or(shape.queues()),
            queue_size: shape.queue_size,
            no_queue: shape.no_queue,
            stray_doorbells: shape.capabilities == Some(CapabilityFault::Doorbells),
        };
        Self {
            pci: PciConfig::new(&shape),
            registers: Registers::new(fixed, shape.queues()),
            memory: Memory::new(),
            interrupts: Interrupts::new(),
            behaviour: Behaviour::default(),
            rings: (0..shape.queues()).map(|_| None).collect(),
            net: Net::new(&shape),
            counts: Counts::default(),
            unfinished: false,
            keeps: false,
            late: None,
            late_queues: Vec::new(),
            calm: 0,
            flips: false,
            looked_at: false,
            enabled_when_told: None,
            given: Vec::new(),
            shape,
        }
    }

    // ---- what the driver does ------------------------------------------------

    /// A read of the configuration space.
    pub fn read_pci(&self, offset: u64, data: &mut [u8]) {
        if self.behaviour.does(Misbehaviour::AllOnes) {
            return data.fill(0xff);
        }
        self.pci.read(offset, data);
    }

    /// A write to the configuration space.
    pub fn write_pci(&mut self, offset: u64, data: &[u8]) {
        if !self.behaviour.does(Misbehaviour::AllOnes) && self.pci.write(offset, data) {
            self.counts.flrs += 1;
            self.reset_function();
        }
    }

    /// Whether reads of BARs find nobody.
    fn is_silent(&self) -> bool {
        !self.pci.has_memory()
            || self.behaviour.does(Misbehaviour::AllOnes)
            || self.behaviour.does(Misbehaviour::DeadRegisters)
    }

    /// A read of the registers.
    pub fn read_registers(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if self.is_silent() {
            return data.fill(0xff);
        }
        let Some((window, offset)) = window(offset) else {
            return;
        };
        match window {
            layout::COMMON => {
                self.end_queue_resets();
                let covers = |at: u64| (offset..offset + data.len() as u64).contains(&at);
                if covers(at::GENERATION) {
                    self.change_generation();
                }
                let status = if covers(at::STATUS) {
                    self.shown_status()
                } else {
                    0
                };
                self.registers.read(offset, data, status);
            }
            layout::DEVICE => {
                self.looked_at = true;
                self.net.read(offset, data);
            }
            _ => {}
        }
    }

    /// A write to the registers.
    pub fn write_registers(&mut self, offset: u64, data: &[u8]) {
        if self.is_silent() {
            return;
        }
        match window(offset) {
            Some((layout::COMMON, offset)) => {
                if let Some(event) = self.registers.write(offset, data) {
                    self.handle(event);
                }
            }
            Some((layout::NOTIFY, offset)) => {
                let stride = u64::from(layout::doorbell_stride(&self.shape));
                self.kick(u16::try_from(offset / stride).unwrap_or(u16::MAX));
            }
            _ => {}
        }
    }

    /// Before the generation is read: what changes then.
    fn change_generation(&mut self) {
        // Whoever reads it before and after the configuration finds the same, and the next time
        // another one.
        let is_first = !std::mem::take(&mut self.looked_at);
        let restless = is_first && self.behaviour.does(Misbehaviour::RestlessConfiguration);
        if restless || self.behaviour.does(Misbehaviour::UnsettledGeneration) {
            self.registers.generation = self.registers.generation.wrapping_add(1);
        }
        if restless {
            self.net.change_link();
            self.config_changed();
        }
    }

    /// Before a register is read: ends what has taken long enough.
    fn end_queue_resets(&mut self) {
        let now = Instant::now();
        let (ended, late) = self.late_queues.iter().partition(|(_, end)| *end <= now);
        self.late_queues = late;
        let ended: Vec<(u16, Instant)> = ended;
        ended.iter().for_each(|(queue, _)| self.reset_queue(*queue));
    }

    fn shown_status(&mut self) -> u8 {
        if let Some((end, status)) = self.late {
            if Instant::now() < end {
                return status;
            }
            self.late = None;
        }
        let status = self.registers.status;
        self.flips = !self.flips && self.behaviour.does(Misbehaviour::StatusFlips);
        if self.flips {
            status ^ status::DRIVER_OK
        } else {
            status
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Status(0) => self.ask_for_reset(),
            Event::Status(value) => {
                let features = self.registers.driver_features;
                let terms = Terms {
                    acceptable: self.shape.accepts(features),
                    suspendable: (features >> feature::SUSPEND) & 1 == 1,
                };
                let old = self.registers.status;
                self.registers.status = status::written(old, value, &terms, &self.behaviour);
                if self.registers.status & !old & NEEDS_RESET != 0 {
                    self.config_changed();
                }
                self.work_on_all();
            }
            Event::Enable(queue) => self.enable(queue),
            Event::Reset(queue) => {
                let late = self.behaviour.argument(Misbehaviour::LateQueueReset);
                if let Some(delay) = late {
                    let end = Instant::now() + Duration::from_millis(delay);
                    self.late_queues.push((queue, end));
                }
                if late.is_some() || self.behaviour.does(Misbehaviour::NeverQueueReset) {
                    if let Some(registers) = self.registers.queues.get_mut(usize::from(queue)) {
                        registers.resetting = true;
                    }
                } else {
                    self.reset_queue(queue);
                }
            }
            Event::ConfigVector(vector) => self.registers.config_vector = self.vector(vector),
            Event::QueueVector(queue, vector) => {
                let vector = self.vector(vector);
                if let Some(registers) = self.registers.queues.get_mut(usize::from(queue)) {
                    registers.vector = vector;
                }
            }
        }
    }

    /// The vector that a driver gets when it asks for one.
    fn vector(&self, wanted: u16) -> u16 {
        if wanted < self.shape.vectors() && !self.behaviour.does(Misbehaviour::RefuseVectors) {
            wanted
        } else {
            NO_VECTOR
        }
    }

    fn enable(&mut self, queue: u16) {
        let features = self.registers.driver_features;
        let Some(registers) = self.registers.queues.get_mut(usize::from(queue)) else {
            return;
        };
        if self.behaviour.does(Misbehaviour::RefuseQueues) {
            return;
        }
        registers.enabled = true;
        self.given.push(GuestAddress(registers.device));
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            *ring = Ring::new(registers, features);
        }
        self.kick(queue);
    }

    // ---- resets --------------------------------------------------------------

    fn ask_for_reset(&mut self) {
        let old = self.registers.status;
        if old != 0 && self.behaviour.does(Misbehaviour::NeverReset) {
            return;
        }
        if let (Some(delay), 1..) = (self.behaviour.argument(Misbehaviour::LateReset), old) {
            self.late = Some((Instant::now() + Duration::from_millis(delay), old));
        }
        self.reset_device();
    }

    pub(crate) fn reset_device(&mut self) {
        if self.registers.status & status::DRIVER_OK != 0 {
            let given = self.registers.queues.iter().filter(|queue| queue.enabled);
            self.given = given.map(|queue| GuestAddress(queue.device)).collect();
        }
        self.registers.reset();
        self.late_queues.clear();
        self.rings.iter_mut().for_each(|ring| *ring = None);
        self.net = Net::new(&self.shape);
        self.enabled_when_told = None;
        self.unfinished = false;
        self.keeps = false;
    }

    pub(crate) fn reset_queue(&mut self, queue: u16) {
        self.keeps = false;
        self.registers.reset_queue(queue);
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            *ring = None;
        }
    }

    /// Resets the function.
    pub fn reset_function(&mut self) {
        self.pci.reset();
        if !self.behaviour.does(Misbehaviour::IgnoreFlr) {
            self.late = None;
            self.reset_device();
        }
    }

    /// Tells of a change of the configuration, or of the status.
    pub(crate) fn config_changed(&mut self) {
        self.interrupts.send(self.registers.config_vector);
    }

    /// What there is to say about it, in one line.
    pub fn state(&self) -> Result<String> {
        #[derive(Serialize)]
        struct State<'a> {
            status: u8,
            master: bool,
            refused: u64,
            #[serde(flatten)]
            counts: &'a Counts,
            misbehaves: Vec<String>,
            /// Commands since the last reset.
            told: &'a [String],
            enabled_when_told: Option<usize>,
        }
        Ok(serde_json::to_string(&State {
            status: self.registers.status,
            master: self.pci.is_master(),
            refused: self.memory.refused(),
            counts: &self.counts,
            misbehaves: self.behaviour.names(),
            told: self.net.told(),
            enabled_when_told: self.enabled_when_told,
        })?)
    }
}

/// The structure at an offset in the BAR of the registers, and the offset in it.
fn window(offset: u64) -> Option<(u32, u64)> {
    let windows = [layout::NOTIFY, layout::DEVICE, layout::ISR, layout::COMMON];
    let start = windows
        .into_iter()
        .find(|start| offset >= u64::from(*start))?;
    Some((start, offset - u64::from(start)))
}
