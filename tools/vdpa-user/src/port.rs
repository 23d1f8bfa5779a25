// SPDX-License-Identifier: GPL-2.0

//! A network device with its queues running: what a guest's driver would be.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::eventfd::EfdFlags;
use vmm_sys_util::eventfd::EventFd;

use crate::device::{Device, feature, status};
use crate::doorbell::PAGE;
use crate::frame;
use crate::merge::{Merge, PART};
use crate::queue::{BUFFER, Queue};
use crate::ring::{Buffer, Used};
use crate::wait;

mod control;

pub use control::{CONTROL_SIZE, control_index};

/// How a port is set up.
#[derive(Args, Clone, Copy, Debug)]
pub struct Setup {
    /// Queue pairs to use; more than one needs the device's MQ feature
    #[arg(long = "queues", default_value_t = 1)]
    pub pairs: u16,
    /// Use packed rings
    #[arg(long)]
    pub packed: bool,
    /// Use event indices
    #[arg(long)]
    pub event_index: bool,
    /// Descriptors of each queue
    #[arg(long, default_value_t = 256)]
    pub size: u16,
    /// Index at which the rings of the data queues begin
    #[arg(long, default_value_t = 0)]
    pub start: u16,
    /// Receive into small buffers, of which a frame takes several
    #[arg(long)]
    pub merge: bool,
    /// Give the device so many pages of memory when it is opened, each in a mapping of its own
    #[arg(long)]
    pub pages: Option<u16>,
    /// Map the doorbells instead of writing to events
    #[arg(skip)]
    pub doorbell: bool,
    /// Enable the queues after DRIVER_OK
    #[arg(skip)]
    pub late: bool,
    /// Use the control queue
    #[arg(skip)]
    pub control: bool,
    /// Accept everything that is offered, but what changes the rings
    #[arg(skip)]
    pub everything: bool,
    /// How far the addresses of the control queue are from those of the others
    #[arg(skip)]
    pub control_shift: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pairs: 1,
            packed: false,
            event_index: false,
            size: 256,
            start: 0,
            merge: false,
            pages: None,
            doorbell: false,
            late: false,
            control: false,
            everything: false,
            control_shift: 0,
        }
    }
}

/// A pair of queues.
pub struct Pair {
    /// Where frames arrive.
    pub receive: Queue,
    /// Where frames leave.
    pub transmit: Queue,
    /// What puts frames together that arrive in several buffers.
    pub merge: Option<Merge>,
}

impl Pair {
    /// Bytes of a receive buffer.
    fn room(&self) -> u32 {
        if self.merge.is_some() { PART } else { BUFFER }
    }
}

/// A running network device.
pub struct Port {
    /// The device.
    pub device: Device,
    /// Announces changes of configuration and status.
    pub config_call: EventFd,
    /// The negotiated features.
    pub features: u64,
    /// The queue pairs in use.
    pub pairs: Vec<Pair>,
    /// Its hardware address.
    pub address: [u8; 6],
    /// The control queue, if it is used.
    pub control: Option<Queue>,
}

impl Port {
    /// Opens a device and brings it up.
    pub fn open(path: &Path, setup: Setup) -> Result<Self> {
        let mut device;
        if let Some(pages) = setup.pages {
            let page = u64::try_from(PAGE)?;
            device = Device::open_with(path, u64::from(pages) * page)?;
            device.claim_in_pieces(page)?;
        } else {
            device = Device::open(path)?;
            device.claim()?;
        }
        Self::start(device, setup).with_context(|| format!("bringing up {}", path.display()))
    }

    /// Brings up a device that is open and owned, from whatever state it is in.
    pub fn start(device: Device, setup: Setup) -> Result<Self> {
        Self::start_with(device, setup, |_| Ok(()))
    }

