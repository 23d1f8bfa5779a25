// SPDX-License-Identifier: GPL-2.0

//! Management devices.
//!
//! A management device is where `vdpa dev add` makes vDPA devices. It is visible as
//! `<bus>/<device>` of its parent, e.g. `pci/0000:01:00.2`.
//!
//! C header: [`include/linux/vdpa.h`](srctree/include/linux/vdpa.h)

use super::{
    bindings,
    device::{
        self,
        Spaces, //
    },
    Device as VdpaDevice,
    Operations as DeviceOperations, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomPinned,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    device as driver_core,
    error::{
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        }, //
    },
    types::Opaque, //
};

/// A provisioning attribute of `vdpa dev add` and `vdpa dev set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `device_features`.
    DeviceFeatures,
    /// `mac`.
    Mac,
    /// `mtu`.
    Mtu,
    /// `max_vqp`.
    MaxVqp,
}

impl Attribute {
    const fn mask(self) -> u64 {
        1 << match self {
            Attribute::DeviceFeatures => bindings::vdpa_attr_VDPA_ATTR_DEV_FEATURES,
            Attribute::Mac => bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MACADDR,
            Attribute::Mtu => bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MTU,
            Attribute::MaxVqp => bindings::vdpa_attr_VDPA_ATTR_DEV_NET_CFG_MAX_VQP,
        }
    }
}

/// What `vdpa mgmtdev show` tells of a management device.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The virtio device ID of the devices that can be made.
    pub device_id: u32,
    /// The virtio features that a device can have.
    pub supported_features: u64,
    /// The number of virtqueues that a device can have.
    pub max_supported_vqs: u32,
    /// The attributes that [`Operations::dev_add`] takes. The core refuses others with
    /// `EOPNOTSUPP`.
    pub attributes: &'static [Attribute],
}

/// The attributes of a request.
#[derive(Clone, Copy)]
pub struct Attributes<'c>(&'c bindings::vdpa_dev_set_config);

impl Attributes<'_> {
    fn get<T>(self, attribute: Attribute, value: T) -> Option<T> {
        (self.0.mask & attribute.mask() != 0).then_some(value)
    }

    /// Returns the virtio features that the device shall offer.
    pub fn device_features(self) -> Option<u64> {
        self.get(Attribute::DeviceFeatures, self.0.device_features)
    }

    /// Returns the MAC address that the device shall have.
    pub fn mac(self) -> Option<[u8; 6]> {
        self.get(Attribute::Mac, self.0.net.mac)
    }

    /// Returns the MTU in bytes that the device shall show, at least 68.
    pub fn mtu(self) -> Option<u16> {
        self.get(Attribute::Mtu, self.0.net.mtu)
    }

    /// Returns the number of queue pairs that the device shall have, at least 1.
    pub fn max_vqp(self) -> Option<u16> {
        self.get(Attribute::MaxVqp, self.0.net.max_vq_pairs)
    }
}

/// A request for a new vDPA device.
pub struct AddRequest<'c> {
    mdev: NonNull<bindings::vdpa_mgmt_dev>,
    name: &'c CStr,
    attributes: Attributes<'c>,
}

impl<'c> AddRequest<'c> {
    /// Returns the name of the new device.
    pub fn name(&self) -> &'c CStr {
        self.name
    }

    /// Returns the attributes of the new device.
    pub fn attributes(&self) -> Attributes<'c> {
        self.attributes
    }
}

/// A request for a new vDPA device, together with what that is to be made of.
///
/// The request and the data of the management device come from the same call of `dev_add`.
pub struct Adder<'c, 'a, M: Operations> {
    request: AddRequest<'c>,
    parent: &'c M::Data<'a>,
}

impl<'c, 'a, M: Operations> Adder<'c, 'a, M> {
    /// Returns the request.
    pub fn request(&self) -> &AddRequest<'c> {
        &self.request
    }

    /// Returns the data of the management device.
    pub fn parent(&self) -> &'c M::Data<'a> {
        self.parent
    }

    /// Makes the vDPA device, with one group of virtqueues and one address space.
    ///
    /// Consumers may call its operations before this returns.
    ///
    /// # Errors
    ///
    /// - `EEXIST` if the name is taken.
    /// - `ENOMEM`, and what `data` returns.
    pub fn register<T>(self, nvqs: u16, data: impl PinInit<T::Data, Error>) -> Result
    where
        T: DeviceOperations<Management = M>,
    {
        self.register_with_spaces::<T>(nvqs, 1, 1, data)
    }

    /// Like [`register`](Self::register), with groups of virtqueues and address spaces.
    pub fn register_with_spaces<T>(
        self,
        nvqs: u16,
        groups: u32,
        address_spaces: u32,
        data: impl PinInit<T::Data, Error>,
    ) -> Result
    where
        T: DeviceOperations<Management = M>,
    {
        let spaces = Spaces {
            groups,
            address_spaces,
        };
        // SAFETY:
        // - An `Adder` exists only within `dev_add`.
        // - `parent` is pinned within the `Device<M>` that `mdev` belongs to. That unregisters all
        //   vDPA devices before it drops its data.
        unsafe {
            VdpaDevice::<T>::register(
                self.request.mdev,
                self.parent,
                self.request.name,
                nvqs,
                spaces,
                data,
            )
        }
    }
}

