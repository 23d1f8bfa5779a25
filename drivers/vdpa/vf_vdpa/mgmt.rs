// SPDX-License-Identifier: GPL-2.0

//! The management device: `vdpa dev add` and `vdpa dev del`.

use super::{
    device::VfDevice,
    driver::VfVdpa,
    function::Function,
    profile::{
        check_mac,
        Profile, //
    },
    space::SPACES, //
};
use kernel::prelude::*;
use vdpa::mgmt::{
    Adder,
    Attribute,
    Attributes,
    Description,
    Operations, //
};
use virtio::net::Overlay;

/// What `vdpa dev add` may be told.
const ATTRIBUTES: &[Attribute] = &[
    Attribute::DeviceFeatures,
    Attribute::Mac,
    Attribute::MaxVqp,
    Attribute::Mtu,
];

/// What `vdpa mgmtdev show` tells.
pub(crate) fn describe(function: &Function<'_>) -> Description {
    let limits = &function.shared.limits;

    Description {
        device_id: limits.id.id(),
        supported_features: limits.offered.bits(),
        max_supported_vqs: limits.nvqs().into(),
        attributes: ATTRIBUTES,
    }
}

#[vtable]
impl Operations for VfVdpa {
    type Data<'a> = Function<'a>;

    /// # Errors
    ///
    /// - `EBUSY` if there is a vDPA device already.
    /// - `EIO` if the function cannot be reset.
    /// - What [`Profile::new`] returns.
    fn dev_add(adder: Adder<'_, '_, Self>) -> Result {
        let function = adder.parent();
        let attributes = adder.request().attributes();

        if function.shared.control.lock().profile.is_some() {
            dev_err!(
                function.pdev,
                "dev add refused: there is a vDPA device already\n"
            );
            return Err(EBUSY);
        }
        let profile = Profile::new(function.pdev.as_ref(), &function.shared.limits, attributes)?;
        function.reset()?;
        {
            let mut control = function.shared.control.lock();

            control.overlay = profile.overlay;
            control.profile = Some(profile);
        }

        // Consumers may use the device from here on: no lock is held.
        let spaces = if profile.serves_control { SPACES } else { 1 };
        adder
            .register_with_spaces::<VfDevice>(profile.nvqs, spaces, spaces, Ok::<_, Error>(profile))
            .inspect_err(|_| function.retire())
    }

    fn dev_del<'a>(function: &Function<'a>) {
        function.retire();
    }

    /// # Errors
    ///
    /// - `EBUSY` while the device is in use.
    /// - What [`check_mac`] returns.
    fn dev_set_attr<'a>(
        function: &Function<'a>,
        _name: &CStr,
        attributes: Attributes<'_>,
    ) -> Result {
        let mut control = function.shared.control.lock();
        let profile = control.profile.ok_or(ENODEV)?;
        let requested = attributes.mac().ok_or(EOPNOTSUPP)?;
        let id = function.shared.limits.id;
        let mac = check_mac(function.pdev.as_ref(), id, profile.features, requested)?;

        // What is negotiated depends on it, and a driver reads it early.
        if !control.status.is_reset() {
            dev_err!(function.pdev, "mac refused: the device is in use\n");
            return Err(EBUSY);
        }
        control.overlay.mac = Some(mac);
        control.written_mac = None;
        control.generation = control.generation.wrapping_add(1);
        Ok(())
    }
}

impl Function<'_> {
    /// Forgets the vDPA device. It has no consumer any more.
    fn retire(&self) {
        if let Err(error) = self.reset() {
            dev_err!(self.pdev, "cannot be reset (error {})\n", error.to_errno());
        }
        let mut control = self.shared.control.lock();
        control.profile = None;
        control.overlay = Overlay::default();
        control.written_mac = None;
    }
}