    /// Like [`Port::start`], with something to do once features are negotiated.
    pub fn start_with(
        device: Device,
        setup: Setup,
        prepare: impl FnOnce(&Device) -> Result<()>,
    ) -> Result<Self> {
        ensure!(device.device_id()? == 1, "not a network device");
        ensure!(setup.pairs >= 1, "no queue pair");
        device.memory.clear()?;
        let features = Self::choose(&device, setup)?;
        device.negotiate(features)?;
        prepare(&device)?;
        let config_call = EventFd::new(EfdFlags::EFD_NONBLOCK.bits())?;
        device.set_config_call(&config_call)?;
        let mut pairs = Vec::new();
        for pair in 0..setup.pairs {
            let receive = Queue::new(&device, 2 * pair, setup, features, 0)?;
            let merge = if features & feature::MRG_RXBUF != 0 {
                let room = usize::try_from(PART)?;
                Some(Merge::new(room, receive.size, setup.start))
            } else {
                None
            };
            pairs.push(Pair {
                receive,
                transmit: Queue::new(&device, 2 * pair + 1, setup, features, 0)?,
                merge,
            });
        }
        let control = if features & feature::CTRL_VQ != 0 {
            let index = control_index(&device, features)?;
            let small = Setup {
                size: CONTROL_SIZE,
                start: 0,
                ..setup
            };
            let shift = setup.control_shift;
            Some(Queue::new(&device, index, small, features, shift)?)
        } else {
            None
        };
        let mut address = [0x02, 0, 0, 0, 0, 0x77];
        if features & feature::MAC != 0 {
            let config = device.config()?;
            address.copy_from_slice(config.get(..6).context("no room for the address")?);
        }
        let mut port = Self {
            device,
            config_call,
            features,
            pairs,
            address,
            control,
        };
        if !setup.late {
            port.enable_all(true)?;
        }
        port.device.add_status(status::DRIVER_OK)?;
        if setup.late {
            port.enable_all(true)?;
        }
        port.fill()?;
        if setup.pairs > 1 {
            port.set_pairs(setup.pairs)?;
        }
        Ok(port)
    }

    /// The features to negotiate out of those on offer.
    fn choose(device: &Device, setup: Setup) -> Result<u64> {
        let offered = device.features()?;
        let mut needed = feature::VERSION_1 | feature::ACCESS_PLATFORM;
        if setup.packed {
            needed |= feature::RING_PACKED;
        }
        if setup.event_index {
            needed |= feature::EVENT_IDX;
        }
        if setup.merge {
            needed |= feature::MRG_RXBUF;
        }
        if setup.pairs > 1 {
            needed |= feature::MQ | feature::CTRL_VQ;
        }
        let mut wanted = feature::MAC | feature::MTU | feature::STATUS;
        if setup.control {
            needed |= feature::CTRL_VQ;
            wanted |= feature::CTRL_RX | feature::CTRL_VLAN | feature::CTRL_MAC_ADDR;
        }
        if setup.everything {
            wanted = !(feature::EVENT_IDX | feature::RING_PACKED | feature::IN_ORDER);
        }
        let missing = needed & !offered;
        ensure!(
            missing == 0,
            "the device does not offer the features {missing:#x}"
        );
        Ok(needed | (offered & wanted))
    }

    /// Enables or disables every queue.
    pub fn enable_all(&mut self, on: bool) -> Result<()> {
        for pair in &self.pairs {
            self.device.enable(pair.receive.index, on)?;
            self.device.enable(pair.transmit.index, on)?;
        }
        if let Some(control) = &self.control {
            self.device.enable(control.index, on)?;
        }
        Ok(())
    }

    /// Gives every free receive buffer to the device.
    pub fn fill(&mut self) -> Result<()> {
        for pair in &mut self.pairs {
            let length = pair.room();
            let queue = &mut pair.receive;
            while let Some(token) = queue.idle.pop() {
                let address = queue.slot(token)?;
                let buffer = Buffer {
                    address,
                    length,
                    writable: true,
                };
                queue.ring.add(&[buffer], token)?;
            }
            queue.publish()?;
        }
        Ok(())
    }

