// SPDX-License-Identifier: GPL-2.0

//! Nonsense in the rings of a live device: heads, indices, chains and control commands that no
//! driver would make. The sequence depends on the seed alone; how far a device gets with each piece
//! of it does not.
//!
//! Buffers of data queues stay in memory that is mapped, and no table is indirect: what a device that
//! serves such a queue by itself does with others is for its IOMMU, whose messages are nobody's fault.

use std::time::Duration;

use anyhow::{Result, ensure};
use fastrand::Rng;
use nix::sys::eventfd::EfdFlags;
use vmm_sys_util::eventfd::EventFd;

use crate::abuse::works_again;
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::memory;
use vdpa_user::ring::{self, Areas};
use vdpa_user::stage::LEAST;

/// Entries of each queue.
const SIZE: u16 = 64;
/// Receives, transmits, is served by the kernel.
const QUEUES: u16 = 3;
const CONTROL: u16 = 2;
/// The control queue's group and, in half of the rounds, its address space.
const CONTROL_GROUP: u32 = 1;
const CONTROL_SPACE: u32 = 1;
/// Where buffers may be: beyond the rings, with room for the longest.
const BUFFERS: u64 = memory::BASE + memory::SIZE / 2;
const LONGEST: u32 = 0x1_0000;
/// Where nothing is that anybody needs, and how much of that.
const BESIDE: u64 = memory::BASE + 2 * memory::SIZE;
const PAGES: u64 = 64;
const PAGE: u64 = 4096;
/// How far the control queue's addresses are from the others' in an address space of its own.
const SHIFT: u64 = 0x4000_0000;
/// The header and a frame without a segment's room (virtio 1.3, 5.1.6): a network device may give
/// up on less.
const LEAST_LENGTH: u32 = 12 + 1514;
/// Pieces of nonsense between two resets.
const PIECES: u32 = 80;
/// Time that a device has now and then.
const PAUSE: Duration = Duration::from_millis(1);

/// Flags of a descriptor (virtio 1.3, 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// What became of it all.
#[derive(Default)]
struct Tally {
    /// Rounds in which the device was live.
    live: u32,
    /// Rounds that began in the middle of the rings.
    moved: u32,
    /// Control commands that were answered.
    answers: u32,
    /// Rounds in which the device asked for a reset.
    broken: u32,
    /// Stops in the middle of it, and how many succeeded.
    stops: [u32; 2],
}

struct Scribbler {
    device: Device,
    random: Rng,
    kicks: Vec<EventFd>,
    call: EventFd,
    areas: Vec<Areas>,
    /// [`SHIFT`] in a round in which the control queue is in its own address space.
    shift: u64,
    /// Index of each available ring.
    avail: Vec<u16>,
    /// The chance of nonsense in this round is so many times that of the mildest kind; 0 for a round
    /// that makes sense.
    wild: u8,
    tally: Tally,
}

impl Scribbler {
    /// Whether something happens that happens once in `times`, if there is to be any nonsense.
    fn once_in(&mut self, times: u8) -> bool {
        self.random.u8(..times) < self.wild
    }

    /// An index at which rings may begin.
    fn start(&mut self) -> u16 {
        match self.random.u8(..4) {
            0 => 0,
            1 => 0_u16.wrapping_sub(self.random.u16(..80)),
            _ => self.random.u16(..),
        }
    }

