// SPDX-License-Identifier: GPL-2.0

//! Management devices that have no hardware.

use super::{
    bindings,
    mgmt, //
};
use core::ptr::NonNull;
use kernel::{
    device::Device,
    error::from_err_ptr,
    prelude::*, //
};

/// A device directly below `/sys/devices`. Dropping it unregisters it.
///
/// # Invariants
///
/// The pointer is a registered root device, and `self` owns the registration.
struct RootDevice(NonNull<bindings::device>);

impl RootDevice {
    fn new(name: &CStr, module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The name is copied, the module is valid.
        let ptr = from_err_ptr(unsafe {
            bindings::__root_device_register(name.as_char_ptr(), module.as_ptr())
        })?;

        // INVARIANT: It was just registered.
        Ok(Self(NonNull::new(ptr).ok_or(ENOMEM)?))
    }
}

impl Drop for RootDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::root_device_unregister(self.0.as_ptr()) };
    }
}

// SAFETY: The registration may be undone by any thread.
unsafe impl Send for RootDevice {}

// SAFETY: Nothing can be done with a shared reference.
unsafe impl Sync for RootDevice {}

/// A management device without hardware, visible under its bare name. It is to be kept in the module,
/// and not to be forgotten: it must not outlive the code of its operations.
pub struct Parent<M: mgmt::Operations> {
    // Unregistered before the device that it belongs to.
    _mgmt: Pin<KBox<mgmt::Device<'static, M>>>,
    _root: RootDevice,
}

impl<M: mgmt::Operations> Parent<M> {
    /// Makes and registers a management device.
    ///
    /// # Errors
    ///
    /// - `EEXIST` if the name is taken.
    /// - `ENOMEM`, and what `data` returns.
    pub fn new(
        name: &CStr,
        module: &'static ThisModule,
        data: impl PinInit<M::Data<'static>, Error>,
        describe: impl FnOnce(&M::Data<'static>) -> mgmt::Description,
    ) -> Result<Self> {
        let root = RootDevice::new(name, module)?;
        // SAFETY: The root device is valid while `root` lives; `Device` is a transparent wrapper.
        // The reference is kept by the management device only, which hands it to nobody and is dropped
        // before `root`.
        let device: &'static Device = unsafe { root.0.cast::<Device>().as_ref() };
        // SAFETY: Nothing that it borrows ends before `Self` does, whose fields are dropped in
        // order. If `Self` is forgotten, so is the root device, which stays then.
        let mgmt = unsafe { mgmt::Device::new(device, data, describe) };

        Ok(Self {
            _mgmt: KBox::pin_init(mgmt, GFP_KERNEL)?,
            _root: root,
        })
    }
}