    /// Sends a frame (with its header) on a pair, if a buffer is free; the doorbell is not rung.
    pub fn send(&mut self, pair: usize, frame: &[u8]) -> Result<bool> {
        let queue = &mut self.pairs.get_mut(pair).context("no such pair")?.transmit;
        let Some(token) = queue.idle.pop() else {
            return Ok(false);
        };
        let address = queue.slot(token)?;
        self.device.memory.write(address, frame)?;
        let buffer = Buffer {
            address,
            length: u32::try_from(frame.len())?,
            writable: false,
        };
        queue.ring.add(&[buffer], token)?;
        Ok(true)
    }

    /// Takes back what was sent; gives the number of frames.
    pub fn reap(&mut self, pair: usize) -> Result<u32> {
        let queue = &mut self.pairs.get_mut(pair).context("no such pair")?.transmit;
        let mut count = 0;
        loop {
            while let Some(Used { token, .. }) = queue.ring.take()? {
                queue.idle.push(token);
                count += 1;
            }
            if !queue.ring.rearm()? {
                return Ok(count);
            }
        }
    }

    /// Waits until everything that was sent has come back.
    pub fn come_to_rest(&mut self) -> Result<()> {
        wait::until("what was sent comes back", || {
            for pair in 0..self.pairs.len() {
                self.reap(pair)?;
            }
            Ok(self.is_at_rest())
        })
    }

    /// Whether everything that was sent has come back, and was taken.
    pub fn is_at_rest(&self) -> bool {
        let mut queues = self.pairs.iter().map(|pair| &pair.transmit);
        queues.all(|queue| queue.idle.len() == usize::from(queue.size))
    }

    /// Takes the frames that arrived, ours and not damaged; gives the buffers back.
    pub fn receive(&mut self, pair: usize) -> Result<Vec<frame::Tag>> {
        let memory = self.device.memory.clone();
        let pair = self.pairs.get_mut(pair).context("no such pair")?;
        let room = pair.room();
        let queue = &mut pair.receive;
        let mut tags = Vec::new();
        loop {
            while let Some(Used { token, written }) = queue.ring.take()? {
                ensure!(written <= room, "{written} bytes in a buffer of {room}");
                let mut bytes = vec![0; usize::try_from(written)?];
                memory.read(queue.slot(token)?, &mut bytes)?;
                queue.idle.push(token);
                let whole = match &mut pair.merge {
                    Some(merge) => merge.add(&bytes)?,
                    None => Some(bytes),
                };
                if let Some(whole) = whole {
                    tags.extend(frame::check(&whole)?);
                }
            }
            if let Some(merge) = &pair.merge {
                merge.finish()?;
            }
            if !queue.ring.rearm()? {
                break;
            }
        }
        self.fill()?;
        Ok(tags)
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.pairs
            .iter()
            .flat_map(|pair| [&pair.receive, &pair.transmit])
            .chain(&self.control)
    }

    /// Goes on after a reset, with each queue where its rings are: what one process hands to
    /// another.
    pub fn go_on(&mut self) -> Result<()> {
        self.go_on_at(|queue| queue.ring.base())
    }

    /// Goes on after a reset, with each queue where `base` says.
    pub fn go_on_at(&mut self, base: impl Fn(&Queue) -> Result<u32>) -> Result<()> {
        self.device.negotiate(self.features)?;
        self.device.set_config_call(&self.config_call)?;
        for queue in self.queues() {
            queue.configure(&self.device, base(queue)?)?;
        }
        self.enable_all(true)?;
        self.device.add_status(status::DRIVER_OK)?;
        // Whatever was made available meanwhile.
        self.queues().try_for_each(Queue::ring_doorbell)?;
        // What the device was told it has forgotten.
        match u16::try_from(self.pairs.len())? {
            0 | 1 => Ok(()),
            pairs => self.set_pairs(pairs),
        }
    }

    /// Whether the device is still running.
    pub fn alive(&self) -> Result<bool> {
        let shown = self.device.status()?;
        Ok(shown & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK)
    }

    /// Stops the device and hands it back, still open and owned.
    pub fn stop(self) -> Result<Device> {
        self.device.reset()?;
        Ok(self.device)
    }
}
