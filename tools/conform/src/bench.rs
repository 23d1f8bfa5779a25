// SPDX-License-Identifier: GPL-2.0

//! A device at work: a queue of it gets requests that harm nobody, and gives them back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vdpa_user::device::{Device, feature, status};
use vdpa_user::frame;
use vdpa_user::port::Setup;
use vdpa_user::queue::{BUFFER, Queue};
use vdpa_user::ring::{Buffer, Used};
use vdpa_user::stage::LEAST;
use vdpa_user::wait;

use crate::case::{IOTLB_PERSIST, Target};

pub use crate::class::{Class, Undrivable};

/// How long a device that is to do nothing is watched.
pub const WATCHED: Duration = Duration::from_millis(200);
/// How long one that is to do something may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Offsets in a buffer: of data, and of the status behind it (virtio 1.3, 5.2.6).
const DATA: u64 = 64;
const STATUS: u64 = 1024;
/// Whom frames come from, and whom they are for: nobody.
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The shortest frame, with its header.
fn plain() -> Vec<u8> {
    let mut frame = vec![0; frame::HEADER];
    frame.extend(TO);
    frame.extend(FROM);
    // An EtherType for experiments (IEEE 802).
    frame.extend([0x88, 0xb5]);
    frame.resize(frame::HEADER + 60, 0);
    frame
}

/// Bytes of a sector.
const SECTOR: u32 = 512;

/// The number of frames that this process has made.
static FRAMES: AtomicU32 = AtomicU32::new(0);

