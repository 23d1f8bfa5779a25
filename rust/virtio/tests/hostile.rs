// SPDX-License-Identifier: GPL-2.0

//! The device side of a split ring against a driver that does not behave.

mod ring;

use proptest::prelude::*;
use ring::Driver;
use ring::Ram;
use ring::Unmapped;
use ring::INDIRECT;
use ring::NEXT;
use ring::WRITE;
use virtio::chain::MAX_INDIRECT;
use virtio::features::Features;
use virtio::queue::Addresses;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::split::RingError;
use virtio::split::SplitQueue;

/// Walks the one chain that `set_up` makes, and returns the error.
fn error(set_up: impl FnOnce(&mut Driver, &Ram)) -> RingError<Unmapped> {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    set_up(&mut driver, &ram);
    match device.pop(&ram) {
        Err(error) => error,
        Ok(None) => panic!("no chain"),
        Ok(Some(chain)) => {
            let error = chain.lengths(&ram).unwrap_err();
            // The same on the way that changes the chain, which ends there.
            let mut chain = chain;
            while chain.next_buffer(&ram).is_ok_and(|buffer| buffer.is_some()) {}
            assert_eq!(chain.next_buffer(&ram), Ok(None));
            error
        }
    }
}

const A: u64 = 0x2000;

#[test]
fn a_head_that_does_not_exist() {
    let error = error(|driver, ram| driver.offer(ram, 4));
    assert_eq!(
        error,
        RingError::Index {
            index: 4,
            entries: 4
        }
    );
    assert_eq!(error.to_string(), "descriptor 4 of a table of 4");
}

#[test]
fn a_next_that_does_not_exist() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, A, 1, NEXT, 0xffff);
        driver.offer(ram, 0);
    });
    assert_eq!(
        error,
        RingError::Index {
            index: 0xffff,
            entries: 4
        }
    );
}

#[test]
fn a_chain_that_bites_its_tail() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, A, 1, NEXT, 1);
        driver.descriptor(ram, 1, A, 1, NEXT, 0);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::Loop);
    assert_eq!(error.to_string(), "descriptor chain does not end");
}

#[test]
fn a_chain_as_long_as_the_ring_is_fine() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    for index in 0..4 {
        let flags = if index < 3 { NEXT } else { 0 };
        driver.descriptor(&ram, index, A, 1, flags, index + 1);
    }
    driver.offer(&ram, 0);
    let chain = device.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.lengths(&ram).unwrap().readable, 4);
}

#[test]
fn an_indirect_table_that_bites_its_tail() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, driver.table(0), 32, INDIRECT, 0);
        Driver::write_descriptor(ram, driver.table(0), A, 1, NEXT, 1);
        Driver::write_descriptor(ram, driver.table(0) + 16, A, 1, NEXT, 1);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::Loop);
}

#[test]
fn an_index_outside_of_the_indirect_table() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, driver.table(0), 16, INDIRECT, 0);
        // It is one of the ring's table, but not of this one.
        Driver::write_descriptor(ram, driver.table(0), A, 1, NEXT, 1);
        driver.offer(ram, 0);
    });
    assert_eq!(
        error,
        RingError::Index {
            index: 1,
            entries: 1
        }
    );
}

#[test]
fn an_indirect_table_in_an_indirect_table() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, driver.table(0), 16, INDIRECT, 0);
        Driver::write_descriptor(ram, driver.table(0), driver.table(0), 16, INDIRECT, 0);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::NestedIndirect);
}

#[test]
fn an_indirect_descriptor_in_the_middle() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, driver.table(0), 16, INDIRECT | NEXT, 1);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::IndirectNext);
}

#[test]
fn indirect_tables_of_impossible_lengths() {
    assert_eq!(MAX_INDIRECT, 1024);
    let too_long = 16 * 1025;
    for len in [0, 1, 15, 17, 24, too_long, 0xffff_fff0, u32::MAX] {
        let error = error(|driver, ram| {
            driver.descriptor(ram, 0, driver.table(0), len, INDIRECT, 0);
            driver.offer(ram, 0);
        });
        assert_eq!(error, RingError::IndirectLen(len));
    }
    // The longest ends elsewhere: outside of the memory.
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, 0x10_0000, 16 * MAX_INDIRECT, INDIRECT, 0);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::Memory(Unmapped(0x10_0000)));
}

