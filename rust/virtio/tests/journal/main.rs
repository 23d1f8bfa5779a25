// SPDX-License-Identifier: GPL-2.0

//! The journal against a device that was never reset.

#[path = "../cvq/mod.rs"]
mod cvq;
mod device;

use std::ops::Deref;
use std::ops::DerefMut;

use std::collections::BTreeSet;

use cvq::Rss;
use device::Device;
use proptest::prelude::*;
use virtio::control::Command;
use virtio::control::Rules;
use virtio::control::MAX_COMMAND;
use virtio::features::Features;
use virtio::journal::buffer_len;
use virtio::journal::Cursor;
use virtio::journal::Journal;

fn journal(rules: &Rules) -> Journal<Vec<u8>> {
    Journal::new(vec![0xa5; buffer_len(rules.pairs)], rules.pairs).unwrap()
}

fn replay<B: DerefMut<Target = [u8]>>(journal: &Journal<B>) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::default();
    let mut out = [0xee; MAX_COMMAND];
    let mut commands = Vec::new();
    while let Some(len) = journal.next(&mut cursor, &mut out) {
        commands.push(out[..len].to_vec());
        out.fill(0xee);
    }
    // It stays at the end.
    assert_eq!(journal.next(&mut cursor, &mut out), None);
    commands
}

/// Records commands that are allowed.
fn record<B: DerefMut<Target = [u8]>>(journal: &mut Journal<B>, commands: &[Vec<u8>]) {
    for bytes in commands {
        journal.record(&Command::parse(bytes, &cvq::rules()).unwrap());
    }
}

/// What a journal replays in which these commands were recorded.
fn replayed(commands: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut journal = journal(&cvq::rules());
    record(&mut journal, commands);
    replay(&journal)
}

fn rss(max_tx_vq: u16, table: &[u16]) -> Vec<u8> {
    Rss {
        types: 3,
        mask: (table.len() - 1) as u16,
        unclassified: 0,
        table: table.to_vec(),
        max_tx_vq,
        key_len: 2,
        key: vec![8, 9],
    }
    .bytes()
}

#[test]
fn a_new_journal_is_empty() {
    let new = journal(&cvq::rules());
    assert!(replay(&new).is_empty());
}

#[test]
fn the_buffer_is_long_enough() {
    for pairs in [0, 1, 2, 4, 0x8000] {
        let len = buffer_len(pairs);
        assert!(Journal::new(vec![0; len - 1], pairs).is_none());
        assert!(Journal::new(vec![0; len], pairs).is_some());
        assert!(Journal::new(vec![0; len + 100], pairs).is_some());
    }
    assert!(buffer_len(1) < 10_000);
    assert!(Journal::new(Vec::new(), 0).is_none());
    // It need not be owned.
    let mut buffer = vec![1; buffer_len(1)];
    let borrowed = Journal::new(buffer.as_mut_slice(), 1).unwrap();
    assert!(replay(&borrowed).is_empty());
}

#[test]
fn what_is_forgotten_is_not_replayed() {
    let mut journal = journal(&cvq::rules());
    let all = cvq::samples();
    record(&mut journal, &all);
    record(&mut journal, &[cvq::vlan_add(4095)]);
    assert!(!replay(&journal).is_empty());
    journal.forget();
    assert!(replay(&journal).is_empty());
    // The order of old is forgotten, too.
    record(&mut journal, &[rss(2, &[0]), cvq::vq_pairs(1)]);
    assert_eq!(replay(&journal), [rss(2, &[0]), cvq::vq_pairs(1)]);
}

#[test]
fn the_order_of_a_replay() {
    let mac_table = cvq::mac_table(&[[2; 6]], &[[3; 6]; 2]);
    let expected = [
        cvq::mac_addr([2, 0, 0, 0, 0, 1]),
        mac_table,
        cvq::rx(0, 0),
        cvq::rx(1, 1),
        cvq::rx(2, 1),
        cvq::rx(3, 0),
        cvq::rx(4, 1),
        cvq::rx(5, 1),
        cvq::vlan_add(0),
        cvq::vlan_add(7),
        cvq::vlan_add(8),
        cvq::vlan_add(4095),
        cvq::hash(1, [0; 4], 1, &[1]),
        rss(2, &[0, 1]),
        cvq::vq_pairs(4),
        cvq::offloads(0x82),
        cvq::coal_tx(1, 2),
        cvq::coal_rx(3, 4),
        cvq::coal_vq_set(0, 0, 5, 6),
        cvq::coal_vq_set(7, 0, 0, 0),
    ];
    assert_eq!(replayed(&expected), expected);
    // In another order the end is the same, up to what overrides what.
    let mut other = expected.to_vec();
    other[..12].reverse();
    other[15..18].reverse();
    other[18..].reverse();
    assert_eq!(replayed(&other), expected);
}

