// SPDX-License-Identifier: GPL-2.0

//! Test frames: UDP in IPv4 in Ethernet, numbered, with a checksum over the payload.

use anyhow::{Context, Result, ensure};

/// Bytes of the header virtio puts before a frame (virtio 1.3, 5.1.6, with VERSION_1).
pub const HEADER: usize = 12;

/// Bytes before our payload: Ethernet, IPv4 without options, UDP.
const NETWORK: usize = 14 + 20 + 8;
/// Bytes of our own fields: magic, flow, number, checksum.
const FIELDS: usize = 16;
/// Marks a frame as ours: a bridge or a container may talk on the same wire.
const MAGIC: u32 = 0x7666_5664;
/// Where a VLAN tag is: behind both addresses.
const VLAN: usize = HEADER + 12;
/// The type that a frame with a VLAN tag has (IEEE 802.1Q).
const TAGGED: [u8; 2] = [0x81, 0x00];
/// The longest frame without a VLAN tag.
const LONGEST: usize = 1514;

/// What identifies a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which run of the program it belongs to: late frames of another run are not counted.
    pub run: u16,
    /// Which stream it belongs to; frames of one flow keep their order.
    pub flow: u16,
    /// Its number in the whole run.
    pub number: u32,
}

/// Run and flow as one word.
fn stream(tag: Tag) -> u32 {
    (u32::from(tag.run) << 16) | u32::from(tag.flow)
}

/// FNV-1a: enough to see any damaged or mixed-up byte.
fn checksum(tag: Tag, payload: &[u8]) -> u32 {
    let prefix = [stream(tag).to_le_bytes(), tag.number.to_le_bytes()];
    prefix
        .iter()
        .flatten()
        .chain(payload)
        .fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
}

/// The Internet checksum (RFC 1071).
fn internet(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The length of frame `number`: shortest and longest included.
fn length(number: u32) -> usize {
    let span = LONGEST - NETWORK - FIELDS + 1;
    // A prime step visits every length before one repeats.
    let step = usize::try_from(number).unwrap_or(0).wrapping_mul(389);
    NETWORK + FIELDS + step % span
}

/// Builds a frame with the header virtio wants before it.
pub fn build(tag: Tag, source: [u8; 6], destination: [u8; 6], toward: u8) -> Vec<u8> {
    let total = length(tag.number);
    let mut frame = vec![0; HEADER];
    frame.extend(destination);
    frame.extend(source);
    frame.extend([0x08, 0x00]);
    let mut network = [0_u8; 20];
    network[0] = 0x45;
    let ip_length = u16::try_from(total - 14).unwrap_or(u16::MAX);
    network[2..4].copy_from_slice(&ip_length.to_be_bytes());
    network[8] = 64;
    network[9] = 17;
    // 198.18.0.0/15 is set aside for tests of network equipment (RFC 2544).
    network[12..16].copy_from_slice(&[198, 18, 0, 1 + (toward & 1)]);
    network[16..20].copy_from_slice(&[198, 18, 0, 2 - (toward & 1)]);
    let sum = internet(&network);
    network[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(network);
    // The ports differ by direction, too, so that no switch takes one direction for the answer
    // of the other and moves a flow to another queue.
    let port = 40_000 + 2_000 * u16::from(toward) + tag.flow % 1_000;
    frame.extend(port.to_be_bytes());
    frame.extend((port + 1_000).to_be_bytes());
    frame.extend((ip_length - 20).to_be_bytes());
    frame.extend([0, 0]);
    let mut state = tag.number.wrapping_mul(2_654_435_761) | 1;
    let payload: Vec<u8> = (NETWORK + FIELDS..total)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        })
        .collect();
    frame.extend(MAGIC.to_le_bytes());
    frame.extend(stream(tag).to_le_bytes());
    frame.extend(tag.number.to_le_bytes());
    frame.extend(checksum(tag, &payload).to_le_bytes());
    frame.extend(payload);
    frame
}

