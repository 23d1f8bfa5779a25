// SPDX-License-Identifier: GPL-2.0

//! What makes it a network device: its configuration, its commands, its frames.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::shape::Shape;
use crate::{feature, layout};

/// Its address at first.
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x30];
/// The bit of the status behind it: the link is up.
const LINK_UP: u8 = 1;
/// The MTU that it shows.
const MTU: u16 = 1500;
/// What it can do with hashes: the longest key, the longest table, and types (virtio 1.3, 5.1.4).
const LONGEST_KEY: u8 = 40;
const LONGEST_TABLE: u16 = 128;
const HASH_TYPES: u32 = 0x3f;
/// Commands that are remembered.
const REMEMBERED: usize = 64;
/// Length of the header before each frame.
const HEADER_LEN: usize = 12;
/// Offset in it of the number of buffers that a received frame takes.
const NUM_BUFFERS: usize = 10;

/// The answer to a command that was carried out.
pub const OK: u8 = 0;
/// The answer to another.
pub const ERR: u8 = 1;

/// The device configuration.
pub struct Net {
    config: Vec<u8>,
    pairs: u16,
    /// The commands that were carried out, the first ones, in hexadecimal.
    told: Vec<String>,
    /// What the queues were told of when to interrupt.
    coalescing: BTreeMap<[u8; 2], [u8; 8]>,
}

impl Net {
    /// That of a device of this shape. What has no meaning in it counts up.
    pub fn new(shape: &Shape) -> Self {
        let mut config: Vec<u8> = MAC.to_vec();
        config.extend(1_u16.to_le_bytes());
        config.extend(shape.max_pairs.unwrap_or(shape.queue_pairs).to_le_bytes());
        config.extend(MTU.to_le_bytes());
        config.extend([0; 5]);
        if [feature::RSS, feature::HASH_REPORT]
            .iter()
            .any(|bit| shape.offer.contains(bit))
        {
            config.push(LONGEST_KEY);
            config.extend(LONGEST_TABLE.to_le_bytes());
            config.extend(HASH_TYPES.to_le_bytes());
        } else {
            config.extend([0; 7]);
        }
        let length = shape.config_len as usize;
        config.extend((config.len()..length).map(|at| at as u8));
        config.truncate(length);
        Self {
            config,
            pairs: shape.queue_pairs,
            told: Vec::new(),
            coalescing: BTreeMap::new(),
        }
    }

    /// The commands that were carried out, the first ones, in hexadecimal.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Copies from the configuration; what lies behind its end is 0.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        layout::read(&self.config, offset, data);
    }

    /// The link goes up or down.
    pub fn change_link(&mut self) {
        if let Some(status) = self.config.get_mut(MAC.len()) {
            *status ^= LINK_UP;
        }
    }

    /// Carries out a command of a driver that has accepted `features`, and returns the answer, which
    /// comes behind what the command asks for.
    pub fn command(&mut self, features: u64, command: &[u8]) -> Vec<u8> {
        if !self.allows(features, command) {
            return vec![ERR];
        }
        if let [6, 2, first, second, _, _, parameters @ ..] = command {
            let parameters = parameters.try_into().unwrap_or_default();
            self.coalescing.insert([*first, *second], parameters);
        }
        let mut answer = Vec::new();
        if let [6, 3, first, second, ..] = command {
            let parameters = self.coalescing.get(&[*first, *second]);
            answer.extend(parameters.copied().unwrap_or_default());
        }
        if let [1, 1, mac @ ..] = command {
            for (byte, value) in self.config.iter_mut().zip(mac) {
                *byte = *value;
            }
        }
        if self.told.len() < REMEMBERED {
            let mut text = String::new();
            for byte in command {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            self.told.push(text);
        }
        answer.push(OK);
        answer
    }

    /// Whether there is such a command (virtio 1.3, 5.1.6.5), with these features.
    fn allows(&self, features: u64, command: &[u8]) -> bool {
        let has = |bit: u32| (features >> bit) & 1 == 1;
        match command {
            [0, 0 | 1, 0 | 1] | [1, 0, _, ..] => has(feature::CTRL_RX),
            [0, 2..=5, 0 | 1] => has(feature::CTRL_RX_EXTRA),
            [1, 1, mac @ ..] => has(feature::CTRL_MAC_ADDR) && mac.len() == MAC.len(),
            [2, 0 | 1, _, _] => has(feature::CTRL_VLAN),
            [3, 0] => has(feature::GUEST_ANNOUNCE),
            [4, 0, low, high] => {
                has(feature::MQ) && (1..=self.pairs).contains(&u16::from_le_bytes([*low, *high]))
            }
            [4, 1, _, ..] => has(feature::RSS),
            [4, 2, _, ..] => has(feature::HASH_REPORT),
            [5, 0, offloads @ ..] => has(feature::CTRL_GUEST_OFFLOADS) && offloads.len() == 8,
            [6, 0 | 1, parameters @ ..] => has(feature::NOTF_COAL) && parameters.len() == 8,
            [6, 2, parameters @ ..] => has(feature::VQ_NOTF_COAL) && parameters.len() == 12,
            [6, 3, index @ ..] => has(feature::VQ_NOTF_COAL) && index.len() == 4,
            _ => false,
        }
    }
}