#[test]
fn indirect_descriptors_that_were_not_negotiated() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    driver.descriptor(&ram, 0, driver.table(0), 16, INDIRECT, 0);
    driver.offer(&ram, 0);
    let size = Size::new(4, 4, RingKind::Split).unwrap();
    let mut device = SplitQueue::new(size, driver.addresses, Features::VERSION_1).unwrap();
    let chain = device.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.lengths(&ram), Err(RingError::IndirectNotNegotiated));
}

#[test]
fn the_write_flag_of_an_indirect_descriptor_means_nothing() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    driver.descriptor(&ram, 0, driver.table(0), 16, INDIRECT | WRITE, 0);
    Driver::write_descriptor(&ram, driver.table(0), A, 3, 0, 0);
    driver.offer(&ram, 0);
    let chain = device.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.lengths(&ram).unwrap().readable, 3);
}

#[test]
fn readable_after_writable() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, A, 1, NEXT | WRITE, 1);
        driver.descriptor(ram, 1, A, 1, 0, 0);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::ReadAfterWrite);
    assert_eq!(error.to_string(), "readable buffer after a writable one");
}

#[test]
fn more_than_4_gib() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, A, u32::MAX, NEXT, 1);
        driver.descriptor(ram, 1, A, 1, WRITE, 0);
        driver.offer(ram, 0);
    });
    assert_eq!(error, RingError::TooLong);
}

#[test]
fn a_byte_less_than_4_gib_is_fine() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    driver.descriptor(&ram, 0, A, u32::MAX - 1, NEXT, 1);
    driver.descriptor(&ram, 1, A, 1, WRITE, 0);
    driver.offer(&ram, 0);
    let chain = device.pop(&ram).unwrap().unwrap();
    let lengths = chain.lengths(&ram).unwrap();
    assert_eq!((lengths.readable, lengths.writable), (u32::MAX - 1, 1));
}

#[test]
fn a_buffer_around_the_end_of_the_address_space() {
    let error = error(|driver, ram| {
        driver.descriptor(ram, 0, u64::MAX - 3, 4, 0, 0);
        driver.offer(ram, 0);
    });
    assert_eq!(
        error,
        RingError::BufferWraps {
            address: u64::MAX - 3,
            len: 4
        }
    );
}

#[test]
fn a_buffer_that_is_not_there() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    driver.descriptor(&ram, 0, 0x10_0000, 4, NEXT, 1);
    driver.descriptor(&ram, 1, 0x20_0000, 4, WRITE, 0);
    driver.offer(&ram, 0);
    let mut chain = device.pop(&ram).unwrap().unwrap();
    let error = RingError::Memory(Unmapped(0x10_0000));
    assert_eq!(chain.read(&ram, &mut [0; 4]), Err(error));
    let error = RingError::Memory(Unmapped(0x20_0000));
    assert_eq!(chain.write(&ram, &[0; 4]), Err(error));
    assert_eq!(chain.written(), 0);
    assert_eq!(
        error.to_string(),
        "ring memory cannot be reached: Unmapped(2097152)"
    );
}

#[test]
fn an_index_too_far_ahead() {
    for start in [0u16, 0xfffe] {
        let (driver, ram) = Driver::new(4, start, false);
        let mut device = driver.device();
        for ahead in [5, 6, 0x8000, 0xffff] {
            let index = start.wrapping_add(ahead);
            ram.poke16(driver.addresses.driver + 2, index);
            let error = RingError::AvailIndex {
                index,
                taken: start,
            };
            assert_eq!(device.pop(&ram), Err(error));
            assert_eq!(device.enable_notifications(&ram), Err(error));
        }
        ram.poke16(driver.addresses.driver + 2, start.wrapping_add(4));
        assert_eq!(device.available(&ram), Ok(4));
    }
}

#[test]
fn chains_in_flight_count() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    for _ in 0..4 {
        driver.offer(&ram, 0);
        device.pop(&ram).unwrap().unwrap();
    }
    // The driver has all of its descriptors lent, so it cannot offer a fifth.
    driver.offer(&ram, 0);
    assert_eq!(
        device.pop(&ram),
        Err(RingError::AvailIndex { index: 5, taken: 4 })
    );
}

#[test]
fn an_index_that_goes_back() {
    let (mut driver, ram) = Driver::new(4, 0, false);
    let mut device = driver.device();
    for _ in 0..2 {
        driver.offer(&ram, 0);
        device.pop(&ram).unwrap().unwrap();
    }
    ram.poke16(driver.addresses.driver + 2, 1);
    assert_eq!(
        device.pop(&ram),
        Err(RingError::AvailIndex { index: 1, taken: 2 })
    );
}

