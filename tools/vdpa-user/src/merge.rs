// SPDX-License-Identifier: GPL-2.0

//! Received packets that are spread over several buffers (virtio 1.3, 5.1.6.4).

use anyhow::{Context, Result, ensure};

use crate::frame::HEADER;

/// Bytes of a receive buffer when packets are merged: our longest frame takes twelve of them.
pub const PART: u32 = 128;

/// Where `num_buffers` is in the header.
const NUM_BUFFERS: usize = 10;

/// Puts packets together. Every buffer of a ring passes through here, in the order of the ring.
#[derive(Debug)]
pub struct Merge {
    /// Bytes of a buffer.
    room: usize,
    /// Buffers of the ring: more cannot be in one packet.
    size: u16,
    /// The ring's index of the next buffer.
    index: u16,
    /// Buffers that the packet still lacks.
    missing: u16,
    /// What there is of it.
    packet: Vec<u8>,
    /// Packets of several buffers.
    pub merged: u32,
    /// Those of them that began before index 0 of the ring, and ended behind it.
    pub straddled: u32,
}

impl Merge {
    /// For a ring of `size` buffers of `room` bytes that begins at index `start`.
    pub const fn new(room: usize, size: u16, start: u16) -> Self {
        Self {
            room,
            size,
            index: start,
            missing: 0,
            packet: Vec::new(),
            merged: 0,
            straddled: 0,
        }
    }

    /// Takes what the device has written into the next buffer. Gives the packet with its last one.
    pub fn add(&mut self, written: &[u8]) -> Result<Option<Vec<u8>>> {
        let at = self.index;
        self.index = at.wrapping_add(1);
        if self.missing == 0 {
            self.begin(at, written)?;
        }
        self.missing -= 1;
        self.packet.extend(written);
        if self.missing == 0 {
            ensure!(
                !written.is_empty(),
                "buffer {at} ends a packet and is empty"
            );
            return Ok(Some(std::mem::take(&mut self.packet)));
        }
        // Only the last one may have room left.
        ensure!(
            written.len() == self.room,
            "buffer {at} has {} bytes instead of {}, and {} more of its packet follow",
            written.len(),
            self.room,
            self.missing
        );
        Ok(None)
    }

    /// Starts a packet in buffer `at`, where its header is.
    fn begin(&mut self, at: u16, written: &[u8]) -> Result<()> {
        let header = written
            .get(..HEADER)
            .with_context(|| format!("buffer {at} has {} bytes, and no header", written.len()))?;
        let told = header[NUM_BUFFERS..].try_into()?;
        let count = u16::from_le_bytes(told);
        ensure!(
            (1..=self.size).contains(&count),
            "buffer {at} begins a packet of {count} buffers, in a ring of {}",
            self.size
        );
        self.missing = count;
        if count > 1 {
            self.merged += 1;
            self.straddled += u32::from(at.checked_add(count - 1).is_none());
        }
        Ok(())
    }

