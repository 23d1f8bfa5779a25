// SPDX-License-Identifier: GPL-2.0

//! Virtqueues as numbers: their sizes, addresses, initial states and indices.

use core::fmt;

use crate::device_id::DeviceId;
use crate::features::net;
use crate::features::Features;

/// Largest queue of either ring format (virtio 1.3, 2.7 and 2.8.10.1), in elements.
pub const MAX_SIZE: u16 = 32768;

/// The format of a ring.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RingKind {
    /// Split virtqueues (virtio 1.3, 2.7).
    Split,
    /// Packed virtqueues (virtio 1.3, 2.8).
    Packed,
}

impl RingKind {
    /// The format of the rings of a device with which the features `accepted` are negotiated.
    #[must_use]
    pub const fn from_features(accepted: Features) -> Self {
        if accepted.contains(Features::RING_PACKED) {
            Self::Packed
        } else {
            Self::Split
        }
    }
}

impl From<Features> for RingKind {
    fn from(accepted: Features) -> Self {
        Self::from_features(accepted)
    }
}

/// One of the three areas of a virtqueue (virtio 1.3, 2.6).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Area {
    /// Descriptor table or descriptor ring.
    Descriptor,
    /// Driver area: available ring or driver event suppression.
    Driver,
    /// Device area: used ring or device event suppression.
    Device,
}

impl Area {
    /// Alignment in bytes, a power of two.
    #[must_use]
    pub const fn alignment(self, kind: RingKind) -> u64 {
        match (self, kind) {
            (Self::Descriptor, _) => 16,
            (Self::Driver, RingKind::Split) => 2,
            (Self::Driver, RingKind::Packed) | (Self::Device, _) => 4,
        }
    }

    /// Length in bytes for a queue of `size`. With or without RING_EVENT_IDX, the event fields at
    /// the end of the split rings are counted: the areas then hold whichever is negotiated.
    #[must_use]
    pub fn len(self, size: Size, kind: RingKind) -> u64 {
        let (fixed, element): (u64, u64) = match (self, kind) {
            (Self::Descriptor, _) => (0, 16),
            (Self::Driver, RingKind::Split) => (6, 2),
            (Self::Device, RingKind::Split) => (6, 8),
            (Self::Driver | Self::Device, RingKind::Packed) => (4, 0),
        };
        // At most 16 times 32768: never saturates.
        element
            .saturating_mul(u64::from(size.get()))
            .saturating_add(fixed)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptor => "descriptor",
            Self::Driver => "driver",
            Self::Device => "device",
        })
    }
}

/// Why a size or an address of a queue was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// The size is 0 or above what the queue can have.
    Size {
        /// Requested size in elements.
        num: u32,
        /// Largest size of the queue in elements.
        max: u16,
    },
    /// The size is not a power of two, which split rings need.
    NotPowerOfTwo(u16),
    /// The address of an area is not aligned.
    Misaligned {
        /// The area.
        area: Area,
        /// Its address.
        address: u64,
        /// The alignment it needs, in bytes.
        alignment: u64,
    },
    /// An area does not end within the address space.
    Wraps {
        /// The area.
        area: Area,
        /// Its address.
        address: u64,
    },
    /// A map from shown to hardware queue pairs is impossible.
    Pairs {
        /// Queue pairs shown to the consumer.
        shown: u16,
        /// Queue pairs of the function.
        hardware: u16,
    },
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { num, max } => {
                write!(f, "queue size {num} is not between 1 and {max}")
            }
            Self::NotPowerOfTwo(num) => {
                write!(f, "queue size {num} of a split ring is not a power of two")
            }
            Self::Misaligned {
                area,
                address,
                alignment,
            } => write!(
                f,
                "{area} area at {address:#x} is not aligned to {alignment} bytes"
            ),
            Self::Wraps { area, address } => {
                write!(f, "{area} area at {address:#x} leaves the address space")
            }
            Self::Pairs { shown, hardware } => write!(
                f,
                "cannot show {shown} queue pairs of a function that has {hardware}"
            ),
        }
    }
}

/// The size of a queue in elements: 1 to 32768, and for split rings a power of two.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Size(u16);

impl Size {
    /// Checks the size `num` that a consumer asks for against the `max` of the queue.
    pub fn new(num: u32, max: u16, kind: RingKind) -> Result<Self, QueueError> {
        let max = max.min(MAX_SIZE);
        let size = u16::try_from(num)
            .ok()
            .filter(|size| (1..=max).contains(size))
            .ok_or(QueueError::Size { num, max })?;
        match kind {
            RingKind::Split if !size.is_power_of_two() => Err(QueueError::NotPowerOfTwo(size)),
            _ => Ok(Self(size)),
        }
    }

    /// The number of elements, never 0.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// How many words have a bit for each element.
    #[must_use]
    pub fn words(self) -> usize {
        usize::from(self.0).div_ceil(64)
    }
}

