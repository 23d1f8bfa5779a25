// SPDX-License-Identifier: GPL-2.0

//! Requests to a device that behaves, and to some that do not.

mod ring;

use proptest::prelude::*;
use ring::Access;
use ring::Ram;
use virtio::features::Features;
use virtio::request::RequestError;
use virtio::request::Requests;
use virtio::request::MAX_ANSWER;
use virtio::request::MAX_REQUEST;
use virtio::request::READ_ONLY_LEN;
use virtio::request::WRITABLE_LEN;
use virtio::split::SplitQueue;

/// Where the device may write: some way behind what it only reads, as where pages are larger.
const WRITABLE: u64 = Ram::BASE + 2 * READ_ONLY_LEN as u64;

fn new(max_size: u16) -> (Requests, Ram, SplitQueue) {
    let requests = Requests::new(max_size, Ram::BASE, WRITABLE).unwrap();
    let ram = Ram::new(vec![0; 2 * READ_ONLY_LEN + WRITABLE_LEN]);
    let device =
        SplitQueue::new(requests.size(), requests.addresses(), Features::VERSION_1).unwrap();
    (requests, ram, device)
}

/// The device takes a request and answers it; it wants no notification and gives no interrupt.
fn serve(device: &mut SplitQueue, ram: &Ram, answer: &[u8]) -> Vec<u8> {
    let mut chain = device.pop(ram).unwrap().unwrap();
    let mut request = vec![0; MAX_REQUEST + 1];
    let len = chain.read(ram, &mut request).unwrap();
    request.truncate(len);
    let old = device.next_used();
    chain.write(ram, answer).unwrap();
    device
        .push_used(ram, chain.head(), chain.written())
        .unwrap();
    assert!(!device.needs_interrupt(ram, old).unwrap());
    request
}