#[test]
fn a_ring_that_is_not_there() {
    let size = Size::new(4, 4, RingKind::Split).unwrap();
    let ram = Ram::new(vec![0; 64]);
    let gone = Addresses {
        desc: 0,
        driver: 0,
        device: 0,
    };
    for event_idx in [Features::EMPTY, Features::RING_EVENT_IDX] {
        let mut device = SplitQueue::new(size, gone, event_idx)
            .unwrap()
            .with_state(3, 2);
        assert!(device.pop(&ram).is_err());
        assert!(device.push_used(&ram, 0, 0).is_err());
        assert!(device.publish_used(&ram).is_err());
        assert!(device.needs_interrupt(&ram, 1).is_err());
        assert!(device.enable_notifications(&ram).is_err());
        assert_eq!(device.next_used(), 2);
    }
}

/// A ring of noise, in a memory small enough that addresses in it are often found.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    // Descriptors that have a chance, and bytes that have none.
    let descriptor = (
        prop_oneof![4 => 0u64..0x1800, 1 => any::<u64>()],
        prop_oneof![4 => 0u32..300, 2 => (0u32..8).prop_map(|n| n * 16), 1 => any::<u32>()],
        prop_oneof![8 => 0u16..8, 1 => any::<u16>()],
        prop_oneof![8 => 0u16..16, 1 => any::<u16>()],
    )
        .prop_map(|(address, len, flags, next)| {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            bytes
        });
    let indices = proptest::collection::vec(prop_oneof![4 => 0u16..20, 1 => any::<u16>()], 0..64)
        .prop_map(|numbers| {
            numbers
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect::<Vec<u8>>()
        });
    (
        proptest::collection::vec(descriptor, 0..64),
        indices,
        proptest::collection::vec(any::<u8>(), 0..256),
    )
        .prop_map(|(descriptors, indices, bytes)| {
            let mut memory = descriptors.concat();
            memory.resize(1024, 0);
            memory.extend(indices);
            memory.extend(bytes);
            memory.resize(2048, 0);
            memory
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// No noise makes the device panic, walk without end, or return what it did not take.
    #[test]
    fn noise_is_survived(
        memory in noise(),
        order in 0u32..=15,
        bits: u64,
        start in prop_oneof![Just(0u16), any::<u16>()],
        desc in prop_oneof![4 => Just(0u64), 1 => (0u64..64).prop_map(|n| n * 16)],
        driver in prop_oneof![4 => Just(1024u64), 1 => (0u64..1000).prop_map(|n| n * 2)],
        device in prop_oneof![4 => Just(1152u64), 1 => (0u64..500).prop_map(|n| n * 4)],
        event in any::<u16>(),
    ) {
        let ram = Ram::new(memory);
        let size = Size::new(1 << order, 32768, RingKind::Split).unwrap();
        let addresses = Addresses {
            desc: Ram::BASE + desc,
            driver: Ram::BASE + driver,
            device: Ram::BASE + device,
        };
        let mut queue = SplitQueue::new(size, addresses, Features::from_bits(bits))
            .unwrap()
            .with_state(start, start);
        let limit = usize::from(size.get()) + MAX_INDIRECT as usize;
        for _ in 0..20 {
            let Ok(Some(chain)) = queue.pop(&ram) else {
                break;
            };
            prop_assert!(chain.head() < size.get());
            let before = ram.accesses.get();
            let lengths = chain.lengths(&ram);
            prop_assert!(ram.accesses.get() - before <= limit);

            let mut walk = chain;
            let mut buf = [0; 100];
            let read = walk.read(&ram, &mut buf);
            let written = walk.write(&ram, &buf);
            prop_assert!(ram.accesses.get() - before <= 4 * limit);
            if let (Ok(lengths), Ok(read)) = (lengths, read) {
                prop_assert_eq!(read, 100.min(lengths.readable as usize));
            }
            if let Ok(written) = written {
                prop_assert_eq!(written, walk.written() as usize);
            }
            let old = queue.next_used();
            let _ = queue.push_used(&ram, chain.head(), walk.written());
            let _ = queue.needs_interrupt(&ram, old);
            let _ = queue.needs_interrupt(&ram, event);
            let _ = queue.enable_notifications(&ram);
            let _ = queue.disable_notifications(&ram);
            prop_assert!(queue.in_flight() <= 20);
        }
    }
}