/// The addresses of the areas of a queue, as the device sees them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Descriptor area.
    pub desc: u64,
    /// Driver area: available ring or driver event suppression.
    pub driver: u64,
    /// Device area: used ring or device event suppression.
    pub device: u64,
}

impl Addresses {
    /// Checks what can be checked before the size of the queue is known: areas only grow with it.
    pub fn check(&self, kind: RingKind) -> Result<(), QueueError> {
        self.validate(Size(1), kind)
    }

    /// Checks that the areas of a queue of `size` are aligned and that none of them wraps around the
    /// end of the address space. Whether they are mapped is for the IOMMU to say.
    pub fn validate(&self, size: Size, kind: RingKind) -> Result<(), QueueError> {
        let areas = [
            (Area::Descriptor, self.desc),
            (Area::Driver, self.driver),
            (Area::Device, self.device),
        ];
        for (area, address) in areas {
            let alignment = area.alignment(kind);
            if address & alignment.wrapping_sub(1) != 0 {
                return Err(QueueError::Misaligned {
                    area,
                    address,
                    alignment,
                });
            }
            if address.checked_add(area.len(size, kind)).is_none() {
                return Err(QueueError::Wraps { area, address });
            }
        }
        Ok(())
    }
}

/// True if the negotiated features `accepted` allow more than one pair of data queues.
const fn is_multiqueue(accepted: Features) -> bool {
    accepted.intersects(net::MQ.union(net::RSS))
}

/// The index of the control queue of a device with `max_pairs` queue pairs, of which the features
/// `accepted` are negotiated; `None` if there is no control queue, or none that an index can name.
///
/// It comes behind the data queues, and how many those are depends on the negotiation: all pairs
/// with MQ or RSS, one without (virtio 1.3, 5.1.2).
#[must_use]
pub const fn control_index(device: DeviceId, accepted: Features, max_pairs: u16) -> Option<u16> {
    if device.id() != DeviceId::NET.id() || !accepted.contains(net::CTRL_VQ) {
        return None;
    }
    if is_multiqueue(accepted) {
        max_pairs.checked_mul(2)
    } else {
        Some(2)
    }
}

/// The number of queues to announce for a device of type `id` that offers the features `offered` and
/// shows `shown_pairs` queue pairs, of a function with `num_queues` queues.
///
/// The number cannot change when the consumer accepts fewer features, so it is the largest.
#[must_use]
pub fn queue_count(id: DeviceId, offered: Features, shown_pairs: u16, num_queues: u16) -> u16 {
    if id != DeviceId::NET {
        return num_queues;
    }
    let pairs = if is_multiqueue(offered) {
        shown_pairs
    } else {
        1
    };
    let control = u16::from(offered.contains(net::CTRL_VQ));
    pairs
        .saturating_mul(2)
        .saturating_add(control)
        .min(num_queues)
}

/// The map from the queue indices that a consumer uses to those of the function, which has more
/// queue pairs if fewer were provisioned: then the control queue is in another place.
///
/// Invariant: 1 <= shown pairs <= hardware pairs <= 32768.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueMap {
    shown_pairs: u16,
    hardware_pairs: u16,
}

impl QueueMap {
    /// The map for a consumer that is shown `shown_pairs` of the `hardware_pairs` of the function.
    /// For devices without queue pairs both are 1.
    pub const fn new(shown_pairs: u16, hardware_pairs: u16) -> Result<Self, QueueError> {
        if shown_pairs == 0 || shown_pairs > hardware_pairs || hardware_pairs > 0x8000 {
            return Err(QueueError::Pairs {
                shown: shown_pairs,
                hardware: hardware_pairs,
            });
        }
        Ok(Self {
            shown_pairs,
            hardware_pairs,
        })
    }

    /// Queue pairs that the consumer is shown.
    #[must_use]
    pub const fn shown_pairs(&self) -> u16 {
        self.shown_pairs
    }

    /// Queue pairs of the function.
    #[must_use]
    pub const fn hardware_pairs(&self) -> u16 {
        self.hardware_pairs
    }

    /// The index in the function of the queue that the consumer calls `consumer_index`, when the
    /// features `accepted` are negotiated with a device of type `id`; `None` if the queue does not
    /// exist then.
    ///
    /// Where the two differ, the doorbell must not be given to the consumer to map: it would write
    /// its own index to it, and a device may go by the value instead of the address.
    #[must_use]
    pub fn hardware_index(
        &self,
        consumer_index: u16,
        accepted: Features,
        id: DeviceId,
    ) -> Option<u16> {
        if id != DeviceId::NET {
            return Some(consumer_index);
        }
        if control_index(id, accepted, self.shown_pairs) == Some(consumer_index) {
            return control_index(id, accepted, self.hardware_pairs);
        }
        let pairs = if is_multiqueue(accepted) {
            self.shown_pairs
        } else {
            1
        };
        let is_data = u32::from(consumer_index) < u32::from(pairs).saturating_mul(2);
        is_data.then_some(consumer_index)
    }
}