proptest! {
    /// Whatever the size of the queue, each request arrives as it is, and so does its answer.
    #[test]
    fn requests_and_answers_arrive(
        max_size in 2_u16..=u16::MAX,
        rounds in prop::collection::vec(
            (1_usize..=MAX_REQUEST, 1_usize..=MAX_ANSWER, any::<u8>(), 0_usize..=MAX_ANSWER),
            1..200,
        ),
    ) {
        let (mut requests, ram, mut device) = new(max_size);
        prop_assert!(requests.size().get() <= max_size);
        for (len, answer_len, byte, written) in rounds {
            let request: Vec<u8> = (0..len).map(|at| byte.wrapping_add(at as u8)).collect();
            requests.submit(&ram, &request, answer_len).unwrap();
            let mut answer = [0; MAX_ANSWER];
            prop_assert!(!requests.poll(&ram, &mut answer).unwrap());
            prop_assert_eq!(requests.submit(&ram, &[1], 1), Err(RequestError::Busy));
            let wrote = vec![byte; written];
            ram.take_log();
            prop_assert_eq!(serve(&mut device, &ram, &wrote), request);
            // The device has written where it may.
            for access in ram.take_log() {
                if let Access::Write(at, _) | Access::WriteIndex(at, _) = access {
                    prop_assert!(at >= WRITABLE, "{at:#x}");
                }
            }
            prop_assert!(requests.poll(&ram, &mut answer).unwrap());
            // A byte that the device did not write is all ones, wherever it had room.
            let fit = written.min(answer_len);
            prop_assert!(answer[..fit].iter().all(|got| *got == byte));
            prop_assert!(answer[fit..answer_len].iter().all(|got| *got == 0xff));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(Requests::new(0, Ram::BASE, WRITABLE).is_none());
    assert!(Requests::new(1, Ram::BASE, WRITABLE).is_none());
    assert!(Requests::new(2, u64::MAX - 8191, 0).is_none());
    assert!(Requests::new(2, 0, u64::MAX - 4095).is_none());
    assert!(Requests::new(2, u64::MAX - 8192, u64::MAX - 4096).is_some());
    for (most, size) in [(3, 2), (1024, 64)] {
        let requests = Requests::new(most, Ram::BASE, WRITABLE).unwrap();
        assert_eq!(requests.size().get(), size);
    }
    let (mut requests, ram, _) = new(64);
    for (len, answer) in [(0, 1), (0, 0), (MAX_REQUEST + 1, 1), (1, MAX_ANSWER + 1)] {
        let result = requests.submit(&ram, &vec![1; len], answer);
        assert_eq!(result, Err(RequestError::TooLong), "{len} {answer}");
    }
    // Neither has it been given away.
    requests
        .submit(&ram, &[1; MAX_REQUEST], MAX_ANSWER)
        .unwrap();
}

/// As for a queue whose device only reads: it finds nothing to write to, one time after the other.
#[test]
fn an_answer_is_not_always_wanted() {
    let (mut requests, ram, mut device) = new(4);
    for round in 1..10 {
        // An answer before it leaves a second descriptor.
        requests.submit(&ram, &[round; 2], 1).unwrap();
        serve(&mut device, &ram, &[0]);
        assert_eq!(requests.poll(&ram, &mut [0]), Ok(true));

        requests.submit(&ram, &[round; 80], 0).unwrap();
        assert_eq!(requests.poll(&ram, &mut []), Ok(false));
        let mut chain = device.pop(&ram).unwrap().unwrap();
        let mut request = [0; 81];
        assert_eq!(chain.read(&ram, &mut request), Ok(80));
        assert_eq!(request[..80], [round; 80]);
        assert_eq!(chain.write(&ram, &[0]), Ok(0), "it has no room");
        device.push_used(&ram, chain.head(), 0).unwrap();
        assert_eq!(requests.poll(&ram, &mut []), Ok(true));
    }
}

#[test]
fn the_areas_do_not_overlap() {
    for size in [2_u16, 4, 8, 16, 32, 64] {
        let (requests, ..) = new(size);
        let addresses = requests.addresses();
        let n = u64::from(size);
        assert_eq!(requests.size().get(), size);
        assert!(addresses.desc + 16 * n <= addresses.driver);
        // The request is at 4096, and nothing behind it is for the device to read only; the answer is 2048
        // behind the used ring.
        assert!(addresses.driver + 6 + 2 * n <= Ram::BASE + 4096);
        assert_eq!(addresses.device, WRITABLE);
        assert!(6 + 8 * n <= 2048);
    }
}

#[test]
fn a_device_that_lies_is_found_out() {
    let used = |requests: &Requests| requests.addresses().device;
    // It returns a chain that it does not have,
    let (mut requests, ram, _) = new(8);
    requests.submit(&ram, &[1], 1).unwrap();
    ram.poke(used(&requests) + 4, &[1, 0, 0, 0]);
    ram.poke16(used(&requests) + 2, 1);
    let error = requests.poll(&ram, &mut []).unwrap_err();
    assert_eq!(error, RequestError::Used { index: 1, head: 1 });
    // or one that only looks like it,
    ram.poke(used(&requests) + 4, &[0, 0, 1, 0]);
    let error = requests.poll(&ram, &mut []).unwrap_err();
    assert_eq!(
        error,
        RequestError::Used {
            index: 1,
            head: 1 << 16
        }
    );
    // or several at once,
    ram.poke(used(&requests) + 4, &[0; 4]);
    ram.poke16(used(&requests) + 2, 2);
    let error = requests.poll(&ram, &mut []).unwrap_err();
    assert_eq!(error, RequestError::Used { index: 2, head: 0 });
    // or goes back,
    ram.poke16(used(&requests) + 2, 0xffff);
    assert!(requests.poll(&ram, &mut []).is_err());
    // or returns one twice.
    ram.poke16(used(&requests) + 2, 1);
    assert_eq!(requests.poll(&ram, &mut []), Ok(true));
    assert!(requests.poll(&ram, &mut []).is_err());
}