/// Puts a frame (with its header) into a VLAN.
pub fn into_vlan(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    let [type_high, type_low] = TAGGED;
    frame.splice(VLAN..VLAN, [type_high, type_low, high, low]);
    frame
}

/// Recognises a received frame (with its header): `None` if it is not ours, an error if it is
/// ours and damaged. It may be in a VLAN.
pub fn check(bytes: &[u8]) -> Result<Option<Tag>> {
    match bytes.split_at_checked(VLAN) {
        Some((start, [high, low, _, _, rest @ ..])) if [*high, *low] == TAGGED => {
            check_untagged(&[start, rest].concat())
        }
        _ => check_untagged(bytes),
    }
}

fn check_untagged(bytes: &[u8]) -> Result<Option<Tag>> {
    let Some(fields) = bytes.get(HEADER + NETWORK..HEADER + NETWORK + FIELDS) else {
        return Ok(None);
    };
    let word = |at: usize| -> u32 {
        fields
            .get(at..at + 4)
            .and_then(|word| word.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    };
    if word(0) != MAGIC {
        return Ok(None);
    }
    let tag = Tag {
        run: u16::try_from(word(4) >> 16)?,
        flow: u16::try_from(word(4) & 0xffff)?,
        number: word(8),
    };
    let arrived = bytes.len() - HEADER;
    let sent = length(tag.number);
    // Ethernet pads what is shorter than 60 bytes.
    ensure!(
        arrived == sent || arrived == sent.max(60),
        "frame {} has {arrived} bytes instead of {sent}",
        tag.number
    );
    let payload = bytes
        .get(HEADER + NETWORK + FIELDS..HEADER + length(tag.number))
        .context("a frame shorter than its payload")?;
    ensure!(
        checksum(tag, payload) == word(12),
        "frame {} arrived with a wrong checksum",
        tag.number
    );
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn every_length_survives_the_round_trip() {
        let mut lengths = std::collections::HashSet::new();
        for number in 0..3_000 {
            let tag = Tag {
                run: 5,
                flow: 7,
                number,
            };
            let frame = build(tag, A, B, 1);
            lengths.insert(frame.len());
            assert_eq!(check(&frame).unwrap(), Some(tag));
        }
        assert!(lengths.contains(&(HEADER + LONGEST)));
        assert!(lengths.contains(&(HEADER + NETWORK + FIELDS)));
    }

    #[test]
    fn every_flipped_payload_bit_is_seen() {
        let frame = build(
            Tag {
                run: 5,
                flow: 1,
                number: 3,
            },
            A,
            B,
            0,
        );
        for byte in HEADER + NETWORK + 4..frame.len() {
            let mut damaged = frame.clone();
            damaged[byte] ^= 1;
            assert!(
                !matches!(
                    check(&damaged),
                    Ok(Some(Tag {
                        run: 5,
                        flow: 1,
                        number: 3
                    }))
                ),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn a_frame_in_a_vlan_is_ours() {
        let tag = Tag {
            run: 5,
            flow: 1,
            number: 3,
        };
        let plain = build(tag, A, B, 0);
        let tagged = into_vlan(plain.clone(), 0x123);
        assert_eq!(tagged[VLAN..VLAN + 4], [0x81, 0, 1, 0x23]);
        assert_eq!(tagged.len(), plain.len() + 4);
        assert_eq!(check(&tagged).unwrap(), Some(tag));
        // Neither the tag nor a part of it makes a frame ours.
        assert_eq!(check(&tagged[..VLAN + 2]).unwrap(), None);
        assert_eq!(check(&tagged[..VLAN + 4]).unwrap(), None);
    }

    #[test]
    fn foreign_frames_are_left_alone() {
        assert_eq!(check(&[0; 80]).unwrap(), None);
        assert_eq!(check(&[0; 3]).unwrap(), None);
    }

    #[test]
    fn the_network_header_checks_out() {
        let frame = build(
            Tag {
                run: 5,
                flow: 0,
                number: 9,
            },
            A,
            B,
            0,
        );
        assert_eq!(internet(&frame[HEADER + 14..HEADER + 34]), 0);
    }
}
