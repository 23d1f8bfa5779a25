// SPDX-License-Identifier: GPL-2.0

//! What a function can do at most, found by trial when it is probed.

use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use vdpa::{
    virtio_pci::{
        QueueLimits,
        Selector,
        Transport, //
    },
    Text, //
};
use virtio::{
    config,
    device_id::DeviceId,
    features::{
        self,
        Features, //
    },
    net,
    policy,
    queue,
    status::Status, //
};

/// The most virtqueues that a device gets: 64 pairs and the control queue. It bounds what a device can
/// make the host allocate. vhost-vdpa allocates all of a device's in one piece when it is bound, each
/// with 19 KiB, and the page allocator warns when it is asked for more than 4 MiB.
const MAX_QUEUES: u16 = 129;

/// The most queue pairs, so that the control queue has room.
const MAX_PAIRS: u16 = MAX_QUEUES / 2;

/// The most virtqueues of a function that are looked at: those of 2048 pairs and the control queue.
const MAX_HARDWARE_QUEUES: u16 = 4097;

/// The features that decide how many queue pairs a network device has.
pub(crate) const MULTIQUEUE: Features = features::net::MQ.union(features::net::RSS);

/// Features that say what is done with hashes, and that may require one of [`MULTIQUEUE`].
const HASH: Features = features::net::HASH_REPORT.union(features::net::HASH_TUNNEL);

/// What a function can do at most. Does not change after probe.
pub(crate) struct Limits {
    /// The kind of virtio device.
    pub(crate) id: DeviceId,
    /// The vendor, as the PCI subsystem has it.
    pub(crate) vendor: u16,
    /// The features that may be offered to a consumer.
    pub(crate) offered: Features,
    /// The features that are negotiated with the function, and that a consumer does not see.
    pub(crate) hidden: Features,
    /// The virtqueues of the function when all its features are negotiated.
    queues: KVec<Option<QueueLimits>>,
    /// Its virtqueues without those of [`MULTIQUEUE`], if that makes a difference: the control
    /// queue is in another place then, and may have another size than the queue that was there.
    single: Option<KVec<Option<QueueLimits>>>,
    /// The queue pairs of the function; 1 if it is not a network device.
    pub(crate) hardware_pairs: u16,
    /// The queue pairs that can be provisioned.
    pub(crate) pairs: u16,
    /// The length of the configuration that is shown, in bytes.
    pub(crate) config_len: usize,
    /// The MTU in the function's configuration, meaningful with `VIRTIO_NET_F_MTU` only.
    pub(crate) mtu: u16,
}

impl Limits {
    /// Reads the limits of a function. It is reset in the end.
    ///
    /// # Errors
    ///
    /// `ENODEV`, after one log line, if the function cannot be served.
    pub(crate) fn read(
        pdev: &pci::Device<Bound>,
        transport: &Transport,
        selector: &mut Selector,
        id: DeviceId,
    ) -> Result<Self> {
        // The BARs of a function may be gone without the kernel's knowledge.
        reset(pdev, transport)?;
        transport.set_status(Status::ACKNOWLEDGE);
        let status = transport.status();
        if status.contains(Status::NEEDS_RESET) && !status.is_gone() {
            dev_err!(
                pdev,
                "refused: it needs a reset although it was just reset, its status is {}\n",
                Text(status)
            );
            return Err(ENODEV);
        }
        if status.is_gone() || status == Status::RESET {
            dev_err!(
                pdev,
                "refused: its registers do not answer, remove it and rescan the bus\n"
            );
            return Err(ENODEV);
        }
        if status != Status::ACKNOWLEDGE {
            dev_err!(
                pdev,
                "refused: it was told ACKNOWLEDGE after a reset, and its status is {}\n",
                Text(status)
            );
            return Err(ENODEV);
        }
        let device = transport.device_features(selector);
        policy::required(device).map_err(|error| {
            dev_err!(pdev, "refused: {}\n", Text(error));
            ENODEV
        })?;
        let offered = policy::offered(device, id);
        let hidden = policy::hardware_only(device).difference(if transport.has_queue_reset() {
            Features::EMPTY
        } else {
            Features::RING_RESET
        });

        let all = offered.union(hidden);
        let queues = read_queues(pdev, transport, selector, all)?;
        let single = if offered.intersects(MULTIQUEUE) {
            let some = all.difference(MULTIQUEUE).difference(HASH);
            Some(read_queues(pdev, transport, selector, some)?)
        } else {
            None
        };

        let num_queues = u16::try_from(queues.len())?;
        let mut fields = [0; net::LEN];
        transport.read_config(&mut fields);
        let (hardware_pairs, mtu) = if id == DeviceId::NET {
            let pairs = net::field(&fields, net::MAX_VIRTQUEUE_PAIRS).unwrap_or(0);
            let pairs = net::hardware_pairs(device, pairs, num_queues).map_err(|error| {
                dev_err!(pdev, "refused: {}\n", Text(error));
                ENODEV
            })?;
            (pairs, net::field(&fields, net::MTU).unwrap_or(0))
        } else {
            (1, 0)
        };

        let limits = Self {
            id,
            vendor: pdev.subsystem_vendor_id(),
            offered,
            hidden,
            queues,
            single,
            hardware_pairs,
            pairs: hardware_pairs.min(MAX_PAIRS),
            config_len: config::shown_len(id, transport.config_len()),
            mtu,
        };
        if limits.num_max(offered) == 0 {
            dev_err!(pdev, "refused: none of its virtqueues has a size\n");
            return Err(ENODEV);
        }
        Ok(limits)
    }

