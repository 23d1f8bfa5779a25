// SPDX-License-Identifier: GPL-2.0

//! A network device that executes commands, as the specification has it.

use std::collections::BTreeSet;

use virtio::control::Rules;

/// One of the readings of 5.1.6.5.5 to 5.1.6.5.7: what the commands of the MQ class leave of each
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Steering {
    /// Queue pairs in use.
    pairs: u16,
    /// What chooses receive queues, if not the device itself.
    rss: Option<Vec<u8>>,
    /// What is hashed and reported, and with which key.
    hash: Option<Vec<u8>>,
}

/// A network device that does what it is told, written from the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    rules: Rules,
    rx: [bool; 6],
    mac: [u8; 6],
    unicast: Vec<[u8; 6]>,
    multicast: Vec<[u8; 6]>,
    vlans: BTreeSet<u16>,
    /// Each command of the class undoes all that the others did, as in QEMU.
    replaced: Steering,
    /// Hashes are reported as the last command that mentions them says, VQ_PAIRS_SET is not one.
    kept: Steering,
    /// Any other reading: by set of commands (a bit each), the last of them.
    last: [Vec<u8>; 8],
    offloads: u64,
    /// Parameters by queue.
    coal: Vec<[u8; 8]>,
    /// What a queue gets when it is enabled again: even, then odd queues.
    coal_all: [[u8; 8]; 2],
}

impl Device {
    pub(crate) fn new(rules: Rules) -> Self {
        let steering = Steering {
            pairs: 1,
            ..Steering::default()
        };
        Self {
            rules,
            // Linux and QEMU start with everything.
            rx: [true, false, false, false, false, false],
            mac: [2, 0xff, 0, 0, 0, 0],
            unicast: Vec::new(),
            multicast: Vec::new(),
            vlans: BTreeSet::new(),
            replaced: steering.clone(),
            kept: steering,
            last: Default::default(),
            offloads: 0x00c0_0000_0000_0782 & rules.features.bits(),
            coal: vec![[0; 8]; 2 * usize::from(rules.pairs)],
            coal_all: [[0; 8]; 2],
        }
    }

    fn table(data: &[u8]) -> (Vec<[u8; 6]>, &[u8]) {
        let (count, rest) = data.split_at(4);
        let count = u32::from_le_bytes(count.try_into().unwrap()) as usize;
        let (table, rest) = rest.split_at(6 * count);
        let table = table.chunks(6).map(|mac| mac.try_into().unwrap());
        (table.collect(), rest)
    }

    fn multiqueue(&mut self, command: u8, data: &[u8]) {
        for set in 0..8usize {
            if set & 1 << command != 0 {
                self.last[set] = [&[command], data].concat();
            }
        }
        let data = data.to_vec();
        let types_and_key = |table: usize| [&data[..4], &data[table..]].concat();
        match command {
            0 => {
                let pairs = u16::from_le_bytes([data[0], data[1]]);
                self.replaced = Steering {
                    pairs,
                    ..Steering::default()
                };
                self.kept.pairs = pairs;
                self.kept.rss = None;
            }
            1 => {
                let entries = usize::from(u16::from_le_bytes([data[4], data[5]])) + 1;
                let at = 8 + 2 * entries;
                let pairs = u16::from_le_bytes([data[at], data[at + 1]]);
                let steering = Steering {
                    pairs,
                    rss: Some(data[4..at].to_vec()),
                    hash: Some(types_and_key(at + 2)),
                };
                self.replaced = steering.clone();
                self.kept = steering;
            }
            _ => {
                let hash = Some(types_and_key(12));
                self.replaced.rss = None;
                self.replaced.hash = hash.clone();
                self.kept.hash = hash;
            }
        }
    }

    pub(crate) fn execute(&mut self, bytes: &[u8]) {
        let (code, data) = bytes.split_at(2);
        let index = || usize::from(u16::from_le_bytes([data[0], data[1]]));
        match (code[0], code[1]) {
            (0, mode) => self.rx[usize::from(mode)] = data == [1],
            (1, 0) => {
                let (unicast, rest) = Self::table(data);
                let (multicast, rest) = Self::table(rest);
                assert!(rest.is_empty());
                (self.unicast, self.multicast) = (unicast, multicast);
            }
            (1, 1) => self.mac = data.try_into().unwrap(),
            (2, 0) => {
                self.vlans.insert(index() as u16);
            }
            (2, 1) => {
                self.vlans.remove(&(index() as u16));
            }
            (4, command) => self.multiqueue(command, data),
            (5, 0) => self.offloads = u64::from_le_bytes(data.try_into().unwrap()),
            (6, command @ 0..2) => {
                let first = usize::from(command == 0);
                let parameters = data.try_into().unwrap();
                self.coal_all[first] = parameters;
                for queue in self.coal.iter_mut().skip(first).step_by(2) {
                    *queue = parameters;
                }
            }
            (6, 2) => self.coal[index()] = data[4..].try_into().unwrap(),
            (3, 0) | (6, 3) => {}
            _ => panic!("no such command: {bytes:?}"),
        }
    }
}