    fn bring_up(&mut self, offered: u64) -> Result<()> {
        // All that has commands, but MQ and RSS: the number of the control queue depends on them.
        let wanted = feature::CTRL_VQ
            | feature::CTRL_RX
            | feature::CTRL_RX_EXTRA
            | feature::CTRL_VLAN
            | feature::CTRL_MAC_ADDR
            | feature::CTRL_GUEST_OFFLOADS
            | feature::GUEST_CSUM
            | feature::GUEST_ANNOUNCE
            | feature::HASH_REPORT
            | feature::NOTF_COAL
            | feature::VQ_NOTF_COAL
            | if self.random.bool() {
                feature::EVENT_IDX
            } else {
                0
            };
        self.device.negotiate(LEAST | (wanted & offered))?;
        self.device.memory.clear()?;
        self.shift = if self.random.bool() { SHIFT } else { 0 };
        if self.shift != 0 {
            self.device.set_group_asid(CONTROL_GROUP, CONTROL_SPACE)?;
        }
        self.areas.clear();
        self.avail.clear();
        for index in 0..QUEUES {
            let areas = ring::new(&self.device.memory, SIZE, false, false)?.areas();
            let start = if index == CONTROL { 0 } else { self.start() };
            self.device.memory.store16(areas.driver + 2, start)?;
            self.device.memory.store16(areas.device + 2, start)?;
            let shift = if index == CONTROL { self.shift } else { 0 };
            let shifted = Areas {
                descriptors: areas.descriptors + shift,
                driver: areas.driver + shift,
                device: areas.device + shift,
            };
            self.device.set_queue(index, SIZE, shifted, start.into())?;
            self.device
                .set_kick(index, &self.kicks[usize::from(index)])?;
            // Now and then an interrupt is a kick, of another queue or the same one.
            let other = self.random.usize(..2 * self.kicks.len());
            let call = self.kicks.get(other).unwrap_or(&self.call);
            self.device.set_call(index, call)?;
            self.device.enable(index, true)?;
            self.areas.push(areas);
            self.avail.push(start);
            self.tally.moved += u32::from(start != 0);
            for slot in 0..SIZE {
                self.describe(index, slot)?;
            }
        }
        self.device.add_status(status::DRIVER_OK)
    }