#[test]
fn the_last_one_counts() {
    let table = cvq::mac_table(&[[2; 6]; 9], &[[3; 6]; 9]);
    let shorter = cvq::mac_table(&[], &[[3; 6]]);
    assert_eq!(replayed(&[table.clone(), shorter.clone()]), [shorter]);
    let empty = cvq::mac_table(&[], &[]);
    assert_eq!(replayed(&[table, empty.clone()]), [empty]);
    let macs = [1, 2].map(|last| cvq::mac_addr([2, 0, 0, 0, 0, last]));
    assert_eq!(replayed(&macs), macs[1..]);
    assert_eq!(replayed(&[cvq::rx(0, 1), cvq::rx(0, 0)]), [cvq::rx(0, 0)]);
    assert_eq!(
        replayed(&[cvq::offloads(2), cvq::offloads(0)]),
        [cvq::offloads(0)]
    );
    assert_eq!(
        replayed(&[cvq::coal_rx(1, 1), cvq::coal_rx(0, 0)]),
        [cvq::coal_rx(0, 0)]
    );
}

#[test]
fn the_longest_commands_have_room() {
    let table = cvq::mac_table(&[[2; 6]; 681], &[]);
    assert_eq!(table.len(), MAX_COMMAND);
    let mut rules = cvq::rules();
    rules.limits.rss_max_indirection_table_length = 1024;
    rules.limits.rss_max_key_size = 255;
    let rss = Rss {
        types: 1,
        mask: 1023,
        unclassified: 0,
        table: vec![3; 1024],
        max_tx_vq: 1,
        key_len: 255,
        key: vec![0x77; 255],
    }
    .bytes();
    let hash = cvq::hash(1, [0, 0, 0, 4], 255, &[0x99; 255]);
    let mut journal = journal(&rules);
    let commands = [table, rss, hash, cvq::vlan_add(0), cvq::vlan_add(4095)];
    for bytes in &commands {
        journal.record(&Command::parse(bytes, &rules).unwrap());
    }
    let [table, rss, hash, first, last] = commands;
    assert_eq!(replay(&journal), [table, first, last, rss, hash]);
}

#[test]
fn a_vlan_can_be_deleted() {
    let ids = [0, 1, 7, 8, 4094, 4095];
    let add = ids.map(cvq::vlan_add);
    for (gone, id) in ids.into_iter().enumerate() {
        let mut commands = add.to_vec();
        commands.push(cvq::vlan_del(id));
        commands.push(cvq::vlan_del(id));
        let mut left = add.to_vec();
        left.remove(gone);
        assert_eq!(replayed(&commands), left);
    }
    assert!(replayed(&[cvq::vlan_del(3)]).is_empty());
    let again = [cvq::vlan_add(3), cvq::vlan_add(3)];
    assert_eq!(replayed(&again), again[1..]);
    let all: Vec<_> = (0..4096).map(cvq::vlan_add).collect();
    assert_eq!(replayed(&all), all);
}

#[test]
fn a_command_for_all_queues_overrides_those_for_one() {
    let set = |index| cvq::coal_vq_set(index, 0, 1, u32::from(index));
    let each: Vec<_> = (0..8).map(set).collect();
    assert_eq!(replayed(&each), each);
    for (all, left) in [
        (cvq::coal_tx(9, 9), [0, 2, 4, 6]),
        (cvq::coal_rx(9, 9), [1, 3, 5, 7]),
    ] {
        let commands = [each.clone(), vec![all.clone()]].concat();
        let expected = [vec![all.clone()], left.map(set).to_vec()].concat();
        assert_eq!(replayed(&commands), expected);
        // One that comes later counts again.
        let later = [commands, vec![set(0), set(1)]].concat();
        let mut indices = [left.to_vec(), vec![0, 1]].concat();
        indices.sort_unstable();
        indices.dedup();
        let expected = [vec![all], indices.into_iter().map(set).collect()].concat();
        assert_eq!(replayed(&later), expected);
    }
}

