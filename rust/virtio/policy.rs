// SPDX-License-Identifier: GPL-2.0

//! Which features may pass from a function to the consumer of a vDPA device.
//!
//! Bit by bit, what [`offered`] does with a feature that the function has:
//!
//! | bit    | feature            | passed | why                                                          |
//! |--------|--------------------|--------|--------------------------------------------------------------|
//! | 0..23  | device type        | yes    | between the consumer's driver and the device, or the commands of its control queue are known |
//! | 24     | NOTIFY_ON_EMPTY    | no     | legacy interface only; a VERSION_1 driver has no use for it  |
//! | 25     | reserved           | no     | never assigned, so its effect cannot be known                |
//! | 26     | reserved           | no     | vhost uses it for "log all writes", a device cannot mean that |
//! | 27     | ANY_LAYOUT         | no     | legacy interface only and implied by VERSION_1; vhost-net once gave it another meaning |
//! | 28     | RING_INDIRECT_DESC | yes    | ring format, in memory that driver and device share          |
//! | 29     | RING_EVENT_IDX     | yes    | ring format, in memory that driver and device share          |
//! | 30     | reserved           | no     | vhost-user uses it for its protocol features; QEMU calls a guest that accepts it broken |
//! | 31     | reserved           | no     | never assigned                                               |
//! | 32     | VERSION_1          | yes    | required: vDPA has no legacy interface                       |
//! | 33     | ACCESS_PLATFORM    | yes    | required: without it the device does DMA past the IOMMU      |
//! | 34     | RING_PACKED        | yes    | ring format; addresses and size pass through the same operations. Only on request: see [`default`] |
//! | 35     | IN_ORDER           | yes    | ring format, in memory that driver and device share. Only on request, too |
//! | 36     | ORDER_PLATFORM     | yes    | tells the consumer's driver to use barriers that hardware sees |
//! | 37     | SR_IOV             | no     | speaks about the PCI function, which a consumer does not have |
//! | 38     | NOTIFICATION_DATA  | no     | a kick through vhost-vdpa is an eventfd and carries no ring position |
//! | 39     | NOTIF_CONFIG_DATA  | no     | no operation tells a consumer the value to write             |
//! | 40     | RING_RESET         | no     | no operation for it; the parent uses it itself, see [`hardware_only`] |
//! | 41     | ADMIN_VQ           | no     | administers the other functions of a group: not a consumer's business, and its queues lie outside the consumer's |
//! | 42     | reserved           | no     | its effect cannot be known                                   |
//! | 43     | SUSPEND            | no     | a device status bit that vhost does not know; the parent uses it itself when a consumer suspends, see [`hardware_only`] |
//! | 44..49 | reserved           | no     | their effect cannot be known; Linux borrows 46 and 47 for bits of its own between tap and vhost |
//! | 50..63 | device type        | yes    | as 0..23, but not DEVICE_STATS and HASH_TUNNEL of network devices: their commands are not known |
//! | 64..   |                    | no     | the vDPA bus carries 64 bits                                 |

use core::fmt;

use crate::control;
use crate::device_id::DeviceId;
use crate::features::net;
use crate::features::Features;
use crate::requirement::coherent;
use crate::requirement::unmet;

/// What every function must have and every consumer must accept.
pub const MANDATORY: Features = Features::VERSION_1.union(Features::ACCESS_PLATFORM);

/// Bits 0 to 23 and 50 to 63, which belong to the device type (virtio 1.3, 2.2).
const DEVICE_TYPE: Features = Features::from_bits(0xfffc_0000_00ff_ffff);

/// Ring and platform features that need nothing from the parent; see the table above.
const RING: Features = Features::RING_INDIRECT_DESC
    .union(Features::RING_EVENT_IDX)
    .union(Features::VERSION_1)
    .union(Features::ACCESS_PLATFORM)
    .union(Features::RING_PACKED)
    .union(Features::IN_ORDER)
    .union(Features::ORDER_PLATFORM);

/// The part of the `device` features of a function that may be offered through vDPA.
///
/// The bits of the device type pass whatever the type is, so that classes that this crate does not
/// know are not blocked. The exception are those of network devices whose commands a parent that
/// serves the control queue refuses ([`control::UNSUPPORTED`]).
#[must_use]
pub const fn offered(device: Features, id: DeviceId) -> Features {
    let features = device.intersection(DEVICE_TYPE.union(RING));
    if id.id() == DeviceId::NET.id() {
        features.difference(control::UNSUPPORTED)
    } else {
        features
    }
}

