// SPDX-License-Identifier: GPL-2.0

//! The two virtqueues, and how frames get from one to the other.

use kernel::{
    new_mutex,
    pr_warn_once,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    }, //
};
use vdpa::{
    callback::Slot,
    guest_memory::{
        Fault,
        GuestMemory, //
    },
    work::Run,
    Text, //
};
use virtio::{
    chain::RingError,
    features::Features,
    queue::{
        Addresses,
        RingKind,
        Size, //
    },
    split::SplitQueue,
    status::Status, //
};

/// The largest number of entries of a virtqueue.
pub(crate) const MAX_SIZE: u16 = 256;

/// The virtqueue that the device puts frames into.
pub(crate) const RECEIVE: usize = 0;

/// The virtqueue that the device takes frames from.
pub(crate) const TRANSMIT: usize = 1;

/// The header before each frame, in bytes (`struct virtio_net_hdr_v1`).
const HEADER_LEN: usize = 12;

/// The largest frame with its header: no segmentation is offered.
const MAX_LEN: usize = 9000 + 18 + HEADER_LEN;

/// How many frames are moved before others get a turn.
const BUDGET: usize = 256;

/// What a consumer has set of a virtqueue.
#[derive(Clone, Copy)]
pub(crate) struct VirtQueue {
    pub(crate) num: u32,
    /// The addresses, if they were set.
    pub(crate) addresses: Option<Addresses>,
    pub(crate) ready: bool,
    /// Where the device goes on.
    pub(crate) avail_index: u16,
    /// The queue, while the device is live and the queue is ready.
    ring: Option<SplitQueue>,
}

impl VirtQueue {
    const INITIAL: Self = Self {
        num: 256,
        addresses: None,
        ready: false,
        avail_index: 0,
        ring: None,
    };

    /// Returns whether the device is using the virtqueue.
    pub(crate) fn is_live(&self) -> bool {
        self.ring.is_some()
    }

    /// Returns where the device goes on.
    pub(crate) fn next_avail(&self) -> u16 {
        self.ring.map_or(self.avail_index, |ring| ring.next_avail())
    }

    /// Lets the device use the virtqueue.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it cannot be used as it was set up.
    pub(crate) fn start(&mut self, accepted: Features) -> Result {
        let addresses = self.addresses.ok_or(EINVAL)?;
        let size = Size::new(self.num, MAX_SIZE, RingKind::Split).map_err(|_| EINVAL)?;
        let ring = SplitQueue::new(size, addresses, accepted).map_err(|_| EINVAL)?;

        self.ring = Some(ring.with_state(self.avail_index, self.avail_index));
        Ok(())
    }

    /// Keeps the device from using the virtqueue, and remembers where it stopped.
    pub(crate) fn stop(&mut self) {
        if let Some(ring) = self.ring.take() {
            self.avail_index = ring.next_avail();
        }
    }
}

/// What a consumer has set.
pub(crate) struct Control {
    pub(crate) status: Status,
    pub(crate) accepted: Features,
    pub(crate) suspended: bool,
    pub(crate) queues: [VirtQueue; 2],
    /// A frame on its way from one virtqueue to the other.
    frame: KVec<u8>,
}

impl Control {
    fn new() -> Result<Self> {
        Ok(Self {
            status: Status::RESET,
            accepted: Features::EMPTY,
            suspended: false,
            queues: [VirtQueue::INITIAL; 2],
            frame: KVec::from_elem(0, MAX_LEN, GFP_KERNEL)?,
        })
    }

    /// Returns a virtqueue.
    pub(crate) fn queue(&mut self, vq: u16) -> Option<&mut VirtQueue> {
        self.queues.get_mut(usize::from(vq))
    }

    /// Starts all virtqueues that are ready.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one of them cannot be used as it was set up: none is used then.
    pub(crate) fn start(&mut self) -> Result {
        let accepted = self.accepted;
        let result = self
            .queues
            .iter_mut()
            .filter(|queue| queue.ready)
            .try_for_each(|queue| queue.start(accepted));

        if result.is_err() {
            for queue in &mut self.queues {
                queue.stop();
            }
        }
        result
    }

    /// Forgets all that the consumer has set.
    pub(crate) fn forget(&mut self) {
        self.status = Status::RESET;
        self.accepted = Features::EMPTY;
        self.suspended = false;
        self.queues = [VirtQueue::INITIAL; 2];
    }
}

