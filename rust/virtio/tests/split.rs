// SPDX-License-Identifier: GPL-2.0

//! The device side of a split ring against a driver that behaves.

mod ring;

use std::collections::VecDeque;

use proptest::prelude::*;
use ring::Access;
use ring::Driver;
use ring::Ram;
use virtio::chain::Lengths;
use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::QueueError;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::split::need_event;
use virtio::split::Chain;
use virtio::split::RingError;
use virtio::split::SplitQueue;

/// Reads all of the readable part, in pieces of these lengths in turn.
fn read_all(chain: &mut Chain, ram: &Ram, pieces: &[usize]) -> Vec<u8> {
    let mut data = Vec::new();
    for piece in pieces.iter().cycle() {
        let mut buf = vec![0xee; *piece];
        let count = chain.read(ram, &mut buf).unwrap();
        assert!(buf[count..].iter().all(|byte| *byte == 0xee));
        data.extend(&buf[..count]);
        if count < *piece {
            break;
        }
    }
    data
}

/// Writes `data` in pieces of these lengths in turn, until there is no room or no data.
fn write_all(chain: &mut Chain, ram: &Ram, mut data: &[u8], pieces: &[usize]) -> usize {
    let mut total = 0;
    for piece in pieces.iter().cycle() {
        let (now, later) = data.split_at((*piece).min(data.len()));
        let count = chain.write(ram, now).unwrap();
        total += count;
        data = later;
        if count < now.len() || data.is_empty() {
            break;
        }
    }
    total
}

#[test]
fn a_request_and_its_answer() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    assert_eq!(device.pop(&ram), Ok(None));

    let head = driver
        .add(
            &ram,
            &[b"he".to_vec(), b"llo".to_vec()],
            &[3, 4],
            usize::MAX,
        )
        .unwrap();
    assert_eq!(device.available(&ram), Ok(1));
    let mut chain = device.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.head(), head);
    assert_eq!(device.in_flight(), 1);
    assert_eq!(
        chain.lengths(&ram),
        Ok(Lengths {
            readable: 5,
            writable: 7
        })
    );
    assert_eq!(read_all(&mut chain, &ram, &[64]), b"hello");
    assert_eq!(chain.write(&ram, b"world"), Ok(5));
    assert_eq!(chain.written(), 5);
    assert_eq!(driver.reap(&ram), None);
    device
        .push_used(&ram, chain.head(), chain.written())
        .unwrap();
    assert_eq!(device.in_flight(), 0);

    let used = driver.reap(&ram).unwrap();
    assert_eq!((used.head, used.written), (head, 5));
    assert_eq!(used.data, b"world\0\0");
    assert_eq!(device.pop(&ram), Ok(None));
}

#[test]
fn what_is_not_read_is_passed_over() {
    let (mut driver, ram) = Driver::new(8, 0, false);
    let mut device = driver.device();
    let readable = [b"abcd".to_vec(), b"ef".to_vec()];
    driver.add(&ram, &readable, &[2], usize::MAX).unwrap();
    driver.add(&ram, &readable, &[2], usize::MAX).unwrap();
    driver.add(&ram, &readable, &[], usize::MAX).unwrap();

    let mut chain = device.pop(&ram).unwrap().unwrap();
    let mut byte = [0];
    assert_eq!(chain.read(&ram, &mut byte), Ok(1));
    assert_eq!(chain.skip_readable(&ram), Ok(5));
    assert_eq!(chain.read(&ram, &mut byte), Ok(0));
    assert_eq!(chain.write(&ram, b"xyz"), Ok(2));

    let mut chain = device.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.write(&ram, b"xyz"), Ok(2));
    assert_eq!(chain.written(), 2);

    // No room at all.
    let mut chain = device.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.write(&ram, b"xyz"), Ok(0));
    assert_eq!(chain.written(), 0);
    assert_eq!(chain.next_buffer(&ram), Ok(None));
}

