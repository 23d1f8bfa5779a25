// SPDX-License-Identifier: GPL-2.0

//! The frame that tells switches where a station is now.
//!
//! A guest that has moved does not know that it has, and its features may lack `GUEST_ANNOUNCE`. A
//! switch sends what is for the guest to where it was until the guest sends something. So a parent
//! sends a frame for it, the one that emulators send of a guest on emulated hardware: a reverse ARP
//! request (RFC 903), which needs no address but that of the station.

use crate::features::net;
use crate::features::Features;

/// Bytes of the longest `struct virtio_net_hdr` before a frame (virtio 1.3, 5.1.6).
const LONGEST_HEADER: usize = 20;
/// Bytes of it without `HASH_REPORT`.
const HEADER: usize = 12;
/// Bytes of the shortest frame of Ethernet, without its checksum.
const FRAME: usize = 60;
/// Bytes of what is said; zeros follow.
const SAID: usize = 42;

/// What a device is given to send: the header of virtio, all 0, and the frame.
///
/// Invariant: `header` is at most [`LONGEST_HEADER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    header: usize,
    bytes: [u8; LONGEST_HEADER + FRAME],
}

impl Announcement {
    /// An announcement of the station `mac`, for a device with the features `negotiated`, of which
    /// VERSION_1 is one.
    #[must_use]
    pub fn new(mac: [u8; 6], negotiated: Features) -> Self {
        let header = if negotiated.contains(net::HASH_REPORT) {
            LONGEST_HEADER
        } else {
            HEADER
        };
        let parts: [&[u8]; 8] = [
            // To everybody.
            &[0xff; 6],
            &mac,
            // RARP, of Ethernet and IPv4 addresses: which address do I have?
            &[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3],
            &mac,
            &[0; 4],
            &mac,
            &[0; 4],
            &[0; FRAME - SAID],
        ];
        let mut bytes = [0; LONGEST_HEADER + FRAME];
        let frame = bytes.iter_mut().skip(header);
        for (to, from) in frame.zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Self { header, bytes }
    }

    /// The bytes for the device.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = self.header.saturating_add(FRAME);

        self.bytes.get(..len).unwrap_or_default()
    }
}
