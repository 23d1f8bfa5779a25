// SPDX-License-Identifier: GPL-2.0

//! Random requests. The sequence depends on the seed alone, so a failure can be repeated.
//!
//! Two things are left out because they end in messages of the kernel that are nobody's fault:
//! rings outside of mapped memory (IOMMU faults; see `unmapped`) and mappings without any
//! permission (a warning in the kernel's own vhost-vdpa).

use anyhow::{Context, Result};
use fastrand::Rng;
use nix::sys::eventfd::EfdFlags;
use vmm_sys_util::eventfd::EventFd;

use crate::abuse::works_again;
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::doorbell::Page;
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::memory;
use vdpa_user::ring;

/// Device and events, and the source of chance.
struct Fuzzer {
    device: Device,
    random: Rng,
    kicks: Vec<EventFd>,
    calls: Vec<EventFd>,
    offered: u64,
    queues: u32,
}

impl Fuzzer {
    /// Mostly a queue that exists.
    fn queue(&mut self) -> u32 {
        match self.random.u8(..20) {
            0 => self.random.u32(..),
            1 => self.queues,
            _ => self.random.u32(..self.queues.max(1)),
        }
    }

    /// Mostly aligned, always inside the memory with room for the largest ring.
    fn address(&mut self) -> u64 {
        let room = memory::SIZE - 0x20_0000;
        let at = self.random.u64(..room);
        let aligned = if self.random.u8(..8) == 0 {
            at
        } else {
            at & !0xfff
        };
        memory::BASE + aligned
    }

    fn features(&mut self) -> u64 {
        let least = vdpa_user::stage::LEAST;
        match self.random.u8(..6) {
            0 => self.random.u64(..),
            1 => 0,
            2 => self.offered,
            3 => self.random.u64(..) & self.offered,
            _ => least | (self.random.u64(..) & self.offered),
        }
    }

    fn size(&mut self) -> u32 {
        match self.random.u8(..6) {
            0 => self.random.u32(..),
            1 => 0,
            _ => 1 << self.random.u32(..10),
        }
    }

    fn event(&mut self, call: bool) -> u32 {
        use std::os::fd::AsRawFd;
        // Now and then an interrupt of one queue kicks another, or one kick all of them.
        let other = self.random.u8(..8) == 0;
        let events = if call != other {
            &self.calls
        } else {
            &self.kicks
        };
        let chosen = self.random.choice(events).map(AsRawFd::as_raw_fd);
        match self.random.u8(..10) {
            0 => u32::MAX,
            1 => self.random.u32(..),
            _ => chosen
                .and_then(|fd| u32::try_from(fd).ok())
                .unwrap_or(u32::MAX),
        }
    }

    /// Brings two queues up as a driver would: chance alone rarely gets that far.
    fn bring_up(&mut self) -> Result<()> {
        let none = feature::MQ | feature::CTRL_VQ | feature::RING_PACKED;
        let features = vdpa_user::stage::LEAST | (self.random.u64(..) & self.offered & !none);
        self.device.negotiate(features)?;
        self.device.memory.clear()?;
        for index in 0..2 {
            let ring = ring::new(&self.device.memory, 64, false, false)?;
            self.device.set_queue(index, 64, ring.areas(), 0)?;
            if let Some(call) = self.random.choice(&self.calls) {
                self.device.set_call(index, call)?;
            }
            if let Some(kick) = self.random.choice(&self.kicks) {
                self.device.set_kick(index, kick)?;
            }
            self.device.enable(index, true)?;
        }
        self.device.add_status(status::DRIVER_OK)
    }

