// SPDX-License-Identifier: GPL-2.0

//! A vDPA network device in software: what its driver sends comes back.
//!
//! It shows how to use the crate `vdpa`, and lets consumers be tried without any hardware:
//! `vdpa dev add name lo0 mgmtdev vdpa_loopback`. Its C counterpart is
//! `drivers/vdpa/vdpa_sim/vdpa_sim_net.c`.

mod device;
mod port;

use device::LoopbackDevice;
use kernel::prelude::*;
use vdpa::{
    mgmt::{
        Adder,
        Attribute,
        Description,
        Operations, //
    },
    software::Parent, //
};
use virtio::{
    device_id::DeviceId,
    features::{
        net,
        Features, //
    },
    policy, //
};

/// What a device can offer.
const FEATURES: Features = policy::MANDATORY
    .union(Features::RING_EVENT_IDX)
    .union(Features::RING_INDIRECT_DESC)
    .union(net::MAC)
    .union(net::MTU)
    .union(net::STATUS);

/// The number of virtqueues: one to receive, one to transmit.
const NVQS: u16 = 2;

/// The largest MTU: what fits a frame without segmentation.
const MAX_MTU: u16 = 9000;

/// The management device. It has no state: every device stands for itself.
struct Loopback;

#[vtable]
impl Operations for Loopback {
    type Data<'a> = ();

    fn dev_add(adder: Adder<'_, '_, Self>) -> Result {
        let attributes = adder.request().attributes();
        let requested = attributes.device_features().map(Features::from_bits);
        let features = policy::provision(FEATURES, requested, DeviceId::NET).map_err(|error| {
            pr_err!(
                "dev add refused: {}\n",
                vdpa::Text(error.named(DeviceId::NET))
            );
            EINVAL
        })?;
        let mtu = attributes.mtu().unwrap_or(1500);
        if mtu > MAX_MTU {
            pr_err!("dev add refused: mtu {} is above {}\n", mtu, MAX_MTU);
            return Err(EINVAL);
        }
        let mac = attributes.mac();
        if let Some(Err(error)) = mac.map(virtio::net::check_mac) {
            pr_err!("dev add refused: {}\n", vdpa::Text(error));
            return Err(EINVAL);
        }

        adder.register::<LoopbackDevice>(NVQS, device::new(features, mac, mtu))
    }
}

struct LoopbackModule {
    _parent: Parent<Loopback>,
}

impl kernel::Module for LoopbackModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let description = Description {
            device_id: DeviceId::NET.id(),
            supported_features: FEATURES.bits(),
            max_supported_vqs: NVQS.into(),
            attributes: &[Attribute::DeviceFeatures, Attribute::Mac, Attribute::Mtu],
        };

        Ok(Self {
            _parent: Parent::new(c"vdpa_loopback", module, Ok::<_, Error>(()), |()| {
                description
            })?,
        })
    }
}

module! {
    type: LoopbackModule,
    name: "rust_vdpa_loopback",
    authors: ["vf-vdpa developers"],
    description: "Rust vDPA sample: a network device that returns what it is sent",
    license: "GPL",
}
