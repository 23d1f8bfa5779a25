// SPDX-License-Identifier: GPL-2.0

//! The management device: `vdpa dev add` and `vdpa dev del`.

use super::{
    device::VfDevice,
    driver::VfVdpa,
    function::Function,
    profile::Profile, //
};
use kernel::prelude::*;
use vdpa::mgmt::{
    Adder,
    Attribute,
    Description,
    Operations, //
};

/// What `vdpa dev add` may be told. `mac` has to reach the device through its control queue.
const ATTRIBUTES: &[Attribute] = &[Attribute::DeviceFeatures, Attribute::MaxVqp, Attribute::Mtu];

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
        function.shared.control.lock().profile = Some(profile);

        // Consumers may use the device from here on: no lock is held.
        adder
            .register::<VfDevice>(profile.nvqs, Ok::<_, Error>(profile))
            .inspect_err(|_| function.retire())
    }

    fn dev_del<'a>(function: &Function<'a>) {
        function.retire();
    }
}

impl Function<'_> {
    /// Forgets the vDPA device. It has no consumer any more.
    fn retire(&self) {
        if let Err(error) = self.reset() {
            dev_err!(self.pdev, "cannot be reset (error {})\n", error.to_errno());
        }
        self.shared.control.lock().profile = None;
    }
}