/// The device side of the virtqueues.
#[pin_data]
pub(crate) struct Port {
    /// The consumer's memory.
    #[pin]
    pub(crate) memory: GuestMemory,
    #[pin]
    pub(crate) control: Mutex<Control>,
    #[pin]
    pub(crate) receive_callback: Slot,
    #[pin]
    pub(crate) transmit_callback: Slot,
    #[pin]
    pub(crate) config_callback: Slot,
    /// Frames that came back.
    pub(crate) frames: Atomic<u64>,
    /// Frames that did not fit the buffer they should have come back in.
    pub(crate) dropped: Atomic<u64>,
}

impl Port {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            memory <- GuestMemory::new(),
            control <- new_mutex!(Control::new()?, "rust_vdpa_loopback::Control"),
            receive_callback <- Slot::new(),
            transmit_callback <- Slot::new(),
            config_callback <- Slot::new(),
            frames: Atomic::new(0),
            dropped: Atomic::new(0),
        })
    }

    /// Moves one frame. Returns [`false`] if there is none, or no buffer to put it into.
    fn move_frame(
        &self,
        frame: &mut [u8],
        receive: &mut SplitQueue,
        transmit: &mut SplitQueue,
    ) -> Result<bool, RingError<Fault>> {
        // A frame stays where it is until there is a buffer.
        if transmit.available(&self.memory)? == 0 || receive.available(&self.memory)? == 0 {
            return Ok(false);
        }
        let (Some(mut from), Some(mut to)) =
            (transmit.pop(&self.memory)?, receive.pop(&self.memory)?)
        else {
            return Ok(false);
        };

        let len = from.read(&self.memory, frame)?;
        let whole = from.skip_readable(&self.memory)? == 0 && len > HEADER_LEN;
        // Nothing was offloaded, and the frame is in one buffer.
        let mut header = [0; HEADER_LEN];
        if let Some(num_buffers) = header.get_mut(10) {
            *num_buffers = 1;
        }
        let payload = frame.get(HEADER_LEN..len).unwrap_or_default();
        let room = to.lengths(&self.memory)?.writable;
        let fits = u32::try_from(len).is_ok_and(|len| len <= room);

        if whole && fits {
            to.write(&self.memory, &header)?;
            to.write(&self.memory, payload)?;
            self.frames.add(1, Relaxed);
        } else {
            self.dropped.add(1, Relaxed);
        }
        // An empty buffer tells a driver that there was no frame after all.
        receive.push_used(&self.memory, to.head(), to.written())?;
        transmit.push_used(&self.memory, from.head(), 0)?;
        Ok(true)
    }

    /// Moves frames while there are any. Returns whether there may be more.
    fn move_frames(&self, control: &mut Control) -> Result<bool, RingError<Fault>> {
        let [receive, transmit] = &mut control.queues;
        let (Some(receive), Some(transmit)) = (&mut receive.ring, &mut transmit.ring) else {
            return Ok(false);
        };
        let used = (receive.next_used(), transmit.next_used());

        receive.disable_notifications(&self.memory)?;
        transmit.disable_notifications(&self.memory)?;
        let mut more = true;
        for _ in 0..BUDGET {
            more = self.move_frame(&mut control.frame, receive, transmit)?;
            if !more {
                break;
            }
        }
        if !more {
            // Either of them could have come while the other was looked at.
            let received = receive.enable_notifications(&self.memory)?;
            let transmitted = transmit.enable_notifications(&self.memory)?;
            more = received && transmitted;
        }

        if receive.needs_interrupt(&self.memory, used.0)? {
            self.receive_callback.call();
        }
        if transmit.needs_interrupt(&self.memory, used.1)? {
            self.transmit_callback.call();
        }
        Ok(more)
    }
}

impl Run for Port {
    fn run(&self) -> bool {
        let mut control = self.control.lock();
        let control = &mut *control;

        if control.suspended || !control.status.contains(Status::DRIVER_OK) {
            return false;
        }
        match self.move_frames(control) {
            Ok(more) => more,
            Err(error) => {
                pr_warn_once!("a driver broke its virtqueue: {}\n", Text(error));
                for queue in &mut control.queues {
                    queue.stop();
                }
                control.status = control.status.union(Status::NEEDS_RESET);
                self.config_callback.call();
                false
            }
        }
    }
}