/// What a network device may offer without keeping QEMU from migrating its guest: the features that
/// QEMU's shadow virtqueues know (`hw/virtio/vhost-shadow-virtqueue.c`, `net/vhost-vdpa.c`). It looks at
/// what is offered, not at what the guest accepts.
const MIGRATABLE: Features = net::CSUM
    .union(net::GUEST_CSUM)
    .union(net::CTRL_GUEST_OFFLOADS)
    .union(net::MTU)
    .union(net::MAC)
    .union(net::GUEST_TSO4)
    .union(net::GUEST_TSO6)
    .union(net::GUEST_ECN)
    .union(net::GUEST_UFO)
    .union(net::HOST_TSO4)
    .union(net::HOST_TSO6)
    .union(net::HOST_ECN)
    .union(net::HOST_UFO)
    .union(net::MRG_RXBUF)
    .union(net::STATUS)
    .union(net::CTRL_VQ)
    .union(net::CTRL_RX)
    .union(net::CTRL_VLAN)
    .union(net::CTRL_RX_EXTRA)
    .union(net::MQ)
    .union(net::CTRL_MAC_ADDR)
    .union(net::HASH_REPORT)
    .union(net::RSS)
    .union(net::RSC_EXT)
    .union(net::STANDBY)
    .union(net::SPEED_DUPLEX)
    .union(Features::RING_EVENT_IDX)
    .union(MANDATORY);

/// The features of those `offered` by a function that a new vDPA device of type `id` gets if nobody
/// asks for others: of a network device, those with which its guest can be migrated; of any other, all
/// but the ring formats of which nobody can find out where they stand. So every one is [movable] if its
/// driver accepts all of them.
///
/// [movable]: is_movable
#[must_use]
pub const fn default(offered: Features, id: DeviceId) -> Features {
    if id.id() == DeviceId::NET.id() {
        offered.intersection(MIGRATABLE)
    } else {
        offered.difference(SILENT)
    }
}

/// Ring formats that do not tell where each chain stands.
const SILENT: Features = Features::RING_PACKED.union(Features::IN_ORDER);

/// Whether a device that works with these features can be stopped and go on elsewhere: its rings tell
/// where it stands, each chain by itself.
#[must_use]
pub const fn is_movable(accepted: Features) -> bool {
    !accepted.intersects(SILENT)
}

/// Whether the parent serves the control queue of a vDPA device of type `id` that offers these
/// `features`. Else it is the hardware's, like any other queue.
#[must_use]
pub const fn serves_control(features: Features, id: DeviceId) -> bool {
    id.id() == DeviceId::NET.id()
        && features.contains(net::CTRL_VQ)
        && !features.contains(Features::RING_PACKED)
}

/// The part of the `device` features of a function that the parent negotiates for itself and the
/// consumer never sees.
#[must_use]
pub const fn hardware_only(device: Features) -> Features {
    device.intersection(Features::RING_RESET.union(Features::SUSPEND))
}

/// A function lacks features without which it cannot be a vDPA device.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MissingFeature(Features);

impl MissingFeature {
    /// The features that are missing.
    #[must_use]
    pub const fn features(self) -> Features {
        self.0
    }
}

impl fmt::Display for MissingFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // None of the mandatory features belongs to a class.
        let names = self.0.names(DeviceId::new(0));
        write!(f, "function does not offer {names}")?;
        if self.0.contains(Features::ACCESS_PLATFORM) {
            f.write_str(", its DMA would bypass the IOMMU")?;
        }
        Ok(())
    }
}

/// Checks that a function with the features `device` can be a vDPA device at all.
pub const fn required(device: Features) -> Result<(), MissingFeature> {
    let missing = MANDATORY.difference(device);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(MissingFeature(missing))
    }
}

/// Why a provisioning request (`vdpa dev add ... device_features`) was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProvisionError {
    /// These features were requested and the function does not offer them.
    NotOffered(Features),
    /// These features were left out of the request and no vDPA device can do without them.
    Missing(Features),
    /// Some of the requested features require others that were left out: see [`unmet`].
    Unmet {
        /// All features that were requested.
        requested: Features,
        /// The type of the device, on which the requirements depend.
        id: DeviceId,
    },
}

impl ProvisionError {
    /// The error for display, with the names that bits have in devices of type `id`.
    #[must_use]
    pub const fn named(self, id: DeviceId) -> NamedProvisionError {
        NamedProvisionError { error: self, id }
    }
}

