// SPDX-License-Identifier: GPL-2.0

//! What a PCI function *is*: its registers, limits and interrupts, found when it is probed.

use super::{
    control::Control,
    debugfs::StateFile,
    interrupts::{
        Interrupts,
        Receivers, //
    }, //
};
use kernel::{
    debugfs,
    device::{
        Bound,
        Core, //
    },
    new_mutex,
    pci,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use vdpa::{
    pci::{
        config_snapshot,
        memory_bar_len,
        Enabled,
        NUM_BARS, //
    },
    virtio_pci::{
        QueueLimits,
        Selector,
        Transport, //
    },
    Text, //
};
use virtio::{
    capability::{
        self,
        Bar,
        Layout, //
    },
    config,
    device_id::DeviceId,
    features::Features,
    net,
    policy, //
};

/// The most virtqueues that a device gets: 512 pairs and the control queue. It bounds what a device
/// can make the host allocate.
const MAX_QUEUES: u16 = 1025;

/// The most queue pairs, so that the control queue has room.
const MAX_PAIRS: u16 = MAX_QUEUES / 2;

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
    /// The virtqueues of the function.
    pub(crate) queues: KVec<QueueLimits>,
    /// The queue pairs of the function; 1 if it is not a network device.
    pub(crate) hardware_pairs: u16,
    /// The queue pairs that can be provisioned.
    pub(crate) pairs: u16,
    /// The MTU in the function's configuration, meaningful with `VIRTIO_NET_F_MTU` only.
    pub(crate) mtu: u16,
}

impl Limits {
    /// Reads the limits from a function that was just reset.
    fn read(
        pdev: &pci::Device<Bound>,
        transport: &Transport<'_>,
        selector: &mut Selector,
        id: DeviceId,
    ) -> Result<Self> {
        let device = transport.device_features(selector);
        policy::required(device).map_err(|error| {
            dev_err!(pdev, "refused: {}\n", Text(error));
            ENODEV
        })?;

        let num_queues = transport.num_queues();
        if num_queues == 0 || num_queues == u16::MAX {
            dev_err!(
                pdev,
                "refused: the function has {} virtqueues\n",
                num_queues
            );
            return Err(ENODEV);
        }
        let mut queues = KVec::with_capacity(usize::from(num_queues), GFP_KERNEL)?;
        for index in 0..num_queues {
            let limits = transport.queue(selector, index).limits().map_err(|error| {
                dev_err!(pdev, "refused: virtqueue {}: {}\n", index, Text(error));
                ENODEV
            })?;
            queues.push(limits, GFP_KERNEL)?;
        }

        let mut config = [0; net::LEN];
        transport.read_config(&mut config);
        let (hardware_pairs, mtu) = if id == DeviceId::NET {
            let pairs = net::field(&config, net::MAX_VIRTQUEUE_PAIRS).unwrap_or(0);
            let pairs = net::hardware_pairs(device, pairs, num_queues).map_err(|error| {
                dev_err!(pdev, "refused: {}\n", Text(error));
                ENODEV
            })?;
            (pairs, net::field(&config, net::MTU).unwrap_or(0))
        } else {
            (1, 0)
        };

        let hidden = if transport.has_queue_reset() {
            policy::hardware_only(device)
        } else {
            Features::EMPTY
        };
        Ok(Self {
            id,
            vendor: pdev.subsystem_vendor_id(),
            offered: policy::offered(device, id),
            hidden,
            queues,
            hardware_pairs,
            pairs: hardware_pairs.min(MAX_PAIRS),
            mtu,
        })
    }

    /// Returns the number of virtqueues that a vDPA device can have.
    pub(crate) fn nvqs(&self) -> u16 {
        let queues = u16::try_from(self.queues.len()).unwrap_or(MAX_QUEUES);

        virtio::queue::queue_count(self.id, self.offered, self.pairs, queues).min(MAX_QUEUES)
    }

    /// Returns the limits of a virtqueue, by its index in the function.
    pub(crate) fn queue(&self, hardware_index: u16) -> Option<&QueueLimits> {
        self.queues.get(usize::from(hardware_index))
    }