#[test]
fn used_elements_are_seen_before_the_index_and_together() {
    let (mut driver, ram) = Driver::new(4, 0xffff, false);
    let mut device = driver.device();
    let one = driver.add(&ram, &[], &[4], 1).unwrap();
    let two = driver.add(&ram, &[], &[4], 1).unwrap();
    for _ in 0..2 {
        device.pop(&ram).unwrap().unwrap();
    }
    ram.take_log();
    device.add_used(&ram, two, 1).unwrap();
    device.add_used(&ram, one, 2).unwrap();
    assert_eq!(driver.reap(&ram), None);
    device.publish_used(&ram).unwrap();

    let at = driver.addresses.device;
    assert_eq!(
        ram.take_log(),
        [
            Access::Write(at + 4 + 3 * 8, 8),
            Access::Write(at + 4, 8),
            Access::WriteIndex(at + 2, 1),
        ]
    );
    assert_eq!(driver.reap(&ram).unwrap().head, two);
    assert_eq!(driver.reap(&ram).unwrap().head, one);
}

#[test]
fn the_available_index_is_loaded_before_the_ring() {
    let (mut driver, ram) = Driver::new(4, 6, false);
    let mut device = driver.device();
    driver.add(&ram, &[b"x".to_vec()], &[], 1).unwrap();
    device.pop(&ram).unwrap().unwrap();
    let at = driver.addresses.driver;
    assert_eq!(
        ram.take_log(),
        [Access::ReadIndex(at + 2), Access::Read(at + 4 + 2 * 2, 2)]
    );
}

#[test]
fn a_barrier_stands_between_what_is_told_and_what_is_asked() {
    for event_idx in [false, true] {
        let (mut driver, ram) = Driver::new(4, 0, event_idx);
        let mut device = driver.device();
        let head = driver.add(&ram, &[b"x".to_vec()], &[], 1).unwrap();
        device.pop(&ram).unwrap().unwrap();
        device.push_used(&ram, head, 0).unwrap();
        ram.take_log();
        device.needs_interrupt(&ram, 0).unwrap();
        let asked = match event_idx {
            true => driver.used_event(),
            false => driver.addresses.driver,
        };
        assert_eq!(ram.take_log(), [Access::Barrier, Access::ReadIndex(asked)]);

        device.enable_notifications(&ram).unwrap();
        let told = match event_idx {
            true => Access::WriteIndex(driver.avail_event(), 1),
            false => Access::WriteIndex(driver.addresses.device, 0),
        };
        assert_eq!(
            ram.take_log(),
            [
                told,
                Access::Barrier,
                Access::ReadIndex(driver.addresses.driver + 2)
            ]
        );
    }
}

#[test]
fn nothing_returned_means_no_interrupt() {
    for event_idx in [false, true] {
        let (driver, ram) = Driver::new(4, 7, event_idx);
        driver.want_interrupt_at(&ram, 7);
        assert_eq!(driver.device().needs_interrupt(&ram, 7), Ok(false));
    }
}

#[test]
fn the_interrupt_flag_is_obeyed() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    let head = driver.add(&ram, &[], &[1], 1).unwrap();
    device.pop(&ram).unwrap().unwrap();
    device.push_used(&ram, head, 0).unwrap();
    assert_eq!(device.needs_interrupt(&ram, 0), Ok(true));
    driver.set_no_interrupt(&ram, true);
    assert_eq!(device.needs_interrupt(&ram, 0), Ok(false));
}

