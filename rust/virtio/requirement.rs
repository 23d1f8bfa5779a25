// SPDX-License-Identifier: GPL-2.0

//! Features that require others, and what a device must not offer because of that.

use crate::device_id::DeviceId;
use crate::features::blk;
use crate::features::net;
use crate::features::Features;

/// Features that a device must not offer without another one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The features, each of which has the requirement.
    pub features: Features,
    /// What they require: one of these is enough.
    pub needs: Features,
}

/// What network devices must not offer alone: the list of virtio 1.3, 5.1.3.1; of what needs CTRL_VQ also
/// CTRL_RX_EXTRA and HASH_REPORT, which 5.1.4.1 says should not be offered without it, and
/// CTRL_GUEST_OFFLOADS, which is nothing but a command.
///
/// Linux's driver does not make do with the rest of what such a device offers. For most of what needs
/// CTRL_VQ it refuses a device without; for CTRL_GUEST_OFFLOADS it does not, and runs into a `BUG_ON()`
/// when somebody switches an offload.
///
/// HASH_TUNNEL is not here, as it is never [`offered`](crate::policy::offered).
const NET_REQUIREMENTS: &[Requirement] = &[
    Requirement {
        features: net::GUEST_TSO4
            .union(net::GUEST_TSO6)
            .union(net::GUEST_UFO)
            .union(net::GUEST_USO4)
            .union(net::GUEST_USO6),
        needs: net::GUEST_CSUM,
    },
    Requirement {
        features: net::GUEST_ECN,
        needs: net::GUEST_TSO4.union(net::GUEST_TSO6),
    },
    Requirement {
        features: net::HOST_TSO4
            .union(net::HOST_TSO6)
            .union(net::HOST_UFO)
            .union(net::HOST_USO),
        needs: net::CSUM,
    },
    Requirement {
        features: net::HOST_ECN.union(net::RSC_EXT),
        needs: net::HOST_TSO4.union(net::HOST_TSO6),
    },
    Requirement {
        features: net::CTRL_GUEST_OFFLOADS
            .union(net::CTRL_RX)
            .union(net::CTRL_VLAN)
            .union(net::CTRL_RX_EXTRA)
            .union(net::GUEST_ANNOUNCE)
            .union(net::MQ)
            .union(net::CTRL_MAC_ADDR)
            .union(net::VQ_NOTF_COAL)
            .union(net::NOTF_COAL)
            .union(net::HASH_REPORT)
            .union(net::RSS),
        needs: net::CTRL_VQ,
    },
];

/// What block devices must not offer alone (virtio 1.3, 5.2.5.2).
const BLOCK_REQUIREMENTS: &[Requirement] = &[Requirement {
    features: blk::CONFIG_WCE,
    needs: blk::FLUSH,
}];

/// The requirements for which a device of type `id` must not offer these `features`, and which of them
/// have each: "The device MUST NOT offer a feature which requires another feature which was not offered"
/// (virtio 1.3, 2.2.2).
///
/// Only network and block devices have some: of other types nothing is known, and nothing blocked.
pub fn unmet(features: Features, id: DeviceId) -> impl Iterator<Item = Requirement> {
    of_type(id)
        .iter()
        .filter(move |requirement| !features.intersects(requirement.needs))
        .map(move |requirement| Requirement {
            features: features.intersection(requirement.features),
            needs: requirement.needs,
        })
        .filter(|unmet| !unmet.features.is_empty())
}

/// The most of these `features` that a device of type `id` may offer: what requires another feature
/// that is not there is left out.
#[must_use]
pub fn coherent(features: Features, id: DeviceId) -> Features {
    // What is required comes before what requires it in turn.
    of_type(id).iter().fold(features, |features, requirement| {
        if features.intersects(requirement.needs) {
            features
        } else {
            features.difference(requirement.features)
        }
    })
}

/// The requirements in devices of type `id`, each behind those of what it needs.
fn of_type(id: DeviceId) -> &'static [Requirement] {
    match id {
        DeviceId::NET => NET_REQUIREMENTS,
        DeviceId::BLOCK => BLOCK_REQUIREMENTS,
        _ => &[],
    }
}