    /// Returns the largest number of entries of any virtqueue.
    pub(crate) fn num_max(&self) -> u16 {
        self.queues
            .iter()
            .map(|queue| queue.max_size)
            .max()
            .unwrap_or(0)
    }
}

/// The part of a [`Function`] that does not depend on the binding, for debugfs.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) receivers: Arc<Receivers>,
    /// Protects the registers, but for doorbells, and the software copy of what the consumer wants.
    ///
    /// No other lock is taken under it but those of the PCI core's configuration accesses.
    #[pin]
    pub(crate) control: Mutex<Control>,
}

/// A probed function.
#[pin_data]
pub(crate) struct Function<'bound> {
    // Dropped in this order: first what others can see, then interrupts, then the registers. The
    // device was reset before, when the vDPA device was removed.
    #[pin]
    _state_file: debugfs::File<StateFile>,
    _dir: debugfs::Dir,
    pub(crate) interrupts: Interrupts<'bound>,
    pub(crate) transport: Transport<'bound>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) enabled: Enabled<'bound>,
    pub(crate) pdev: &'bound pci::Device<Bound>,
}

impl<'bound> Function<'bound> {
    /// Sets a function up.
    ///
    /// # Errors
    ///
    /// `ENODEV`, after one log line, if the function is not one that this driver can serve.
    pub(crate) fn new<'c>(
        pdev: &'bound pci::Device<Core<'c>>,
    ) -> impl PinInit<Self, Error> + use<'bound, 'c> {
        pin_init::pin_init_scope(move || {
            let id = DeviceId::from_pci(
                pdev.vendor_id().as_raw(),
                pdev.device_id(),
                pdev.subsystem_device_id(),
            )
            .ok_or_else(|| {
                dev_err!(pdev, "refused: not a virtio function\n");
                ENODEV
            })?;

            let enabled = Enabled::new(pdev)?;
            let layout = find_layout(pdev)?;
            let (transport, mut selector) =
                Transport::new(pdev, layout, c"vf_vdpa").inspect_err(|error| {
                    dev_err!(
                        pdev,
                        "refused: cannot map its BARs (error {})\n",
                        error.to_errno()
                    );
                })?;
            transport.reset().inspect_err(|error| {
                dev_err!(
                    pdev,
                    "refused: does not reset (error {})\n",
                    error.to_errno()
                );
            })?;
            let limits = Limits::read(pdev, &transport, &mut selector, id)?;

            let name = CString::try_from_fmt(fmt!("{}", pdev.as_ref().name()))?;
            let receivers = Receivers::new(limits.nvqs())?;
            let interrupts = Interrupts::new(pdev, &receivers, &name)?;
            enabled.save()?;

            let control = {
                let config_len = config::shown_len(id, transport.config_len());
                Control::new(selector, limits.nvqs(), config_len)?
            };
            let shared = Arc::pin_init(
                try_pin_init!(Shared {
                    limits,
                    receivers,
                    control <- new_mutex!(control, "vf_vdpa::Control"),
                }),
                GFP_KERNEL,
            )?;
            dev_info!(
                pdev,
                "virtio {} function, {} virtqueues of at most {} entries\n",
                shared.limits.id.name(),
                shared.limits.queues.len(),
                shared.limits.num_max()
            );

            let directory = CString::try_from_fmt(fmt!("vf_vdpa-{}", &*name))?;
            let state = StateFile::new(shared.clone());
            Ok(try_pin_init!(Self {
                _dir: debugfs::Dir::new(&directory),
                _state_file <- _dir.read_only_file(c"state", state),
                interrupts,
                transport,
                shared,
                enabled,
                pdev,
            }))
        })
    }
}

/// Finds the windows of a function in its BARs.
fn find_layout(pdev: &pci::Device<Bound>) -> Result<Layout> {
    let mut bars = [None; NUM_BARS];
    for (index, bar) in (0..).zip(bars.iter_mut()) {
        *bar = memory_bar_len(pdev, index).map(|len| Bar { len });
    }

    capability::parse(&config_snapshot(pdev), &bars).map_err(|error| {
        dev_err!(pdev, "refused: {}\n", Text(error));
        ENODEV
    })
}
