// SPDX-License-Identifier: GPL-2.0

//! The device side of a split ring against a driver that behaves.

mod any;
#[path = "../ring/mod.rs"]
mod ring;

use ring::Access;
use ring::Driver;
use ring::Ram;
use virtio::chain::Lengths;
use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::QueueError;
use virtio::queue::RingKind;
use virtio::queue::Size;
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
