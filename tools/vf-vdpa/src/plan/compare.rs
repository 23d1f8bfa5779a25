// SPDX-License-Identifier: GPL-2.0

//! Where a device differs from what is wanted.

use crate::desired::Wanted;
use crate::device::Device;

/// Where a device differs from what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What can be changed only by making the device anew, for people.
    pub fixed: Vec<String>,
    /// It has another MAC address.
    pub mac: bool,
    /// Somebody else takes it.
    pub bus: bool,
}

impl Difference {
    /// Compares what can be seen. What is not wanted, or not shown, makes no difference.
    pub fn between(device: &Device, wanted: &Wanted, features: Option<u64>) -> Self {
        let mut this = Self {
            bus: device.bus() != Some(wanted.bus),
            ..Self::default()
        };
        let Some(config) = &device.config else {
            return this;
        };
        this.mac = wanted
            .mac
            .is_some_and(|mac| config.mac != Some(mac.bytes()));
        let mut note = |name: &str, seen: Option<u16>, wanted: Option<u16>| {
            let Some(wanted) = wanted.filter(|wanted| seen != Some(*wanted)) else {
                return;
            };
            let seen = seen.map_or_else(|| "none".to_owned(), |seen| seen.to_string());
            this.fixed.push(format!("{name} is {seen}, not {wanted}"));
        };
        note("mtu", config.mtu, wanted.mtu);
        // A device that cannot have several pairs does not show how many it has.
        note("max_vqp", config.max_vqp.or(Some(1)), wanted.max_vqp);
        if features.is_some() && config.features.is_some() && features != config.features {
            this.fixed.push("it has other features".to_owned());
        }
        this
    }
}