    /// Makes up a descriptor, which is mostly one of a sound chain.
    fn describe(&mut self, queue: u16, slot: u16) -> Result<()> {
        let table = self.areas[usize::from(queue)].descriptors;
        let (mut address, mut length, mut flags, mut next);
        if queue == CONTROL {
            // Three in a row: class and command, data, answer.
            address = BUFFERS + u64::from(slot) * 64;
            (length, flags) = match slot % 3 {
                0 => (2, NEXT),
                1 => (self.random.u32(..12), NEXT),
                _ => (1, WRITE),
            };
            next = slot + 1;
            let command = [self.random.u8(..7), self.random.u8(..4)];
            self.device.memory.write(address, &command)?;
            address += self.shift;
            if self.once_in(8) {
                address = self.random.u64(..);
                flags = self.random.u16(..);
            }
            if self.once_in(16) {
                length = self.random.u32(..);
            }
        } else {
            let room = memory::SIZE / 2 - u64::from(LONGEST);
            address = BUFFERS + self.random.u64(..room);
            length =
                LEAST_LENGTH + (self.random.u32(..LONGEST - LEAST_LENGTH) >> self.random.u8(..16));
            if self.once_in(8) {
                length = self.random.u32(..LEAST_LENGTH);
            }
            flags = if queue == 0 { WRITE } else { 0 };
            next = self.random.u16(..SIZE);
            if self.once_in(8) {
                flags ^= WRITE;
            }
            if self.once_in(6) {
                // As likely as not, a loop.
                flags |= NEXT;
            }
        }
        if self.once_in(32) {
            next = self.random.u16(..);
        }
        let mut bytes = Vec::new();
        bytes.extend(address.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.device
            .memory
            .write(table + 16 * u64::from(slot), &bytes)
    }

    /// Makes some chains available: in a wild round as a driver does that cannot count.
    fn publish(&mut self, queue: u16) -> Result<()> {
        let areas = self.areas[usize::from(queue)];
        // Chains, and descriptors of each.
        let (chains, long) = if queue == CONTROL {
            (SIZE / 3, 3)
        } else {
            (SIZE, 1)
        };
        let mut index = self.avail[usize::from(queue)];
        for _ in 0..=self.random.u16(..8) {
            let out = index.wrapping_sub(self.device.memory.load16(areas.device + 2)?);
            if out >= chains && !self.once_in(8) {
                break;
            }
            let head = if self.once_in(24) {
                self.random.u16(..)
            } else {
                index % chains * long
            };
            let at = areas.driver + 4 + 2 * u64::from(index % SIZE);
            self.device.memory.store16(at, head)?;
            index = index.wrapping_add(1);
        }
        self.avail[usize::from(queue)] = index;
        self.device.memory.store16(areas.driver + 2, index)
    }

    /// One piece of nonsense.
    fn piece(&mut self) -> Result<()> {
        let queue = self.random.u16(..QUEUES);
        let areas = self.areas[usize::from(queue)];
        match self.random.u8(..20) {
            0..=7 => self.publish(queue)?,
            8..=10 => {
                let slot = self.random.u16(..SIZE);
                self.describe(queue, slot)?;
            }
            11 => {
                // Flags, or the event index behind the ring.
                let at = if self.random.bool() {
                    areas.driver
                } else {
                    areas.driver + 4 + 2 * u64::from(SIZE)
                };
                self.device.memory.store16(at, self.random.u16(..))?;
            }
            12 if self.once_in(4) => {
                let index = self.random.u16(..);
                self.avail[usize::from(queue)] = index;
                self.device.memory.store16(areas.driver + 2, index)?;
            }
            // The device's own ring.
            13 if self.once_in(4) => {
                self.device
                    .memory
                    .store16(areas.device + 2, self.random.u16(..))?;
            }
            14 if self.random.u8(..4) == 0 => self.stop(),
            15 if self.once_in(2) => {
                let on = self.random.bool();
                let _ = self.device.enable(queue, on);
            }
            16 => std::thread::sleep(PAUSE),
            17 => self.map_beside(),
            // Its rings are gone for a moment, in which there may be something to do in them.
            18 if self.shift != 0 && self.once_in(4) => {
                let at = memory::BASE + SHIFT;
                self.device.map_again_in(CONTROL_SPACE, at)?;
            }
            _ => {}
        }
        self.kicks[usize::from(queue)].write(1)?;
        Ok(())
    }

    /// Maps something that nobody uses, or takes it away, or a part, or what is not there.
    fn map_beside(&mut self) {
        let first = self.random.u64(..PAGES);
        let size = PAGE * self.random.u64(1..=PAGES - first);
        let at = BESIDE + PAGE * first;
        // It may overlap what is there.
        let _ = if self.random.bool() {
            let host = self.device.memory.host_address();
            host.and_then(|host| self.device.map_at(at, size, host))
        } else {
            self.device.unmap(at, size)
        };
    }

    fn stop(&mut self) {
        let stopped = self.device.suspend().is_ok();
        let [tried, done] = &mut self.tally.stops;
        *tried += 1;
        *done += u32::from(stopped);
        for queue in 0..QUEUES {
            let _ = self.device.base(queue);
        }
        let _ = self.device.resume();
    }

    fn round(&mut self, offered: u64) -> Result<()> {
        self.wild = self.random.u8(..5).saturating_sub(2);
        self.bring_up(offered)?;
        self.tally.live += 1;
        for _ in 0..PIECES {
            self.piece()?;
        }
        std::thread::sleep(PAUSE);
        let shown = self.device.status()?;
        let broken = shown & status::NEEDS_RESET != 0;
        self.tally.broken += u32::from(broken);
        if self.wild == 0 {
            ensure!(!broken, "the device gives up on what makes sense");
            // Nobody but the device has written there.
            let answered = self
                .device
                .memory
                .load16(self.areas[usize::from(CONTROL)].device + 2)?;
            self.tally.answers += u32::from(answered);
        }
        Ok(())
    }
}

/// Lets a device work on nonsense for some `rounds`, and then needs it to work.
pub fn run(report: &mut Report, proof: &Proof, seed: u64, rounds: u32) -> Result<()> {
    let mut device = Device::open(&proof.device)?;
    device.claim()?;
    device.map_in(CONTROL_SPACE, memory::BASE + SHIFT)?;
    let offered = device.features()?;
    let flags = EfdFlags::EFD_NONBLOCK.bits();
    let mut scribbler = Scribbler {
        device,
        random: Rng::with_seed(seed),
        kicks: (0..QUEUES)
            .map(|_| EventFd::new(flags))
            .collect::<Result<_, _>>()?,
        call: EventFd::new(flags)?,
        areas: Vec::new(),
        shift: 0,
        avail: Vec::new(),
        wild: 0,
        tally: Tally::default(),
    };
    for number in 0..rounds {
        let done = scribbler.round(offered);
        if report
            .step(format!("seed {seed}: round {number}"), done)
            .is_none()
        {
            break;
        }
    }
    let Tally {
        live,
        moved,
        answers,
        broken,
        stops: [tried, stopped],
    } = scribbler.tally;
    report.note(format!(
        "{live} rounds live, {moved} queues begun in the middle, {answers} control commands answered, \
         {broken} rounds ended in NEEDS_RESET, {stopped} of {tried} stops succeeded"
    ));
    report.check(
        answers > 0 && broken > 0 && broken < live,
        format!("seed {seed}: some of it is understood, and some is not"),
        format!("{answers} answers, {broken} of {live} broken"),
    );
    let worked = works_again(scribbler.device, proof);
    report.step(format!("seed {seed}: the device works afterwards"), worked);
    Ok(())
}
