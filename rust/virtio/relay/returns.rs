// SPDX-License-Identifier: GPL-2.0

//! How soon the driver has to have back what its device is done with.

use crate::device_id::DeviceId;
use crate::features::net;
use crate::features::Features;

/// How soon the driver has to have back what its device is done with.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Returns {
    /// At once: it may wait for any chain.
    Promptly,
    /// A few together: the device is done with all in their turn, and nobody waits for one of them.
    Together,
}

impl Returns {
    /// How soon the driver has to have back what the device is done with on virtqueue `vq`, by the
    /// consumer's number.
    ///
    /// A driver of a network device only frees the buffers of what was sent (virtio 1.3, 5.1.6.2), and
    /// Linux asks by itself to be interrupted when three quarters of them are free. What was received,
    /// and what any other device answers, is waited for, even by a driver that wants no interrupts.
    ///
    /// A device that the driver can have keep its notifications back (5.1.6.5.8) may do that for longer
    /// than a relay, which waits for them, too, should.
    #[must_use]
    pub fn of(id: DeviceId, accepted: Features, vq: u16) -> Self {
        let sends = vq & 1 == 1;
        let keeps = accepted.intersects(net::NOTF_COAL.union(net::VQ_NOTF_COAL));
        if id == DeviceId::NET && sends && !keeps {
            Self::Together
        } else {
            Self::Promptly
        }
    }
}