/// A [`ProvisionError`] that names bits of the device type; see [`ProvisionError::named`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NamedProvisionError {
    error: ProvisionError,
    id: DeviceId,
}

impl fmt::Display for NamedProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            ProvisionError::NotOffered(features) => write!(
                f,
                "requested device features not offered by the function: {}",
                features.names(self.id)
            ),
            ProvisionError::Missing(features) => write!(
                f,
                "requested device features lack {}, which a vDPA device cannot do without",
                features.names(self.id)
            ),
            ProvisionError::Unmet { requested, id } => {
                // All that are not met, so that nobody has to find one after the other by trial.
                let mut separator = "requested device features lack ";
                for unmet in unmet(requested, id) {
                    f.write_str(separator)?;
                    separator = ", ";
                    if unmet.needs.bits().count_ones() > 1 {
                        f.write_str("one of ")?;
                    }
                    write!(
                        f,
                        "{} (required by {})",
                        unmet.needs.names(self.id),
                        unmet.features.names(self.id)
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named(DeviceId::new(0)).fmt(f)
    }
}

/// The features that a new vDPA device gets, out of those that the function has `offered`: the
/// `requested` ones, or those of [`default`] for a device of type `id` if the request names none.
///
/// It is a set that a device may offer, and that [`accept`] takes as a whole. A request has to be one; of
/// the default, what a function that contradicts itself offers alone is left out. That is no fault of
/// whoever asked for nothing, and no driver has to cope with it: Linux's would not.
///
/// # Errors
///
/// What is wrong with the request, in the order of [`ProvisionError`] if several things are.
pub fn provision(
    offered: Features,
    requested: Option<Features>,
    id: DeviceId,
) -> Result<Features, ProvisionError> {
    let features = requested.unwrap_or(coherent(default(offered, id), id));
    let unknown = features.difference(offered);
    let missing = MANDATORY.difference(features);
    if !unknown.is_empty() {
        Err(ProvisionError::NotOffered(unknown))
    } else if !missing.is_empty() {
        Err(ProvisionError::Missing(missing))
    } else if unmet(features, id).next().is_some() {
        Err(ProvisionError::Unmet {
            requested: features,
            id,
        })
    } else {
        Ok(features)
    }
}

/// Why the features of a consumer were refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// The consumer accepted features that it was not offered.
    NotOffered {
        /// The features in excess.
        features: Features,
        /// The type of the device, for the names of the features.
        id: DeviceId,
    },
    /// The consumer did not accept features that it has to.
    Missing(Features),
    /// The consumer accepted network features that need a control queue, and not the control queue.
    NeedsControlQueue(Features),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotOffered { features, id } => write!(
                f,
                "driver accepted features that it was not offered: {}",
                features.names(id)
            ),
            Self::Missing(features) => write!(
                f,
                "driver did not accept {}, which a vDPA device cannot do without",
                features.names(DeviceId::new(0))
            ),
            Self::NeedsControlQueue(features) => write!(
                f,
                "driver accepted {} without CTRL_VQ",
                features.names(DeviceId::NET)
            ),
        }
    }
}

/// Checks the features that a consumer accepted (`driver`) against those that the vDPA device
/// `offered`, for a device of type `id`.
///
/// The empty set passes: the vDPA core writes it before the first configuration access, and a
/// consumer that goes no further does no harm.
///
/// Of the dependencies between features (virtio 1.3, 5.1.3.1) only those are enforced on which the
/// index of the control queue depends; the others are the device's to judge at FEATURES_OK. What may be
/// offered is stricter, as nobody else judges that: see [`provision`].
pub fn accept(offered: Features, driver: Features, id: DeviceId) -> Result<(), AcceptError> {
    if driver.is_empty() {
        return Ok(());
    }
    let features = driver.difference(offered);
    if !features.is_empty() {
        return Err(AcceptError::NotOffered { features, id });
    }
    let missing = MANDATORY.difference(driver);
    if !missing.is_empty() {
        return Err(AcceptError::Missing(missing));
    }
    let multiqueue = driver.intersection(net::MQ.union(net::RSS));
    if id == DeviceId::NET && !multiqueue.is_empty() && !driver.contains(net::CTRL_VQ) {
        return Err(AcceptError::NeedsControlQueue(multiqueue));
    }
    Ok(())
}