#[test]
fn what_changes_nothing_is_not_replayed() {
    let commands = [cvq::command(3, 0, []), cvq::coal_vq_get(3, 0)];
    assert!(replayed(&commands).is_empty());
    // The reserved field says nothing.
    let set = cvq::coal_vq_set(3, 0x1234, 5, 6);
    assert_eq!(replayed(&[set]), [cvq::coal_vq_set(3, 0, 5, 6)]);
}

/// A device that lets only queues that are in use be configured takes a replay, too.
#[test]
fn queues_are_in_use_before_they_are_configured() {
    for first in [cvq::vq_pairs(4), rss(4, &[0])] {
        let commands = replayed(&[first.clone(), cvq::coal_vq_set(7, 0, 1, 1)]);
        assert_eq!(commands[0], first);
        assert_eq!(commands[1], cvq::coal_vq_set(7, 0, 1, 1));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Command { bytes: Vec<u8>, works: bool },
    Reset,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => (cvq::any_command(), prop::bool::weighted(0.9))
            .prop_map(|(bytes, works)| Event::Command { bytes, works }),
        1 => Just(Event::Reset),
    ]
}

proptest! {
    #[test]
    fn a_replay_leads_to_the_same_device(
        rules in cvq::any_rules(),
        events in proptest::collection::vec(any_event(), 0..80),
    ) {
        let mut device = Device::new(rules);
        let mut journal = journal(&rules);
        // The commands since the last reset, without what is reserved.
        let mut history = BTreeSet::new();
        for event in events {
            let Event::Command { bytes, works } = event else {
                device = Device::new(rules);
                journal.forget();
                history.clear();
                continue;
            };
            let Ok(command) = Command::parse(&bytes, &rules) else {
                continue;
            };
            if !works {
                continue;
            }
            device.execute(&bytes);
            journal.record(&command);
            let mut bytes = bytes;
            if bytes[..2] == [6, 2] {
                bytes[4..6].fill(0);
            }
            history.insert(bytes);
        }

        let commands = replay(&journal);
        let mut fresh = Device::new(rules);
        let mut second = self::journal(&rules);
        for bytes in &commands {
            // What it was told before, and only once.
            prop_assert!(history.remove(bytes), "{:?}", bytes);
            let command = Command::parse(bytes, &rules);
            prop_assert!(command.is_ok(), "{:?}", command);
            fresh.execute(bytes);
            second.record(&command.unwrap());
        }
        prop_assert_eq!(fresh, device);
        prop_assert_eq!(replay(&second), commands);
    }

    /// A cursor that started with another journal skips commands and nothing worse.
    #[test]
    fn a_foreign_cursor_does_no_harm(
        steps in 0..20usize,
        one in proptest::collection::vec(cvq::any_command(), 0..20),
        other in proptest::collection::vec(cvq::any_command(), 0..20),
    ) {
        let rules = Rules { features: Features::from_bits(u64::MAX), ..cvq::rules() };
        let journals = [one, other].map(|commands| {
            let mut journal = journal(&rules);
            for bytes in &commands {
                if let Ok(command) = Command::parse(bytes, &rules) {
                    journal.record(&command);
                }
            }
            journal
        });
        let mut cursor = Cursor::default();
        let mut out = [0; MAX_COMMAND];
        for _ in 0..steps {
            journals[0].next(&mut cursor, &mut out);
        }
        let mut count = 0;
        while let Some(len) = journals[1].next(&mut cursor, &mut out) {
            prop_assert!(Command::parse(&out[..len], &rules).is_ok());
            count += 1;
        }
        prop_assert!(count <= replay(&journals[1]).len());
    }
}

/// A buffer that is not what it was.
struct Shrinking(Vec<u8>);

impl Deref for Shrinking {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Shrinking {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0[..1]
    }
}

#[test]
fn a_buffer_that_lies_loses_commands_and_nothing_else() {
    let buffer = Shrinking(vec![0; buffer_len(4)]);
    let mut journal = Journal::new(buffer, 4).unwrap();
    record(&mut journal, &cvq::samples());
    assert!(replay(&journal).len() < cvq::samples().len());
}
