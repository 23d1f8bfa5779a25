// SPDX-License-Identifier: GPL-2.0

//! What a PCI function *is*: its registers, limits and interrupts, found when it is probed.

use super::{
    control::Control,
    debugfs::StateFile,
    interrupts::{
        Interrupts,
        Receivers, //
    },
    limits::Limits,
    space::{
        Memory,
        Space, //
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
        LockedBy,
        Mutex, //
    }, //
};
use vdpa::{
    iommu::Unavailable,
    pci::{
        channel_state,
        config_snapshot,
        memory_bar_len,
        msix_vectors,
        ChannelState,
        Enabled,
        NUM_BARS, //
    },
    virtio_pci::{
        Claim,
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
    device_id::DeviceId, //
};

/// The part of a [`Function`] that does not depend on the binding, for debugfs.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    pub(crate) receivers: Arc<Receivers>,
    /// Protects the registers, but for doorbells, the interrupts, and the software copy of what the
    /// consumer wants.
    ///
    /// What is taken under it stands in `Documentation/operations.md`.
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
    pub(crate) interrupts: LockedBy<Interrupts<'bound>, Control>,
    pub(crate) shared: Arc<Shared>,
    _claim: Claim<'bound>,
    pub(crate) enabled: Enabled<'bound>,
    // Where the function reached memory, if it did, until bus mastering was disabled.
    pub(crate) space: Result<Space<'bound>, Unavailable>,
    pub(crate) memory: Memory,
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

            if channel_state(pdev) != ChannelState::Normal {
                dev_err!(
                    pdev,
                    "refused: is cut off by an error, remove it and rescan the bus\n"
                );
                return Err(EIO);
            }
            if msix_vectors(pdev) == 0 {
                dev_err!(pdev, "refused: has no MSI-X\n");
                return Err(ENODEV);
            }
            let mut enabled = Enabled::new(pdev).inspect_err(|error| {
                dev_err!(
                    pdev,
                    "refused: cannot be enabled (error {})\n",
                    error.to_errno()
                );
            })?;
            let layout = find_layout(pdev)?;
            let cannot_map = |error: &Error| {
                dev_err!(
                    pdev,
                    "refused: cannot map its BARs (error {})\n",
                    error.to_errno()
                );
            };
            let claim = Claim::new(pdev, &layout, c"vf_vdpa").inspect_err(cannot_map)?;
            let (transport, mut selector) = Transport::new(pdev, layout).inspect_err(cannot_map)?;
            let limits = Limits::read(pdev, &transport, &mut selector, id)?;

            let name = CString::try_from_fmt(fmt!("{}", pdev.as_ref().name()))?;
            let receivers = Receivers::new(pdev.as_ref(), limits.nvqs(), transport.notifier())?;
            let interrupts = Interrupts::new(pdev, &receivers, &name)?;
            enabled.save().inspect_err(|error| {
                dev_err!(
                    pdev,
                    "refused: its configuration cannot be saved (error {})\n",
                    error.to_errno()
                );
            })?;
            enabled.set_master();

            let space = Space::new(pdev).inspect_err(|why| {
                dev_info!(pdev, "cannot be given to a process: {}\n", Text(why));
            });
            let control = Control::new(selector, limits.nvqs(), limits.config_len)?;
            let shared = Arc::pin_init(
                try_pin_init!(Shared {
                    limits,
                    transport,
                    receivers,
                    control <- new_mutex!(control, "vf_vdpa::Control"),
                }),
                GFP_KERNEL,
            )?;
            dev_info!(
                pdev,
                "virtio {} function, {} virtqueues of at most {} entries\n",
                shared.limits.id.name(),
                shared.limits.nvqs(),
                shared.limits.num_max(shared.limits.offered)
            );

            let directory = CString::try_from_fmt(fmt!("vf_vdpa-{}", &*name))?;
            let state = StateFile::new(shared.clone());
            Ok(try_pin_init!(Self {
                _dir: debugfs::Dir::new(&directory),
                _state_file <- _dir.read_only_file(c"state", state),
                interrupts: LockedBy::new(&shared.control, interrupts),
                shared,
                _claim: claim,
                enabled,
                space,
                memory: Memory::new()?,
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

    capability::parse(&config_snapshot(pdev)?, &bars).map_err(|error| {
        dev_err!(pdev, "refused: {}\n", Text(error));
        ENODEV
    })
}
