// SPDX-License-Identifier: GPL-2.0

//! The driver of a PCI function that is a vDPA management device.
//!
//! The kernel crate's adapter knows probe and unbind. This one adds what keeps a host alive when a
//! function is reset, fails or disappears, and ties the management device to the binding, so that
//! a driver needs no `unsafe` for it.

use super::bindings;
use crate::{
    mgmt,
    virtio_bus, //
};
use core::{
    marker::PhantomData,
    ops::Deref, //
};
use kernel::{
    device::{
        BoundInternal,
        Core, //
    },
    driver,
    pci,
    prelude::*,
    types::Opaque, //
};

/// The state of the channel to a function (`pci_channel_state_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Registers work.
    Normal,
    /// Registers are blocked; the function may come back.
    Frozen,
    /// The function is lost.
    PermanentFailure,
}

/// What a driver makes of an error (`pci_ers_result_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorResult {
    /// The driver can go on without a reset.
    CanRecover,
    /// The function has to be reset.
    NeedReset,
    /// The driver has given up.
    Disconnect,
    /// The driver goes on.
    Recovered,
}

impl ErrorResult {
    fn as_raw(self) -> bindings::pci_ers_result_t {
        match self {
            ErrorResult::CanRecover => bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER,
            ErrorResult::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            ErrorResult::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
            ErrorResult::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
        }
    }
}

/// A driver of PCI functions, each a management device.
///
/// # Context
///
/// All functions are called in process context with the lock of the device held, and may sleep.
/// Operations of the vDPA device may run at the same time.
pub trait Driver: mgmt::Operations {
    /// The functions that the driver binds to without being told to.
    const ID_TABLE: pci::IdTable<()>;

