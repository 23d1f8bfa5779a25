// SPDX-License-Identifier: GPL-2.0

//! A driver and a device that keep to the rules, in whatever order they are called.

use std::collections::VecDeque;

use proptest::prelude::*;
use virtio::split::need_event;

use crate::read_all;
use crate::ring::Driver;
use crate::write_all;

/// One step of a driver or of its device.
#[derive(Clone, Debug)]
enum Step {
    Add {
        readable: Vec<Vec<u8>>,
        writable: Vec<usize>,
        direct: usize,
    },
    /// The device takes up to so many chains.
    Take(usize),
    /// The device returns so many of them as a batch, starting with this one.
    Return(usize, usize),
    /// The driver takes chains back and asks for the interrupt so far ahead.
    Reap(u16),
    /// The device goes to sleep.
    Sleep,
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => (
            proptest::collection::vec(bytes, 0..4),
            proptest::collection::vec(0usize..20, 0..4),
            prop_oneof![Just(usize::MAX), 0usize..4],
        )
            .prop_map(|(readable, writable, direct)| Step::Add { readable, writable, direct }),
        2 => (1usize..6).prop_map(Step::Take),
        3 => (any::<usize>(), 1usize..4).prop_map(|(which, count)| Step::Return(which, count)),
        1 => (0u16..4).prop_map(Step::Reap),
        1 => Just(Step::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Chains of every shape, taken in order and returned in any, around the wrap of the indices:
    /// the device reads what the driver wrote and the other way round, interrupts come when they
    /// were asked for, and no chain is made available to a sleeping device without a notification.
    #[test]
    fn a_driver_and_its_device_understand_each_other(
        order in 0u32..5,
        start in prop_oneof![Just(0u16), 0xffd0u16.., any::<u16>()],
        event_idx: bool,
        pieces in proptest::collection::vec(1usize..30, 1..4),
        steps in proptest::collection::vec(any_step(), 1..120),
    ) {
        let (mut driver, ram) = Driver::new(1 << order, start, event_idx);
        let mut device = driver.device();
        driver.want_interrupt_at(&ram, start);
        let mut offered = VecDeque::new();
        let mut taken = Vec::new();
        let mut returned = VecDeque::new();
        let mut asleep = false;
        // How many chains the device has to return until it has to interrupt. The driver cannot
        // ask for more than once around.
        let mut until_interrupt = 1i32;
        for step in steps {
            match step {
                Step::Add { readable, writable, direct } => {
                    let old = driver.avail;
                    if let Some(head) = driver.add(&ram, &readable, &writable, direct) {
                        offered.push_back((head, readable.concat(), writable));
                        if asleep {
                            prop_assert!(driver.must_notify(&ram, old));
                            asleep = false;
                        }
                    }
                }
                Step::Take(count) => {
                    asleep = false;
                    device.disable_notifications(&ram).unwrap();
                    prop_assert_eq!(device.available(&ram), Ok(offered.len() as u16));
                    for _ in 0..count {
                        let chain = device.pop(&ram).unwrap();
                        let expected = offered.pop_front();
                        prop_assert_eq!(chain.is_some(), expected.is_some());
                        let (Some(mut chain), Some((head, content, writable))) =
                            (chain, expected) else { break };
                        let room: usize = writable.iter().sum();
                        prop_assert_eq!(chain.head(), head);
                        let lengths = chain.lengths(&ram).unwrap();
                        prop_assert_eq!(lengths.readable as usize, content.len());
                        prop_assert_eq!(lengths.writable as usize, room);
                        prop_assert_eq!(read_all(&mut chain, &ram, &pieces), content);
                        taken.push((chain, room));
                    }
                    prop_assert_eq!(usize::from(device.in_flight()), taken.len());
                }
                Step::Return(which, count) => {
                    let old = device.next_used();
                    for _ in 0..count.min(taken.len()) {
                        let (mut chain, room) = taken.swap_remove(which % taken.len());
                        let answer: Vec<u8> = (0..room + which % 3).map(|n| n as u8 | 1).collect();
                        let written = write_all(&mut chain, &ram, &answer, &pieces);
                        prop_assert_eq!(written, room);
                        prop_assert_eq!(chain.written() as usize, room);
                        device.add_used(&ram, chain.head(), chain.written()).unwrap();
                        returned.push_back((chain.head(), answer[..room].to_vec()));
                        until_interrupt -= 1;
                    }
                    device.publish_used(&ram).unwrap();
                    let count = i32::from(device.next_used().wrapping_sub(old));
                    let passed = until_interrupt <= 0 && until_interrupt + count > 0;
                    let wanted = if event_idx { passed } else { count > 0 };
                    prop_assert_eq!(device.needs_interrupt(&ram, old), Ok(wanted));
                }
                Step::Reap(ahead) => {
                    while let Some(used) = driver.reap(&ram) {
                        let (head, answer) = returned.pop_front().unwrap();
                        prop_assert_eq!(used.head, head);
                        prop_assert_eq!(used.written as usize, answer.len());
                        prop_assert_eq!(used.data, answer);
                    }
                    prop_assert!(returned.is_empty());
                    driver.want_interrupt_at(&ram, driver.used.wrapping_add(ahead));
                    until_interrupt = i32::from(ahead) + 1;
                }
                Step::Sleep => {
                    let more = device.enable_notifications(&ram).unwrap();
                    prop_assert_eq!(more, !offered.is_empty());
                    asleep = !more;
                }
            }
        }
    }

    #[test]
    fn an_event_is_needed_when_its_index_was_passed(old: u16, count in 0u16..600, ahead in -700i32..700) {
        let new = old.wrapping_add(count);
        let event = (i32::from(old) + ahead).rem_euclid(0x10000) as u16;
        let passed = (0..count).any(|n| old.wrapping_add(n) == event);
        prop_assert_eq!(need_event(event, new, old), passed);
    }
}