/// The operations of a management device (`struct vdpa_mgmtdev_ops`).
///
/// # Context
///
/// All are called in process context, with the lock of the vDPA bus held for writing: no other
/// operation of a management device runs at the same time, anywhere in the system.
#[vtable]
pub trait Operations: Sized + 'static {
    /// The data of the management device. Operations of its vDPA devices work on it, too.
    type Data<'a>: Send + Sync + 'a;

    /// Makes a vDPA device by [`Adder::register`].
    ///
    /// # Errors
    ///
    /// The error is all that the user sees: log what it means.
    fn dev_add(adder: Adder<'_, '_, Self>) -> Result;

    /// Called after a vDPA device was removed.
    fn dev_del<'a>(data: &Self::Data<'a>) {
        let _ = data;
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes attributes of the vDPA device called `name`. Its configuration lock is held for
    /// writing.
    ///
    /// # Errors
    ///
    /// The error is all that the user sees: log what it means.
    fn dev_set_attr<'a>(data: &Self::Data<'a>, name: &CStr, attributes: Attributes<'_>) -> Result {
        let _ = (data, name, attributes);
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A management device.
///
/// # Invariants
///
/// - `mdev` is registered if and only if `registered` is set.
/// - `mdev` points to `id_table`, which does not change once it is registered.
#[pin_data(PinnedDrop)]
pub struct Device<'a, M: Operations> {
    #[pin]
    mdev: Opaque<bindings::vdpa_mgmt_dev>,
    id_table: UnsafeCell<[bindings::virtio_device_id; 2]>,
    registered: Atomic<bool>,
    #[pin]
    data: M::Data<'a>,
    parent: &'a driver_core::Device,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `mdev` is protected by the lock of the vDPA bus; `id_table` does not change. The data is
// `Send`, and may be dropped by any thread.
unsafe impl<M: Operations> Send for Device<'_, M> {}

// SAFETY: As above. The data is `Sync`, as is the parent device, of which there is but a reference.
unsafe impl<M: Operations> Sync for Device<'_, M> {}

impl<'a, M: Operations> Device<'a, M> {
    const OPS: bindings::vdpa_mgmtdev_ops = bindings::vdpa_mgmtdev_ops {
        dev_add: Some(Self::dev_add_callback),
        dev_del: Some(Self::dev_del_callback),
        dev_set_attr: if M::HAS_DEV_SET_ATTR {
            Some(Self::dev_set_attr_callback)
        } else {
            None
        },
    };

    /// Makes and registers a management device for `parent`.
    ///
    /// [`unregister`](Self::unregister) must be called from a context that may wait for consumers;
    /// dropping the device does so, too.
    ///
    /// # Safety
    ///
    /// The device must be dropped before `'a` ends, i.e. it must not be forgotten.
    pub unsafe fn new(
        parent: &'a driver_core::Device,
        data: impl PinInit<M::Data<'a>, Error>,
        describe: impl FnOnce(&M::Data<'a>) -> Description,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            mdev: Opaque::zeroed(),
            id_table: UnsafeCell::new(pin_init::zeroed()),
            registered: Atomic::new(false),
            data <- data,
            parent,
            _pin: PhantomPinned,
        })
        .pin_chain(|this| this.as_ref().get_ref().register(describe))
    }

    /// Returns the data.
    pub fn data(&self) -> &M::Data<'a> {
        &self.data
    }

    /// Registers the device. Called once, by [`new`](Self::new).
    fn register(&self, describe: impl FnOnce(&M::Data<'a>) -> Description) -> Result {
        let description = describe(&self.data);
        let mask = |mask, attribute: &Attribute| mask | attribute.mask();

        // SAFETY: `self` is pinned and not shared yet. A parent device is a transparent wrapper of
        // the C type. The second entry of the table stays zero, which ends it.
        unsafe {
            (*self.id_table.get())[0] = bindings::virtio_device_id {
                device: description.device_id,
                vendor: bindings::VIRTIO_DEV_ANY_ID,
            };
            self.mdev.get().write(bindings::vdpa_mgmt_dev {
                device: core::ptr::from_ref(self.parent).cast_mut().cast(),
                ops: &Self::OPS,
                id_table: self.id_table.get().cast(),
                config_attr_mask: description.attributes.iter().fold(0, mask),
                supported_features: description.supported_features,
                max_supported_vqs: description.max_supported_vqs,
                ..pin_init::zeroed()
            });
        }
        // SAFETY: `mdev` was just initialized, and lives until it is unregistered by `drop`.
        to_result(unsafe { bindings::vdpa_mgmtdev_register(self.mdev.get()) })?;
        // INVARIANT: It was just registered.
        self.registered.store(true, kernel::sync::atomic::Release);
        Ok(())
    }

    /// Unregisters the device, if it is registered, and removes all of its vDPA devices.
    ///
    /// Waits for consumers to leave, for however long they take.
    pub fn unregister(&self) {
        // INVARIANT: The device is unregistered next, by whoever came first.
        if self.registered.xchg(false, Full) {
            // SAFETY: By the type invariant.
            unsafe { bindings::vdpa_mgmtdev_unregister(self.mdev.get()) };
        }
    }

    /// Returns the device that a C structure belongs to.
    ///
    /// # Safety
    ///
    /// - `mdev` was registered by [`register`](Self::register) of a `Self`, and is still.
    /// - The reference is not used beyond the callback of the core, which holds the lock of the bus.
    unsafe fn from_raw<'c>(mdev: *mut bindings::vdpa_mgmt_dev) -> &'c Self {
        // SAFETY: By the safety requirements, `mdev` is a field of a `Self`. That is dropped when it is
        // unregistered, which waits for the lock. The data is initialized before it is registered.
        unsafe { &*mdev.byte_sub(offset_of!(Self, mdev)).cast::<Self>() }
    }

    extern "C" fn dev_add_callback(
        mdev: *mut bindings::vdpa_mgmt_dev,
        name: *const c_char,
        config: *const bindings::vdpa_dev_set_config,
    ) -> c_int {
        // SAFETY: The core only passes what was registered.
        let this = unsafe { Self::from_raw(mdev) };
        // SAFETY: The core passes a valid string, and attributes that it has filled. Both live
        // until this function returns.
        let (name, config) = unsafe { (CStr::from_char_ptr(name), &*config) };

        from_result(|| {
            M::dev_add(Adder {
                request: AddRequest {
                    mdev: NonNull::new(mdev).ok_or(EINVAL)?,
                    name,
                    attributes: Attributes(config),
                },
                parent: &this.data,
            })?;
            Ok(0)
        })
    }

    extern "C" fn dev_del_callback(
        mdev: *mut bindings::vdpa_mgmt_dev,
        vdev: *mut bindings::vdpa_device,
    ) {
        // SAFETY: The core only passes what was registered.
        let this = unsafe { Self::from_raw(mdev) };
        let Some(vdev) = NonNull::new(vdev) else {
            return;
        };

        // SAFETY: The core passes a registered device of this management device, which was thus
        // registered by `VdpaDevice::register`, and holds the lock of the bus.
        unsafe { device::unregister(vdev) };
        if M::HAS_DEV_DEL {
            M::dev_del(&this.data);
        }
    }

    extern "C" fn dev_set_attr_callback(
        mdev: *mut bindings::vdpa_mgmt_dev,
        vdev: *mut bindings::vdpa_device,
        config: *const bindings::vdpa_dev_set_config,
    ) -> c_int {
        // SAFETY: The core only passes what was registered.
        let this = unsafe { Self::from_raw(mdev) };
        // SAFETY: The core passes attributes that it has filled.
        let config = unsafe { &*config };
        // SAFETY: The core passes a registered device, whose name does not change.
        let name = unsafe { CStr::from_char_ptr(bindings::dev_name(&raw const (*vdev).dev)) };

        from_result(|| {
            M::dev_set_attr(&this.data, name, Attributes(config))?;
            Ok(0)
        })
    }
}

#[pinned_drop]
impl<M: Operations> PinnedDrop for Device<'_, M> {
    fn drop(self: Pin<&mut Self>) {
        self.as_ref().get_ref().unregister();
    }
}