/// What is received of what was sent: the same frame, with the header of one that fits one buffer.
pub fn returned(mut sent: Vec<u8>) -> Option<Vec<u8>> {
    let header = sent.get_mut(..HEADER_LEN)?;
    header.fill(0);
    *header.get_mut(NUM_BUFFERS)? = 1;
    Some(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::tests::shape;

    #[test]
    fn the_configuration_has_its_length() {
        let net = Net::new(&shape("--config-len 60 --queue-pairs 3"));
        let mut data = [0xaa; 64];
        net.read(0, &mut data);
        assert_eq!(data[..6], MAC);
        assert_eq!(data[8], 3);
        assert_eq!(data[59..], [59, 0, 0, 0, 0]);
        Net::new(&shape("--config-len 6")).read(4, &mut data);
        assert_eq!(data[..4], [0, 0x30, 0, 0]);
    }

    #[test]
    fn commands_are_answered() {
        let mut net = Net::new(&shape("--queue-pairs 2"));
        let all = shape("--queue-pairs 2 --offer 52").features();
        assert_eq!(net.command(all, &[0, 0, 1]), [OK]);
        assert_eq!(net.command(all, &[4, 0, 2, 0]), [OK]);
        assert_eq!(net.command(all, &[4, 0, 3, 0]), [ERR]);
        assert_eq!(net.command(all, &[1, 1, 2, 3, 4, 5, 6, 7]), [OK]);
        let mut data = [0; 6];
        net.read(0, &mut data);
        assert_eq!(data, [2, 3, 4, 5, 6, 7]);
        assert_eq!(net.command(all, &[]), [ERR]);
        assert_eq!(net.command(all, &[[6, 2], [0; 2]].concat()), [ERR]);
        let parameters = [6, 2, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(net.command(all, &parameters), [OK]);
        let told = [1, 2, 3, 4, 5, 6, 7, 8, OK];
        assert_eq!(net.command(all, &[6, 3, 1, 0, 0, 0]), told);
        let untold = [0, 0, 0, 0, 0, 0, 0, 0, OK];
        assert_eq!(net.command(all, &[6, 3, 2, 0, 0, 0]), untold);
        assert_eq!(net.command(all, &[&[6, 0][..], &[0; 8]].concat()), [ERR]);
        assert_eq!(net.told()[..3], ["000001", "04000200", "0101020304050607"]);
        assert_eq!(net.told().len(), 6);
    }

    #[test]
    fn hashes_are_described_if_there_are_any() {
        let mut data = [0; 7];
        Net::new(&shape("")).read(17, &mut data);
        assert_eq!(data, [0; 7]);
        Net::new(&shape("--offer 57")).read(17, &mut data);
        assert_eq!(data, [40, 128, 0, 0x3f, 0, 0, 0]);
    }

    #[test]
    fn frames_come_back() {
        let sent: Vec<u8> = (1..=20).collect();
        let received = returned(sent.clone()).unwrap();
        assert_eq!(received[12..], sent[12..]);
        assert_eq!(received[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(returned(vec![0; 11]), None);
    }
}