#[test]
fn the_notification_flag_is_set_and_cleared() {
    let (driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    assert!(driver.must_notify(&ram, 0));
    device.disable_notifications(&ram).unwrap();
    assert!(!driver.must_notify(&ram, 0));
    assert_eq!(device.enable_notifications(&ram), Ok(false));
    assert!(driver.must_notify(&ram, 0));
}

#[test]
fn only_what_was_taken_can_be_returned() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    assert_eq!(device.push_used(&ram, 0, 0), Err(RingError::NotTaken));
    let head = driver.add(&ram, &[], &[1], 1).unwrap();
    assert_eq!(device.push_used(&ram, head, 0), Err(RingError::NotTaken));
    device.pop(&ram).unwrap().unwrap();
    assert_eq!(
        device.push_used(&ram, 4, 0),
        Err(RingError::Index {
            index: 4,
            entries: 4
        })
    );
    assert_eq!(device.push_used(&ram, head, 0), Ok(()));
    assert_eq!(device.push_used(&ram, head, 0), Err(RingError::NotTaken));
}

#[test]
fn a_queue_is_built_from_checked_numbers() {
    let addresses = Addresses {
        desc: 0x1000,
        driver: 0x2000,
        device: 0x3000,
    };
    let new = |num, kind, addresses| {
        SplitQueue::new(
            Size::new(num, 256, kind).unwrap(),
            addresses,
            Features::VERSION_1,
        )
    };
    let queue = new(8, RingKind::Split, addresses).unwrap();
    assert_eq!(queue.size().get(), 8);
    assert_eq!(queue.addresses(), addresses);
    assert_eq!((queue.next_avail(), queue.next_used()), (0, 0));
    assert_eq!(
        new(9, RingKind::Packed, addresses),
        Err(QueueError::NotPowerOfTwo(9))
    );
    let addresses = Addresses {
        driver: 0x2001,
        ..addresses
    };
    assert!(new(8, RingKind::Split, addresses).is_err());
}

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

#[test]
fn a_full_ring_goes_around_the_indices() {
    for start in [0, 0x7ffe, 0xfffc] {
        let (mut driver, ram) = Driver::new(4, start, true);
        let mut device = driver.device();
        for round in 0..20_000u32 {
            let content = round.to_le_bytes().to_vec();
            for _ in 0..4 {
                driver.add(&ram, &[content.clone()], &[], 1).unwrap();
            }
            assert!(driver.add(&ram, &[content.clone()], &[], 1).is_none());
            while let Some(mut chain) = device.pop(&ram).unwrap() {
                assert_eq!(read_all(&mut chain, &ram, &[3]), content);
                device.push_used(&ram, chain.head(), 0).unwrap();
            }
            assert_eq!(std::iter::from_fn(|| driver.reap(&ram)).count(), 4);
            ram.take_log();
        }
    }
}

#[test]
fn the_largest_ring_can_be_full() {
    let (mut driver, ram) = Driver::new(32768, 0xfff0, false);
    let mut device = driver.device();
    while driver.add(&ram, &[b"x".to_vec()], &[], 1).is_some() {}
    assert_eq!(device.available(&ram), Ok(32768));
    for left in (0..32768).rev() {
        device.pop(&ram).unwrap().unwrap();
        assert_eq!(device.available(&ram), Ok(left));
    }
    assert_eq!(device.in_flight(), 32768);
    assert_eq!(device.pop(&ram), Ok(None));
}

#[test]
fn a_chain_longer_than_it_may_be_is_broken() {
    // In the ring's table, and in an indirect one.
    for direct in [usize::MAX, 0] {
        for (most, ends) in [(3, true), (2, false)] {
            let (mut driver, ram) = Driver::new(8, 0, false);
            let size = Size::new(8, 8, RingKind::Split).unwrap();
            let accepted = Features::VERSION_1 | Features::RING_INDIRECT_DESC;
            let mut queue = SplitQueue::new(size, driver.addresses, accepted).unwrap();
            driver.add(&ram, &[], &[1, 1, 1], direct).unwrap();
            let mut chain = queue.pop(&ram).unwrap().unwrap().at_most(most);
            let result = chain.write(&ram, &[7; 3]);
            if ends {
                assert_eq!(result, Ok(3));
            } else {
                assert_eq!(result, Err(RingError::Loop));
            }
        }
    }
}