    /// Returns the number of virtqueues that a vDPA device can have.
    pub(crate) fn nvqs(&self) -> u16 {
        let queues = u16::try_from(self.queues.len()).unwrap_or(MAX_QUEUES);

        queue::queue_count(self.id, self.offered, self.pairs, queues).min(MAX_QUEUES)
    }

    /// Returns the limits of a virtqueue, by its index in the function, when `negotiated` features
    /// are; [`None`] if there is no such virtqueue.
    pub(crate) fn queue(&self, hardware_index: u16, negotiated: Features) -> Option<QueueLimits> {
        let queues = match &self.single {
            Some(single) if !negotiated.intersects(MULTIQUEUE) => single,
            _ => &self.queues,
        };

        let queue = queues.get(usize::from(hardware_index))?.as_ref()?;
        Some(QueueLimits {
            max_size: usable_size(queue.max_size, negotiated),
            ..*queue
        })
    }

    /// Returns the largest number of entries of any virtqueue, when `negotiated` features are.
    pub(crate) fn num_max(&self, negotiated: Features) -> u16 {
        [Some(&self.queues), self.single.as_ref()]
            .into_iter()
            .flatten()
            .flatten()
            .flatten()
            .map(|queue| usable_size(queue.max_size, negotiated))
            .max()
            .unwrap_or(0)
    }
}

/// Returns the largest number of entries that can be used of `max_size`: those of a split virtqueue
/// are a power of two.
fn usable_size(max_size: u16, negotiated: Features) -> u16 {
    let size = max_size.min(queue::MAX_SIZE);

    if negotiated.contains(Features::RING_PACKED) {
        size
    } else {
        1 << size.checked_ilog2().unwrap_or(0)
    }
}

/// Reads the limits of the virtqueues that the function has when `wanted` features are negotiated.
///
/// A device may settle how many there are only then, and QEMU's does. It is reset before and after,
/// also if it is refused.
fn read_queues(
    pdev: &pci::Device<Bound>,
    transport: &Transport,
    selector: &mut Selector,
    wanted: Features,
) -> Result<KVec<Option<QueueLimits>>> {
    reset(pdev, transport)?;
    let queues = ask_queues(pdev, transport, selector, wanted).inspect_err(|_| {
        // Why it is refused has been said.
        let _ = transport.reset();
    })?;
    reset(pdev, transport)?;
    Ok(queues)
}

/// Negotiates features with a device that was reset, and asks for its virtqueues.
fn ask_queues(
    pdev: &pci::Device<Bound>,
    transport: &Transport,
    selector: &mut Selector,
    wanted: Features,
) -> Result<KVec<Option<QueueLimits>>> {
    let present = Status::ACKNOWLEDGE.union(Status::DRIVER);

    transport.set_status(present);
    transport.set_driver_features(selector, wanted);
    transport.set_status(present.union(Status::FEATURES_OK));
    if !transport.status().contains(Status::FEATURES_OK) || transport.status().is_gone() {
        dev_err!(
            pdev,
            "refused: the device does not accept features that it offers\n"
        );
        return Err(ENODEV);
    }

    let count = transport.num_queues();
    if count == 0 || count == u16::MAX {
        dev_err!(pdev, "refused: the function has {} virtqueues\n", count);
        return Err(ENODEV);
    }
    let count = count.min(MAX_HARDWARE_QUEUES);
    let mut queues = KVec::with_capacity(usize::from(count), GFP_KERNEL)?;
    for index in 0..count {
        let limits = transport.queue(selector, index).limits().map_err(|error| {
            dev_err!(pdev, "refused: virtqueue {}: {}\n", index, Text(error));
            ENODEV
        })?;
        queues.push(limits, GFP_KERNEL)?;
    }
    Ok(queues)
}

/// Resets a device.
fn reset(pdev: &pci::Device<Bound>, transport: &Transport) -> Result {
    transport.reset().inspect_err(|error| {
        dev_err!(
            pdev,
            "refused: does not reset (error {})\n",
            error.to_errno()
        );
    })
}