    /// Checks that nothing is missing when the ring has no more: a device returns all buffers of a
    /// packet at once.
    pub fn finish(&self) -> Result<()> {
        ensure!(
            self.missing == 0,
            "the ring ends before index {}, where {} more buffers of a packet should be",
            self.index,
            self.missing
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 20;

    /// A ring of four buffers that begins at `start`.
    fn merge(start: u16) -> Merge {
        Merge::new(ROOM, 4, start)
    }

    /// The first buffer of a packet of `count`, with `length` bytes.
    fn first(count: u16, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..).take(length).collect();
        bytes[NUM_BUFFERS..HEADER].copy_from_slice(&count.to_le_bytes());
        bytes
    }

    /// The error of the last buffer, after others without one.
    fn refusal(buffers: &[&[u8]]) -> String {
        let mut merge = merge(0);
        let (last, others) = buffers.split_last().unwrap();
        for other in others {
            merge.add(other).unwrap();
        }
        merge.add(last).unwrap_err().to_string()
    }

    #[test]
    fn packets_of_one_and_of_several_buffers_are_whole() {
        let mut merge = merge(0);
        for length in [HEADER, HEADER + 1, ROOM] {
            let alone = first(1, length);
            assert_eq!(merge.add(&alone).unwrap(), Some(alone));
        }
        assert_eq!(merge.merged, 0);
        let start = first(3, ROOM);
        assert_eq!(merge.add(&start).unwrap(), None);
        // What follows has no header, whatever it looks like.
        let middle = first(2, ROOM);
        assert_eq!(merge.add(&middle).unwrap(), None);
        let packet = merge.add(&[7]).unwrap();
        assert_eq!(packet, Some([start, middle, vec![7]].concat()));
        merge.finish().unwrap();
        assert_eq!(merge.merged, 1);
        // The next one begins anew.
        let alone = first(1, ROOM);
        assert_eq!(merge.add(&alone).unwrap(), Some(alone));
    }

    #[test]
    fn the_whole_ring_may_be_one_packet() {
        let mut merge = merge(0);
        assert_eq!(merge.add(&first(4, ROOM)).unwrap(), None);
        assert_eq!(merge.add(&[1; ROOM]).unwrap(), None);
        assert_eq!(merge.add(&[2; ROOM]).unwrap(), None);
        let packet = merge.add(&[3; ROOM]).unwrap();
        assert_eq!(packet.unwrap().len(), 4 * ROOM);
    }

    #[test]
    fn only_a_packet_on_both_sides_of_index_0_straddles_it() {
        for (start, count, straddled) in [
            (65_533, 2, 0),
            (65_534, 2, 0),
            (65_535, 2, 1),
            (65_533, 4, 1),
            (65_532, 4, 0),
            (65_535, 1, 0),
            (0, 4, 0),
        ] {
            let mut merge = merge(start);
            let mut packet = merge.add(&first(count, ROOM)).unwrap();
            for _ in 1..count {
                packet = merge.add(&[0; ROOM]).unwrap();
            }
            assert!(packet.is_some());
            assert_eq!(merge.straddled, straddled, "{count} from {start} on");
        }
    }

    /// Buffers of packets that are alone count, too.
    #[test]
    fn the_place_in_the_ring_is_kept() {
        let mut merge = merge(65_533);
        for count in [1, 1, 2] {
            merge.add(&first(count, ROOM)).unwrap();
        }
        assert_eq!(merge.straddled, 1);
    }

    #[test]
    fn a_header_that_lies_is_an_error() {
        let text = refusal(&[&first(0, ROOM)]);
        assert_eq!(
            text,
            "buffer 0 begins a packet of 0 buffers, in a ring of 4"
        );
        let text = refusal(&[&first(1, ROOM), &first(5, ROOM)]);
        assert_eq!(
            text,
            "buffer 1 begins a packet of 5 buffers, in a ring of 4"
        );
        let text = refusal(&[&first(u16::MAX, ROOM)]);
        assert!(text.contains("65535 buffers"), "{text}");
        for length in [0, HEADER - 1] {
            let text = refusal(&[&[0; ROOM][..length]]);
            assert_eq!(text, format!("buffer 0 has {length} bytes, and no header"));
        }
    }

    #[test]
    fn only_the_last_buffer_has_room_left() {
        let text = refusal(&[&first(2, ROOM - 1)]);
        assert!(
            text.contains("buffer 0 has 19 bytes instead of 20"),
            "{text}"
        );
        let text = refusal(&[&first(3, ROOM), &[0; ROOM - 1]]);
        assert!(
            text.contains("buffer 1 has 19 bytes instead of 20"),
            "{text}"
        );
        let text = refusal(&[&first(2, ROOM), &[]]);
        assert_eq!(text, "buffer 1 ends a packet and is empty");
    }

    #[test]
    fn what_is_returned_in_pieces_is_an_error() {
        let mut merge = merge(7);
        merge.finish().unwrap();
        merge.add(&first(3, ROOM)).unwrap();
        let text = merge.finish().unwrap_err().to_string();
        assert!(text.contains("before index 8, where 2 more"), "{text}");
        merge.add(&[0; ROOM]).unwrap();
        merge.finish().unwrap_err();
        merge.add(&[0]).unwrap();
        merge.finish().unwrap();
    }
}
