// SPDX-License-Identifier: GPL-2.0

//! What makes it a network device: its configuration, its commands, its frames.

use crate::layout;
use crate::shape::Shape;

/// Its address at first.
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x30];
/// The bit of the status behind it: the link is up.
const LINK_UP: u8 = 1;
/// The MTU that it shows.
const MTU: u16 = 1500;
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
}

impl Net {
    /// That of a device of this shape. What has no meaning in it counts up.
    pub fn new(shape: &Shape) -> Self {
        let mut config: Vec<u8> = MAC.to_vec();
        config.extend(1_u16.to_le_bytes());
        config.extend(shape.max_pairs.unwrap_or(shape.queue_pairs).to_le_bytes());
        config.extend(MTU.to_le_bytes());
        config.extend([0; 12]);
        let length = shape.config_len as usize;
        config.extend((config.len()..length).map(|at| at as u8));
        config.truncate(length);
        Self {
            config,
            pairs: shape.queue_pairs,
        }
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

    /// Carries out a command of the control queue, and returns the answer.
    pub fn command(&mut self, command: &[u8]) -> u8 {
        match command {
            [0, 0..=5, 0 | 1] | [1, 0, ..] | [2, 0 | 1, _, _] => OK,
            [1, 1, mac @ ..] if mac.len() == MAC.len() => {
                for (byte, value) in self.config.iter_mut().zip(mac) {
                    *byte = *value;
                }
                OK
            }
            [4, 0, low, high] if (1..=self.pairs).contains(&u16::from_le_bytes([*low, *high])) => {
                OK
            }
            _ => ERR,
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
        assert_eq!(net.command(&[0, 0, 1]), OK);
        assert_eq!(net.command(&[4, 0, 2, 0]), OK);
        assert_eq!(net.command(&[4, 0, 3, 0]), ERR);
        assert_eq!(net.command(&[1, 1, 2, 3, 4, 5, 6, 7]), OK);
        let mut data = [0; 6];
        net.read(0, &mut data);
        assert_eq!(data, [2, 3, 4, 5, 6, 7]);
        assert_eq!(net.command(&[]), ERR);
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