    /// Sets a function up. Nothing is visible to others yet.
    ///
    /// # Errors
    ///
    /// The caller logs nothing: say why a function is refused.
    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// Returns what `vdpa mgmtdev show` tells.
    fn describe(data: &Self::Data<'_>) -> mgmt::Description;

    /// Called before the vDPA device is removed: consumers are still there.
    fn unbind(data: &Self::Data<'_>);

    /// Stops the function for good; the machine goes down. Consumers are still there.
    fn shutdown(data: &Self::Data<'_>);

    /// An error was detected.
    fn error_detected(data: &Self::Data<'_>, state: ChannelState) -> ErrorResult;

    /// The function was reset after an error; its configuration space is restored next.
    fn slot_reset(data: &Self::Data<'_>) -> ErrorResult;

    /// The recovery from an error is complete.
    fn resume(data: &Self::Data<'_>);

    /// The function is about to be reset. It must be left alone when this returns.
    fn reset_prepare(data: &Self::Data<'_>);

    /// The function was reset, and its configuration space is restored.
    fn reset_done(data: &Self::Data<'_>);
}

/// The drvdata of a bound function.
#[pin_data]
pub struct Binding<'bound, D: Driver> {
    #[pin]
    mgmt: mgmt::Device<'bound, D>,
}

impl<'bound, D: Driver> Deref for Binding<'bound, D> {
    type Target = D::Data<'bound>;

    fn deref(&self) -> &Self::Target {
        self.mgmt.data()
    }
}

/// Turns a [`Driver`] into what the kernel crate calls a driver.
struct Glue<D>(PhantomData<D>);

impl<D: Driver> pci::Driver for Glue<D> {
    type IdInfo = ();
    type Data<'bound> = Binding<'bound, D>;

    const ID_TABLE: pci::IdTable<()> = D::ID_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound ()>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        try_pin_init!(Binding {
            // SAFETY: The driver core drops the drvdata, thus the management device, while the
            // device is still bound, also if probe fails later. Nobody else can take it out of a
            // `Binding`.
            mgmt <- unsafe {
                mgmt::Device::new(pdev.as_ref(), D::probe(pdev), |data| D::describe(data))
            },
        })
    }

    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        D::unbind(&this);
        // The drvdata is dropped later than this, when the PCI core has let go of the device.
        this.mgmt.unregister();
    }
}

/// The PCI driver of a [`Driver`], for [`kernel::module_driver!`].
pub struct Adapter<D: Driver>(PhantomData<D>);

impl<D: Driver> Adapter<D> {
    const ERROR_HANDLERS: bindings::pci_error_handlers = bindings::pci_error_handlers {
        error_detected: Some(Self::error_detected_callback),
        slot_reset: Some(Self::slot_reset_callback),
        resume: Some(Self::resume_callback),
        reset_prepare: Some(Self::reset_prepare_callback),
        reset_done: Some(Self::reset_done_callback),
        ..pin_init::zeroed()
    };

    /// Calls `f` with the data of a bound function.
    ///
    /// `f` is generic over the lifetime of the binding, hence cannot keep the data.
    ///
    /// # Safety
    ///
    /// `pdev` is bound to this driver, and stays so during the call. The PCI core ensures both for
    /// callbacks by holding the device lock, as it does during probe and removal: the former has
    /// either set the drvdata or failed when a callback comes, and the latter takes the driver away
    /// before the lock is given up. (Only xen-pcifront calls the error handlers of its functions
    /// without the lock, which races with the removal of any driver.)
    unsafe fn with<R>(
        pdev: *mut bindings::pci_dev,
        f: impl for<'bound> FnOnce(&D::Data<'bound>) -> R,
    ) -> R {
        // SAFETY: `pci::Device` is a transparent wrapper, and the device is bound.
        let pdev = unsafe { &*pdev.cast::<pci::Device<BoundInternal>>() };
        // SAFETY: `probe` has succeeded, so the drvdata is set, to a `Binding` of this driver.
        let binding = unsafe { pdev.as_ref().drvdata_borrow::<Binding<'_, D>>() };

        f(binding.mgmt.data())
    }

    extern "C" fn shutdown_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this for devices bound to this driver only.
        unsafe { Self::with(pdev, |data| D::shutdown(data)) }
    }

    extern "C" fn error_detected_callback(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let state = match state {
            bindings::pci_channel_io_normal => ChannelState::Normal,
            bindings::pci_channel_io_frozen => ChannelState::Frozen,
            _ => ChannelState::PermanentFailure,
        };

        // SAFETY: The PCI core calls this for devices bound to this driver only.
        unsafe { Self::with(pdev, |data| D::error_detected(data, state)) }.as_raw()
    }

    extern "C" fn slot_reset_callback(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: The PCI core calls this for devices bound to this driver only.
        unsafe { Self::with(pdev, |data| D::slot_reset(data)) }.as_raw()
    }

    extern "C" fn resume_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this for devices bound to this driver only.
        unsafe { Self::with(pdev, |data| D::resume(data)) }
    }

    extern "C" fn reset_prepare_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this for devices bound to this driver only.
        unsafe { Self::with(pdev, |data| D::reset_prepare(data)) }
    }

    extern "C" fn reset_done_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this for devices bound to this driver only.
        unsafe { Self::with(pdev, |data| D::reset_done(data)) }
    }
}

// SAFETY: The type of the driver and the offset are those of the kernel crate's adapter, and so is the
// drvdata, which is `<Glue<D> as pci::Driver>::Data`.
unsafe impl<D: Driver> driver::DriverLayout for Adapter<D> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = Binding<'bound, D>;
    const DEVICE_DRIVER_OFFSET: usize =
        <pci::Adapter<Glue<D>> as driver::DriverLayout>::DEVICE_DRIVER_OFFSET;
}

// SAFETY: Registration and its end are forwarded to the kernel crate's adapter.
unsafe impl<D: Driver> driver::RegistrationOps for Adapter<D> {
    unsafe fn register(
        pdrv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The driver is not registered yet, and `pdrv` is valid. The adapter sets other fields,
        // and leaves these alone. The handlers are static.
        unsafe {
            (*pdrv.get()).shutdown = Some(Self::shutdown_callback);
            (*pdrv.get()).err_handler = &Self::ERROR_HANDLERS;
        }
        // SAFETY: The module is being loaded, and has one driver. What was registered goes below, or in
        // `unregister()`.
        unsafe { virtio_bus::register(name, module) }?;
        // SAFETY: By the safety requirements of this function.
        unsafe { <pci::Adapter<Glue<D>> as driver::RegistrationOps>::register(pdrv, name, module) }
            // SAFETY: It was registered, and there is no function whose driver could call it.
            .inspect_err(|_| unsafe { virtio_bus::unregister() })
    }

    unsafe fn unregister(pdrv: &Opaque<Self::DriverType>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { <pci::Adapter<Glue<D>> as driver::RegistrationOps>::unregister(pdrv) };
        // SAFETY: It was registered, and no function is bound any more.
        unsafe { virtio_bus::unregister() };
    }
}
