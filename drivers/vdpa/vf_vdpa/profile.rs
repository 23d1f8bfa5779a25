// SPDX-License-Identifier: GPL-2.0

//! What an administrator made of a function: the result of `vdpa dev add`.

use super::{
    control::MAC_COMMAND,
    limits::Limits, //
};
use kernel::{
    device,
    prelude::*, //
};
use vdpa::{
    mgmt::Attributes,
    Text, //
};
use virtio::{
    device_id::DeviceId,
    features::{
        self,
        Features, //
    },
    net::{
        self,
        Overlay, //
    },
    policy,
    queue::{
        self,
        QueueMap, //
    }, //
};

/// What a device has to offer, so that it can be given a MAC address.
const NEEDED_FOR_MAC: Features = features::net::MAC.union(MAC_COMMAND);

/// The properties of a vDPA device, fixed when it is added.
#[derive(Clone, Copy)]
pub(crate) struct Profile {
    /// The features that are offered, and beyond which nothing is accepted.
    pub(crate) features: Features,
    /// Where the consumer's virtqueues are in the function.
    pub(crate) map: QueueMap,
    /// What the configuration shows instead of the function's values, when the device is added.
    pub(crate) overlay: Overlay,
    /// The number of virtqueues.
    pub(crate) nvqs: u16,
    /// The control queue is served by the kernel, and has an address space of its own.
    pub(crate) serves_control: bool,
}

impl Profile {
    /// Checks a request against the function.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if a value is out of range, or the features are none that a device may offer.
    /// - `EOPNOTSUPP` if the function cannot do what is asked for.
    ///
    /// Each is explained in one log line, as netlink has no place for it here.
    pub(crate) fn new(
        dev: &device::Device,
        limits: &Limits,
        attributes: Attributes<'_>,
    ) -> Result<Self> {
        let requested = attributes.device_features().map(Features::from_bits);
        let offered = policy::provision(limits.offered, requested, limits.id).map_err(|error| {
            dev_err!(dev, "dev add refused: {}\n", Text(error.named(limits.id)));
            EINVAL
        })?;

        let mut overlay = Overlay::default();
        let mut pairs = limits.pairs;
        if let Some(requested) = attributes.max_vqp() {
            if limits.id != DeviceId::NET {
                dev_err!(
                    dev,
                    "dev add refused: max_vqp is for network devices only\n"
                );
                return Err(EOPNOTSUPP);
            }
            pairs = net::check_max_vqp(requested, limits.pairs).map_err(|error| {
                dev_err!(dev, "dev add refused: {}\n", Text(error));
                EINVAL
            })?;
        }
        if limits.id == DeviceId::NET {
            overlay.max_virtqueue_pairs = Some(pairs);
        }
        if let Some(requested) = attributes.mtu() {
            let has_mtu = offered.contains(features::net::MTU);
            let mtu = net::check_mtu(requested, limits.mtu, has_mtu).map_err(|error| {
                dev_err!(dev, "dev add refused: {}\n", Text(error));
                if has_mtu {
                    EINVAL
                } else {
                    EOPNOTSUPP
                }
            })?;
            overlay.mtu = Some(mtu);
        }

        let serves_control = policy::serves_control(offered, limits.id);
        if let Some(requested) = attributes.mac() {
            overlay.mac = Some(check_mac(dev, limits.id, offered, requested)?);
        }

        Ok(Self {
            features: offered,
            serves_control,
            map: QueueMap::new(pairs, limits.hardware_pairs).map_err(|error| {
                dev_err!(dev, "dev add refused: {}\n", Text(error));
                EINVAL
            })?,
            overlay,
            nvqs: queue::queue_count(limits.id, offered, pairs, limits.nvqs()),
        })
    }

    /// Returns whether the device can be given a MAC address.
    pub(crate) fn takes_mac(&self) -> bool {
        self.serves_control && self.features.contains(NEEDED_FOR_MAC)
    }
}

/// Checks a MAC address for a device that offers `features`.
///
/// # Errors
///
/// - `EINVAL` if no station can have it.
/// - `EOPNOTSUPP` if the device cannot be given one, or the consumer could give it another.
pub(crate) fn check_mac(
    dev: &device::Device,
    id: DeviceId,
    features: Features,
    requested: [u8; 6],
) -> Result<[u8; 6]> {
    let missing = NEEDED_FOR_MAC.difference(features);

    if id != DeviceId::NET {
        dev_err!(dev, "mac refused: is for network devices only\n");
        return Err(EOPNOTSUPP);
    }
    if !missing.is_empty() {
        dev_err!(
            dev,
            "mac refused: the device does not offer {}\n",
            Text(missing.names(id))
        );
        return Err(EOPNOTSUPP);
    }
    if !policy::serves_control(features, id) {
        dev_err!(dev, "mac refused: not with packed rings\n");
        return Err(EOPNOTSUPP);
    }
    net::check_mac(requested).map_err(|error| {
        dev_err!(dev, "mac refused: {}\n", Text(error));
        EINVAL
    })
}