    /// One request; whether it is refused does not matter here.
    fn step(&mut self) -> String {
        if self.random.u8(..60) == 0 {
            return format!("bring up: {:?}", self.bring_up());
        }
        let queue = self.queue();
        let (request, mut argument) = match self.random.u8(..22) {
            0 | 1 => {
                let num = self.size();
                (ioctl::VHOST_SET_VRING_NUM(), Argument::words(&[queue, num]))
            }
            2..=4 => {
                let (desc, used, avail) = (self.address(), self.address(), self.address());
                let flags = if self.random.u8(..10) == 0 {
                    self.random.u32(..)
                } else {
                    0
                };
                let argument = Argument::addresses(queue, flags, desc, used, avail);
                (ioctl::VHOST_SET_VRING_ADDR(), argument)
            }
            5 => {
                let base = if self.random.bool() {
                    0
                } else {
                    self.random.u32(..)
                };
                (
                    ioctl::VHOST_SET_VRING_BASE(),
                    Argument::words(&[queue, base]),
                )
            }
            6 => (ioctl::VHOST_GET_VRING_BASE(), Argument::words(&[queue])),
            7 | 8 => {
                let on = self.random.u32(..3);
                (
                    ioctl::VHOST_VDPA_SET_VRING_ENABLE(),
                    Argument::words(&[queue, on]),
                )
            }
            9 => {
                let event = self.event(false);
                (
                    ioctl::VHOST_SET_VRING_KICK(),
                    Argument::words(&[queue, event]),
                )
            }
            10 => {
                let event = self.event(true);
                (
                    ioctl::VHOST_SET_VRING_CALL(),
                    Argument::words(&[queue, event]),
                )
            }
            11 => {
                let event = self.event(true);
                (
                    ioctl::VHOST_VDPA_SET_CONFIG_CALL(),
                    Argument::words(&[event]),
                )
            }
            12 => (ioctl::VHOST_SET_FEATURES(), Argument::long(self.features())),
            13..=15 => {
                let now = self.device.status().unwrap_or(0);
                let value = match self.random.u8(..8) {
                    0 => self.random.u8(..),
                    1 => 0,
                    2 => now | status::ACKNOWLEDGE | status::DRIVER,
                    3 | 4 => now | status::FEATURES_OK,
                    5 | 6 => now | status::DRIVER_OK,
                    _ => now | (1 << self.random.u8(..8)),
                };
                (ioctl::VHOST_VDPA_SET_STATUS(), Argument::bytes(&[value]))
            }
            16 => {
                let (offset, length) = (self.random.u32(..40), self.random.u32(..40));
                (
                    ioctl::VHOST_VDPA_GET_CONFIG(),
                    Argument::words(&[offset, length]),
                )
            }
            17 => {
                let (offset, length) = (self.random.u32(..40), self.random.u32(..40));
                (
                    ioctl::VHOST_VDPA_SET_CONFIG(),
                    Argument::words(&[offset, length, self.random.u32(..)]),
                )
            }
            18 => {
                let num = self.random.u32(..3);
                (
                    ioctl::VHOST_VDPA_SET_GROUP_ASID(),
                    Argument::words(&[queue, num]),
                )
            }
            19 => {
                let request = *self
                    .random
                    .choice(&[
                        ioctl::VHOST_VDPA_GET_VRING_SIZE(),
                        ioctl::VHOST_VDPA_GET_VRING_GROUP(),
                        ioctl::VHOST_VDPA_SUSPEND(),
                        ioctl::VHOST_VDPA_RESUME(),
                        ioctl::VHOST_GET_FEATURES(),
                        ioctl::VHOST_VDPA_GET_STATUS(),
                    ])
                    .unwrap_or(&ioctl::NOT_A_REQUEST());
                (request, Argument::words(&[queue]))
            }
            20 => {
                for kick in &self.kicks {
                    let _ = kick.write(1);
                }
                return "kicks".into();
            }
            _ => {
                let index = u16::try_from(queue & 0xff).unwrap_or(0);
                if let Ok(page) = Page::map(&self.device, index) {
                    page.ring(self.random.u16(..));
                }
                return format!("doorbell {index}");
            }
        };
        let words = [argument.word(0), argument.word(1)];
        let result = ioctl::send(&self.device, request, &mut argument);
        format!(
            "request {:#x} {words:x?}: {result:?}",
            ioctl::number(request)
        )
    }
}

/// Sends `count` random requests and then needs the device to work.
pub fn run(report: &mut Report, proof: &Proof, seed: u64, count: u32) -> Result<()> {
    let mut device = Device::open(&proof.device)?;
    device.claim()?;
    let flags = EfdFlags::EFD_NONBLOCK.bits();
    let events = || {
        (0..4)
            .map(|_| EventFd::new(flags))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut fuzzer = Fuzzer {
        offered: device.features()?,
        queues: device.queue_count()?,
        device,
        random: Rng::with_seed(seed),
        kicks: events()?,
        calls: events()?,
    };
    let mut live = 0;
    let mut last = Vec::new();
    for number in 0..count {
        let did = fuzzer.step();
        last.push(did);
        if last.len() > 20 {
            last.remove(0);
        }
        let shown = fuzzer
            .device
            .status()
            .with_context(|| format!("after request {number}"))?;
        live += u32::from(shown & status::DRIVER_OK != 0);
        let running = status::FEATURES_OK | status::DRIVER_OK;
        if shown & status::DRIVER_OK != 0 && shown & running != running {
            report.fail(
                format!("seed {seed}: DRIVER_OK comes with FEATURES_OK"),
                format!("status {shown:#x} after request {number}: {last:?}"),
            );
            break;
        }
        // Garbage a ring left behind must not become an address for the next one.
        if shown == 0 && fuzzer.random.u8(..4) == 0 {
            fuzzer.device.memory.clear()?;
        }
    }
    report.check(
        live > 0,
        format!("seed {seed}: {count} requests, some of them with the device live"),
        "the device was never live: the sequence proves nothing",
    );
    let worked = works_again(fuzzer.device, proof);
    report.step(format!("seed {seed}: the device works afterwards"), worked);
    Ok(())
}