/// What tells the frames of this process from others'.
fn run() -> u16 {
    let [low, high, ..] = std::process::id().to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// A device that runs.
pub struct Live {
    /// The device.
    pub device: Device,
    /// Its queues: those that the class cannot do without.
    pub queues: Vec<Queue>,
    /// Its features.
    pub features: u64,
    class: Class,
    worker: usize,
    /// Whether frames are short and all the same: for a case that takes a great many.
    pub plain: bool,
    /// Bytes of the requests that were made available, as the device reads them.
    pub bytes: u64,
    /// The numbers of the frames of this process that have come back.
    arrived: HashSet<u32>,
}

/// The features that `setup` needs.
pub fn features(setup: Setup) -> u64 {
    let mut features = LEAST;
    if setup.packed {
        features |= feature::RING_PACKED;
    }
    if setup.event_index {
        features |= feature::EVENT_IDX;
    }
    features
}

/// Resets the device, negotiates, and lets it reach memory as before.
fn negotiate(device: &Device, features: u64) -> Result<()> {
    device.negotiate(features)?;
    if device.backend_features()? & IOTLB_PERSIST == 0 {
        // The reset may have taken the mappings away.
        let _ = device.unmap_all();
        device.map_all()?;
    }
    Ok(())
}

impl Live {
    /// Opens a device and brings it up.
    pub fn open(target: &Target) -> Result<Self> {
        Self::start(target.claim()?, Setup::default())
    }

    /// Brings up a device that is open and owned, from whatever state it is in.
    pub fn start(device: Device, setup: Setup) -> Result<Self> {
        let live = Self::prepare(device, setup)?;
        if !setup.late {
            live.enable_all(true)?;
        }
        live.device.add_status(status::DRIVER_OK)?;
        if setup.late {
            live.enable_all(true)?;
        }
        Ok(live)
    }

    /// Negotiates and describes the queues, all but enabling them.
    pub fn prepare(device: Device, setup: Setup) -> Result<Self> {
        device.memory.clear()?;
        Self::describe(device, setup)
    }

    /// Brings the device up once more, with other rings and buffers: those that it had stay as it left
    /// them.
    pub fn beside(self, setup: Setup) -> Result<Self> {
        let mut next = Self::describe(self.device, setup)?;
        next.arrived = self.arrived;
        next.enable_all(true)?;
        next.device.add_status(status::DRIVER_OK)?;
        Ok(next)
    }

    /// Negotiates, and describes queues in memory that was not handed out yet.
    fn describe(device: Device, setup: Setup) -> Result<Self> {
        let class = Class::of(&device)?;
        let worker = class.worker().ok_or(Undrivable)?;
        let features = features(setup);
        negotiate(&device, features)?;
        let mut queues = (0..class.least_queues())
            .map(|index| Queue::new(&device, index, setup, features, 0))
            .collect::<Result<Vec<_>>>()?;
        if let Some(queue) = queues.get_mut(usize::from(worker)) {
            // A request takes so many descriptors.
            queue.idle.truncate(queue.idle.len() / class.descriptors());
        }
        Ok(Self {
            device,
            queues,
            features,
            class,
            worker: usize::from(worker),
            plain: false,
            bytes: 0,
            arrived: HashSet::new(),
        })
    }

    /// Enables or disables all queues.
    pub fn enable_all(&self, on: bool) -> Result<()> {
        self.queues
            .iter()
            .try_for_each(|queue| self.device.enable(queue.index, on))
    }

    /// The queue that gets requests.
    pub fn worker(&mut self) -> Result<&mut Queue> {
        self.queues.get_mut(self.worker).context("no such queue")
    }

    /// Gives the device buffers for the frames that somebody sends: it may do nothing else before it
    /// has a place for them.
    fn feed(&mut self) -> Result<()> {
        if self.class != Class::Net {
            return Ok(());
        }
        self.receive()?;
        let receive = self.queues.first_mut().context("no such queue")?;
        while let Some(token) = receive.idle.pop() {
            let buffer = Buffer {
                address: receive.slot(token)?,
                length: BUFFER,
                writable: true,
            };
            receive.ring.add(&[buffer], token)?;
        }
        receive.publish()
    }

    /// Takes the frames that have arrived. A device that hands on what is sent may send it back: each
    /// frame once.
    fn receive(&mut self) -> Result<()> {
        let memory = self.device.memory.clone();
        let receive = self.queues.first_mut().context("no such queue")?;
        while let Some(Used { token, written }) = receive.ring.take()? {
            ensure!(written <= BUFFER, "{written} bytes in a buffer of {BUFFER}");
            let mut bytes = vec![0; usize::try_from(written)?];
            memory.read(receive.slot(token)?, &mut bytes)?;
            receive.idle.push(token);
            if let Some(tag) = frame::check(&bytes)?.filter(|tag| tag.run == run()) {
                let first = self.arrived.insert(tag.number);
                ensure!(first, "frame {} has arrived twice", tag.number);
            }
        }
        Ok(())
    }

    /// Makes `count` requests available, and tells the device.
    pub fn offer(&mut self, count: u32) -> Result<()> {
        self.feed()?;
        for _ in 0..count {
            self.request()?;
        }
        self.worker()?.publish()
    }

    /// Makes `count` requests available, and does not tell the device: it has them left to do, unless it
    /// looks by itself.
    pub fn leave(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            self.request()?;
        }
        self.worker()?.ring.publish()?;
        Ok(())
    }

    /// Makes one request available, without telling the device.
    fn request(&mut self) -> Result<()> {
        let class = self.class;
        let memory = self.device.memory.clone();
        let queue = self.queues.get_mut(self.worker).context("no such queue")?;
        let token = queue.idle.pop().context("the queue is full")?;
        let at = queue.slot(token)?;
        let piece = |offset, length, writable| Buffer {
            address: at + offset,
            length,
            writable,
        };
        match class {
            Class::Net => {
                let tag = frame::Tag {
                    run: run(),
                    flow: 0,
                    number: FRAMES.fetch_add(1, Ordering::Relaxed),
                };
                let frame = if self.plain {
                    plain()
                } else {
                    frame::build(tag, FROM, TO, 0)
                };
                memory.write(at, &frame)?;
                let length = u32::try_from(frame.len())?;
                ensure!(length <= BUFFER, "a frame of {length} bytes");
                self.bytes += u64::from(length);
                queue.ring.add(&[piece(0, length, false)], token)
            }
            Class::Block => {
                // VIRTIO_BLK_T_IN of sector 0.
                memory.write(at, &[0; 16])?;
                memory.write(at + STATUS, &[0xff])?;
                self.bytes += 16;
                let chain = [
                    piece(0, 16, false),
                    piece(DATA, SECTOR, true),
                    piece(STATUS, 1, true),
                ];
                queue.ring.add(&chain, token)
            }
            Class::Other(_) => bail!(Undrivable),
        }
    }

    /// Takes what the device has given back; gives the number of requests.
    pub fn reap(&mut self) -> Result<u32> {
        let class = self.class;
        let memory = self.device.memory.clone();
        if class == Class::Net {
            self.receive()?;
        }
        let queue = self.worker()?;
        let mut count = 0;
        while let Some(Used { token, written }) = queue.ring.take()? {
            let at = queue.slot(token)?;
            if class == Class::Block {
                let mut answer = [0xff];
                memory.read(at + STATUS, &mut answer)?;
                ensure!(
                    answer == [0] && written == SECTOR + 1,
                    "a read was answered with {answer:?} and {written} bytes"
                );
            }
            queue.idle.push(token);
            count += 1;
        }
        Ok(count)
    }

    /// Has the device do `count` requests. Looks at completions only when they are announced.
    pub fn work(&mut self, count: u32) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let free = u32::try_from(self.worker()?.idle.len())?;
            let batch = left.min(8).min(free);
            ensure!(batch > 0, "requests were not given back");
            self.offer(batch)?;
            self.finish(batch)?;
            left -= batch;
        }
        Ok(())
    }

    /// Waits until `count` requests have been given back, each time for the announcement.
    pub fn finish(&mut self, count: u32) -> Result<()> {
        let mut done = self.take_announced()?;
        while done < count {
            if !wait::any(&[&self.worker()?.call], PATIENCE)? {
                let silent = self.reap()?;
                bail!(
                    "of {count} requests {done} were given back and announced, {silent} not announced; status {:#x}",
                    self.device.status()?
                );
            }
            done += self.take_announced()?;
            self.feed()?;
        }
        Ok(())
    }

    /// Takes what has been announced.
    fn take_announced(&mut self) -> Result<u32> {
        if !self.worker()?.interrupted() {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            count += self.reap()?;
            if !self.worker()?.ring.rearm()? {
                return Ok(count);
            }
        }
    }

    /// Makes a request available and rings; says whether the device has done it a while later.
    pub fn is_served(&mut self) -> Result<bool> {
        self.offer(1)?;
        self.worker()?.ring_doorbell()?;
        sleep(WATCHED);
        Ok(self.reap()? > 0)
    }

    /// Makes a request available that names a descriptor which there is not, and tells the device: no
    /// driver does that. Afterwards the ring is of no use.
    pub fn spoil(&mut self) -> Result<()> {
        let memory = self.device.memory.clone();
        let queue = self.worker()?;
        // The available ring of a split one (virtio 1.3, 2.7.6).
        let available = queue.ring.areas().driver;
        let index = memory.load16(available + 2)?;
        memory.store16(available + 4 + 2 * u64::from(index % queue.size), 0xffff)?;
        memory.store16(available + 2, index.wrapping_add(1))?;
        queue.ring_doorbell()
    }

    /// Stops the device and hands it back, still open and owned.
    pub fn stop(self) -> Result<Device> {
        self.device.reset()?;
        Ok(self.device)
    }

    /// Goes on after a reset with each queue where its rings are.
    pub fn go_on(&mut self) -> Result<()> {
        negotiate(&self.device, self.features)?;
        for queue in &self.queues {
            queue.configure(&self.device, queue.ring.base()?)?;
        }
        self.enable_all(true)?;
        self.device.add_status(status::DRIVER_OK)
    }
}
