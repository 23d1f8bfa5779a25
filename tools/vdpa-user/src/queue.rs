// SPDX-License-Identifier: GPL-2.0

//! A virtqueue in use, with its buffers, events and doorbell.

use anyhow::{Context, Result};
use nix::sys::eventfd::EfdFlags;
use vmm_sys_util::eventfd::EventFd;

use crate::device::{Device, feature};
use crate::doorbell::{Doorbell, Page};
use crate::port::Setup;
use crate::ring::{self, Areas, Ring};

/// Bytes of one buffer: header and the longest frame fit.
pub const BUFFER: u32 = 2048;

/// A virtqueue in use.
pub struct Queue {
    /// Its number in the device.
    pub index: u16,
    /// The driver side of the ring.
    pub ring: Box<dyn Ring>,
    /// Announces completions.
    pub call: EventFd,
    /// How often it did.
    pub interrupts: u64,
    /// Its entries.
    pub size: u16,
    doorbell: Doorbell,
    /// How far its addresses in the device are from those in the memory.
    pub shift: u64,
    /// Addresses of the buffers, by token.
    slots: Vec<u64>,
    /// Tokens of the buffers that are free.
    pub idle: Vec<u32>,
}

impl Queue {
    /// Configures queue `index` of a device that has negotiated `features`; its addresses in the device
    /// are `shift` above those in the memory.
    pub fn new(
        device: &Device,
        index: u16,
        setup: Setup,
        features: u64,
        shift: u64,
    ) -> Result<Self> {
        let limit = device.queue_size(index.into()).unwrap_or(256);
        let size = setup.size.min(u16::try_from(limit).unwrap_or(u16::MAX));
        let packed = features & feature::RING_PACKED != 0;
        let event_index = features & feature::EVENT_IDX != 0;
        let mut ring = ring::new(&device.memory, size, packed, event_index)?;
        ring.begin_at(setup.start)?;
        let flags = EfdFlags::EFD_NONBLOCK.bits();
        let call = EventFd::new(flags)?;
        let areas = ring.areas();
        let shifted = Areas {
            descriptors: areas.descriptors + shift,
            driver: areas.driver + shift,
            device: areas.device + shift,
        };
        device.set_queue(index, size, shifted, ring.base()?)?;
        device.set_call(index, &call)?;
        let doorbell = if setup.doorbell {
            let page = Page::map(device, index)
                .with_context(|| format!("cannot map the doorbell of queue {index}"))?;
            Doorbell::Page(page)
        } else {
            let kick = EventFd::new(flags)?;
            device.set_kick(index, &kick)?;
            Doorbell::Event(kick)
        };
        let slots = (0..size)
            .map(|_| device.memory.allocate(BUFFER.into(), 64))
            .collect::<Result<_>>()?;
        Ok(Self {
            index,
            ring,
            call,
            interrupts: 0,
            size,
            doorbell,
            shift,
            slots,
            idle: (0..size.into()).rev().collect(),
        })
    }

    /// Configures the queue once more, after a reset; it is to go on at `base`.
    pub fn configure(&self, device: &Device, base: u32) -> Result<()> {
        let areas = self.ring.areas();
        let shifted = Areas {
            descriptors: areas.descriptors + self.shift,
            driver: areas.driver + self.shift,
            device: areas.device + self.shift,
        };
        device.set_queue(self.index, self.size, shifted, base)?;
        device.set_call(self.index, &self.call)?;
        match &self.doorbell {
            Doorbell::Event(kick) => device.set_kick(self.index, kick),
            Doorbell::Page(_) => Ok(()),
        }
    }

    /// Takes the announcement of completions, if there is one.
    pub fn interrupted(&mut self) -> bool {
        match self.call.read() {
            Ok(count) => {
                self.interrupts += count;
                true
            }
            Err(_) => false,
        }
    }

    /// Shows the device what was added and rings the doorbell if it wants that.
    pub fn publish(&mut self) -> Result<()> {
        if self.ring.publish()? {
            self.doorbell.ring(self.index)?;
        }
        Ok(())
    }

    /// Rings the doorbell although nothing is new.
    pub fn ring_doorbell(&self) -> Result<()> {
        self.doorbell.ring(self.index)
    }

    /// The address of a buffer.
    pub fn slot(&self, token: u32) -> Result<u64> {
        usize::try_from(token)
            .ok()
            .and_then(|token| self.slots.get(token).copied())
            .with_context(|| format!("no buffer {token}"))
    }
}
