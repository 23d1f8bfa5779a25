// SPDX-License-Identifier: GPL-2.0

//! What looks at a relayed queue leave to do: rings that come and go, a queue that is to be handed back,
//! sides that lie.

mod ring;

use ring::Driver;
use ring::Ram;
use ring::Unmapped;
use virtio::boundary::Boundary;
use virtio::boundary::Needs;
use virtio::queue::RingKind;
use virtio::queue::Size;
use virtio::relay::Relay;
use virtio::relay::RelayError;
use virtio::relay::Returns;
use virtio::relay::Rings;
use virtio::relayed::Pass;
use virtio::relayed::Passed;
use virtio::relayed::Relayed;
use virtio::relayed::Unclear;

const SIZE: u16 = 4;
/// Of one that tells something of what was done before.
const LONG: u16 = 64;
/// Where the rings of the device are.
const SHADOW: Rings = Rings {
    driver: Ram::BASE,
    device: Ram::BASE + 136,
};

fn relay(driver: &Driver, start: u16, event_idx: bool, returns: Returns) -> Relay<Vec<u64>> {
    let own = Rings::from(driver.addresses);
    let size = Size::new(driver.size.into(), driver.size, RingKind::Split).unwrap();
    Relay::new(size, own, SHADOW, start, event_idx, returns, vec![0]).unwrap()
}

struct Scene {
    queue: Relayed<Vec<u64>, Unmapped, Unmapped>,
    driver: Driver,
    guest: Ram,
    shadow: Ram,
    notified: u32,
}

impl Scene {
    /// A queue that goes on at `start`, and was looked at once.
    fn new(start: u16, event_idx: bool, returns: Returns, boundary: Boundary) -> Self {
        let (driver, guest) = Driver::new(SIZE, start, event_idx);
        let relay = relay(&driver, start, event_idx, returns);
        let mut scene = Self::of(Relayed::new(relay, boundary, false), driver, guest);
        scene.pass(Pass::Work);
        scene
    }

    /// One whose driver has got back all before `used`, and which is to go on `taken` chains later. It
    /// was not looked at.
    fn taken(used: u16, taken: u16, skips: bool) -> Self {
        let (driver, guest) = Driver::new(SIZE, used, true);
        let relay = relay(&driver, used.wrapping_add(taken), true, Returns::Promptly);
        let boundary = Boundary::new(Needs::One);
        let queue = Relayed::new(relay.skipping(skips), boundary, false);
        let mut scene = Self::of(queue, driver, guest);
        (0..taken.min(SIZE)).for_each(|_| scene.add());
        scene
    }

    /// One that was used for a while by somebody who has lost the last chain. It was not looked at.
    fn lost() -> Self {
        let (mut driver, guest) = Driver::new(LONG, 1000, true);
        let device = driver.addresses.device;
        for together in [1, 2, 5, 3].into_iter().cycle().take(20) {
            let heads: Vec<_> = (0..together)
                .map(|_| driver.add(&guest, &[], &[4], usize::MAX).unwrap())
                .collect();
            for head in heads {
                let used = guest.peek16(device + 2);
                guest.poke16(device + 4 + 8 * u64::from(used % LONG), head);
                guest.poke16(device + 2, used + 1);
                driver.reap(&guest).unwrap();
            }
        }
        driver.add(&guest, &[], &[4], usize::MAX).unwrap();
        let relay = relay(&driver, driver.avail, true, Returns::Promptly);
        let queue = Relayed::new(relay.skipping(true), Boundary::new(Needs::One), false);
        Self::of(queue, driver, guest)
    }

    fn of(queue: Relayed<Vec<u64>, Unmapped, Unmapped>, driver: Driver, guest: Ram) -> Self {
        Self {
            queue,
            driver,
            guest,
            shadow: Ram::new(vec![0; 1024]),
            notified: 0,
        }
    }

    /// One of which nothing special is known.
    fn plain() -> Self {
        Self::new(1000, true, Returns::Promptly, Boundary::never())
    }

    /// One chain before the boundary.
    fn near() -> Self {
        Self::new(0xffff, true, Returns::Promptly, Boundary::new(Needs::One))
    }

    fn pass(&mut self, pass: Pass) -> Passed {
        let notified = &mut self.notified;
        self.queue
            .pass(Some(&self.guest), &self.shadow, pass, 0, || *notified += 1)
    }

    /// A look while it is not known where the guest's rings are.
    fn pass_without(&mut self, pass: Pass) -> Passed {
        self.queue.pass(None::<&Ram>, &self.shadow, pass, 0, || {
            panic!("the device is notified of nothing");
        })
    }

    fn add(&mut self) {
        self.driver
            .add(&self.guest, &[], &[4], usize::MAX)
            .expect("the ring is full");
    }

    /// The device uses its next chain.
    fn uses(&mut self) {
        let index = self.shadow.peek16(SHADOW.device + 2);
        let slot = u64::from(index % SIZE);
        let head = self.shadow.peek16(SHADOW.driver + 4 + 2 * slot);
        self.shadow.poke16(SHADOW.device + 4 + 8 * slot, head);
        self.shadow.poke16(SHADOW.device + 2, index.wrapping_add(1));
    }

    /// A chain is passed on, and used.
    fn does_one(&mut self) {
        self.add();
        self.pass(Pass::Kick);
        self.uses();
    }

    fn is_fine(&self) -> bool {
        self.queue.broken().is_none()
    }
}

const GONE: Unmapped = Unmapped(7);

#[test]
fn rings_may_go_while_there_is_nothing_to_do() {
    let mut scene = Scene::plain();
    assert_eq!(scene.queue.needed(), None);
    scene.queue.miss(None, GONE);
    assert!(scene.is_fine());
    // Nor is an interrupt that means nothing a reason.
    let passed = scene.pass_without(Pass::Interrupt);
    assert!(!passed.has_left_something() && scene.queue.needed().is_none());
    // A kick is, but not for what was looked for before.
    assert!(scene.pass_without(Pass::Kick).more);
    scene.queue.miss(None, GONE);
    assert!(scene.is_fine());
    let before = scene.queue.needed();
    scene.queue.miss(before, GONE);
    assert_eq!(scene.queue.broken(), Some(RelayError::Guest(GONE)));
}

#[test]
fn what_the_device_has_used_needs_the_rings() {
    let mut scene = Scene::plain();
    scene.add();
    assert_eq!(scene.pass(Pass::Kick).forth.chains, 1);
    assert!(!scene.pass_without(Pass::Work).more);
    scene.uses();
    assert!(scene.pass_without(Pass::Work).more);
    let before = scene.queue.needed();
    scene.queue.miss(before, GONE);
    assert!(!scene.is_fine());
}

/// The worker has seen that there is something to do; it is done by an interrupt, and the guest takes its
/// rings away, before the worker looks for them.
#[test]
fn rings_may_go_once_all_is_done() {
    let mut scene = Scene::plain();
    scene.does_one();
    scene.queue.need();
    let before = scene.queue.needed();
    assert!(before.is_some());
    let passed = scene.pass(Pass::Work);
    assert!(passed.back.chains == 1 && !passed.has_left_something());
    scene.queue.miss(before, GONE);
    assert!(scene.is_fine());
    // Nor is it to blame for what it needs since then.
    scene.pass_without(Pass::Kick);
    assert!(scene.queue.needed().is_some());
    scene.queue.miss(before, GONE);
    assert!(scene.is_fine());
}

#[test]
fn a_drained_queue_needs_its_rings_for_what_is_held_back() {
    for held in [false, true] {
        let mut scene = Scene::near();
        scene.does_one();
        if held {
            scene.add();
        }
        let passed = scene.pass(Pass::Work);
        assert!(passed.drained && !passed.more);
        assert_eq!(passed.forth.chains, 0, "held back");
        assert_eq!(scene.queue.needed().is_some(), held);
    }
}

#[test]
fn a_queue_that_leaves_is_not_looked_at() {
    let mut scene = Scene::near();
    assert!(!scene.queue.leave(), "it is not drained");
    scene.does_one();
    scene.pass(Pass::Work);
    scene.add();
    assert!(scene.queue.leave());
    for pass in [Pass::Kick, Pass::Work] {
        assert_eq!(scene.pass(pass), Passed::default());
    }
    // Whoever is in the way has to be waited for a while: then the boundary is passed.
    scene.queue.stay(true);
    let passed = scene.pass(Pass::Work);
    assert!(passed.drained && passed.watch && passed.forth.chains == 0);
    let late = |scene: &mut Scene| {
        let notified = &mut scene.notified;
        scene
            .queue
            .pass(Some(&scene.guest), &scene.shadow, Pass::Work, 1000, || {
                *notified += 1;
            })
    };
    assert!(late(&mut scene).more);
    assert_eq!(late(&mut scene).forth.chains, 1);
    assert!(!scene.queue.leave());
}

#[test]
fn a_broken_queue_is_left_to_the_worker() {
    let mut scene = Scene::plain();
    scene.does_one();
    let index = scene.driver.avail.wrapping_add(100);
    scene.guest.poke16(scene.driver.addresses.driver + 2, index);
    // What was returned before is told of.
    let passed = scene.pass(Pass::Work);
    assert!(passed.more && !passed.drained && passed.back.chains == 1);
    let why = scene.queue.broken();
    assert!(matches!(why, Some(RelayError::AvailIndex { .. })));
    // Nothing mends it, and the reason stays.
    scene
        .guest
        .poke16(scene.driver.addresses.driver + 2, scene.driver.avail);
    scene.queue.need();
    let before = scene.queue.needed();
    scene.queue.miss(before, GONE);
    for pass in [Pass::Kick, Pass::Work] {
        assert!(scene.pass(pass).more && scene.pass_without(pass).more);
    }
    assert_eq!(scene.queue.broken(), why);
    assert!(!scene.queue.leave());
    let stand = scene.queue.stand(&scene.guest, &scene.shadow, |_| ());
    assert_eq!(stand, Err(Unclear::Rings(why.unwrap())));
}

#[test]
fn a_queue_stands_where_all_was_returned() {
    let mut scene = Scene::plain();
    scene.add();
    scene.does_one();
    let mut returned = 0;
    let stand = scene.queue.stand(&scene.guest, &scene.shadow, |moved| {
        returned += moved.chains
    });
    assert_eq!((stand, returned), (Ok(1001), 1));
}

#[test]
fn a_broken_queue_does_not_leave() {
    let mut scene = Scene::near();
    scene.does_one();
    assert!(scene.pass(Pass::Work).drained);
    let index = scene.driver.avail.wrapping_add(100);
    scene.guest.poke16(scene.driver.addresses.driver + 2, index);
    assert!(!scene.pass(Pass::Kick).drained);
    assert!(!scene.queue.leave());
}

/// A kick returns nothing, and leaves it to the device's interrupt, if there is to be one.
#[test]
fn a_kick_leaves_what_was_used_to_an_interrupt() {
    for (event_idx, returns, more) in [
        (false, Returns::Promptly, false),
        (false, Returns::Together, false),
        (true, Returns::Promptly, false),
        (true, Returns::Together, true),
    ] {
        let mut scene = Scene::new(1000, event_idx, returns, Boundary::never());
        scene.does_one();
        scene.add();
        // The guest has asked late to be told of the first one.
        if event_idx {
            scene.driver.want_interrupt_at(&scene.guest, 1000);
        }
        let passed = scene.pass(Pass::Kick);
        assert_eq!((passed.back.chains, passed.forth.chains), (0, 1));
        assert_eq!(passed.more, more, "{event_idx} {returns:?}");
        assert_eq!(scene.notified, if event_idx { 1 } else { 2 });
    }
}

#[test]
fn a_queue_that_polls_is_looked_at_all_the_time() {
    let mut scene = Scene::plain();
    assert!(!scene.pass(Pass::Work).watch);
    let relay = relay(&scene.driver, 1000, true, Returns::Promptly);
    scene.queue = Relayed::new(relay, Boundary::never(), true);
    assert!(scene.pass(Pass::Work).watch && scene.pass_without(Pass::Work).watch);
}

/// Whoever had the queue before has taken chains, and has neither returned nor given them up. What is available behind
/// them is done.
#[test]
fn what_was_taken_and_not_returned_is_not_done_again() {
    for used in [0, 7, 1000, 0xfffc, 0xffff] {
        for taken in 0..SIZE {
            let mut scene = Scene::taken(used, taken, true);
            scene.add();
            let passed = scene.pass(Pass::Work);
            // There is nothing in these rings that tells of it.
            assert_eq!(scene.queue.relay().gap(), taken);
            let held = (used, taken) == (0, 0);
            assert_eq!(passed.forth.chains, u16::from(!held), "{used} {taken}");
            if !held {
                scene.uses();
                assert_eq!(scene.pass(Pass::Work).back.chains, 1);
            }
            let returned = u16::from(!held);
            let index = scene.guest.peek16(scene.driver.addresses.device + 2);
            assert_eq!(index, used.wrapping_add(returned));
            for _ in 0..returned {
                let used = scene.driver.reap(&scene.guest).expect("it was returned");
                assert_eq!(used.written, 0);
            }
            assert!(scene.is_fine());
        }
    }
}

/// A kick may be the first to be noticed. From there nobody can be told.
#[test]
fn who_kicks_returns_nothing() {
    let mut scene = Scene::lost();
    scene.add();
    let passed = scene.pass(Pass::Kick);
    assert!(passed.more && passed.back.chains == 0 && passed.forth.chains == 0);
    let passed = scene.pass(Pass::Work);
    assert!(passed.more && passed.back.tell && passed.back.chains == 1);
    assert_eq!(scene.pass(Pass::Work).forth.chains, 1);
    assert!(scene.driver.reap(&scene.guest).is_some());
    assert!(scene.is_fine() && scene.queue.gap() == 0);
}

/// The same, of a queue that is stopped before anybody looks.
#[test]
fn what_was_taken_is_returned_by_who_stops() {
    let mut scene = Scene::lost();
    scene.add();
    let index = scene.driver.avail - 1;
    let mut returned = 0;
    let stand = scene.queue.stand(&scene.guest, &scene.shadow, |moved| {
        returned += moved.chains;
    });
    assert_eq!((stand, returned), (Ok(index), 1));
    assert!(scene.driver.reap(&scene.guest).is_some());
}

/// The driver's used index is behind for as long as the relay is there, and its device cannot have the queue.
#[test]
fn behind_a_gap_no_queue_is_handed_back() {
    let mut scene = Scene::taken(0xfffd, 2, true);
    assert_eq!(scene.pass(Pass::Work), Passed::default());
    assert_eq!(scene.queue.relay().gap(), 2);
    for returned in 0xfffe..=0x1_0003_u32 {
        scene.add();
        assert_eq!(scene.pass(Pass::Work).forth.chains, 1);
        scene
            .driver
            .want_interrupt_at(&scene.guest, scene.driver.used);
        scene.uses();
        let passed = scene.pass(Pass::Interrupt);
        assert!(passed.back.tell && !passed.drained && !scene.queue.leave());
        assert!(!scene.queue.relay().is_drained());
        let index = scene.guest.peek16(scene.driver.addresses.device + 2);
        assert_eq!(u32::from(index), returned & 0xffff);
        assert!(scene.driver.reap(&scene.guest).is_some());
    }
    // The next one goes on behind those that were passed on.
    let stand = scene.queue.stand(&scene.guest, &scene.shadow, |_| ());
    assert_eq!(stand, Ok(scene.driver.avail));
}

#[test]
fn a_place_that_the_rings_contradict_is_refused() {
    for used in [0, 7, 1000, 0xffff_u16] {
        for (taken, skips) in [
            (1, false),
            (SIZE, false),
            (SIZE + 1, true),
            // Behind what was returned.
            (0xffff, true),
            (0xffff, false),
        ] {
            let error = RelayError::Start {
                index: used.wrapping_add(taken),
                used,
            };
            // Whether it is first looked at or stopped.
            let mut scene = Scene::taken(used, taken, skips);
            assert!(scene.pass(Pass::Work).more);
            assert_eq!(scene.queue.broken(), Some(error));
            let mut scene = Scene::taken(used, taken, skips);
            let stand = scene.queue.stand(&scene.guest, &scene.shadow, |_| ());
            assert_eq!(stand, Err(Unclear::Rings(error)));
            let shown = scene.guest.peek16(scene.driver.addresses.device + 2);
            assert_eq!(shown, used, "nothing is shown to the driver");
        }
    }
}

/// The pace of a queue that can have one: it goes on until the worker has rested, and while it is not known
/// where the rings are.
#[test]
fn a_kick_may_set_a_pace() {
    let mut scene = Scene::new(1000, true, Returns::Together, Boundary::never());
    scene.add();
    let passed = scene.pass(Pass::Kick);
    assert!(passed.paced && passed.has_left_something() && !passed.more);
    assert!(scene.queue.is_paced() && scene.queue.rests());
    for pass in [Pass::Interrupt, Pass::Work] {
        assert!(scene.pass(pass).paced && scene.pass_without(pass).paced);
        assert!(scene.queue.rests());
    }
    let passed = scene.pass(Pass::Rested);
    assert!(!scene.queue.is_paced() && !passed.has_left_something());
}

/// Nor does the worker rest when there is something to do.
#[test]
fn who_knows_of_something_does_not_rest() {
    let paced = || {
        let mut scene = Scene::new(1000, true, Returns::Together, Boundary::never());
        scene.add();
        scene.pass(Pass::Kick);
        assert!(scene.queue.rests());
        scene
    };
    let mut scene = paced();
    scene.uses();
    assert!(scene.pass_without(Pass::Work).more);
    assert!(!scene.queue.rests(), "something is due");
    assert_eq!(scene.pass(Pass::Work).back.chains, 1);
    assert!(scene.queue.rests());
    let mut scene = paced();
    scene.queue.need();
    assert!(!scene.queue.rests());
    let mut scene = paced();
    scene.shadow.poke16(SHADOW.device + 2, 7);
    scene.pass(Pass::Interrupt);
    assert!(!scene.is_fine() && !scene.queue.rests(), "it is broken");

    let mut scene = Scene::new(0xffff, true, Returns::Together, Boundary::new(Needs::One));
    scene.does_one();
    assert!(scene.queue.is_paced() && scene.queue.rests());
    assert!(scene.pass(Pass::Interrupt).drained);
    assert!(!scene.queue.rests(), "the queue can be handed back");
}

/// Who has to have each chain back at once, who is looked at all the time anyhow, and who is broken.
#[test]
fn not_everybody_has_a_pace() {
    let mut scene = Scene::plain();
    scene.add();
    assert!(!scene.pass(Pass::Kick).paced);

    let (driver, guest) = Driver::new(SIZE, 1000, true);
    let relay = relay(&driver, 1000, true, Returns::Together);
    let mut scene = Scene::of(Relayed::new(relay, Boundary::never(), true), driver, guest);
    let passed = scene.pass(Pass::Kick);
    assert!(passed.watch && !passed.paced && !scene.queue.rests());

    let mut scene = Scene::new(1000, true, Returns::Together, Boundary::never());
    scene.shadow.poke16(SHADOW.device + 2, 7);
    assert!(!scene.pass(Pass::Interrupt).paced);
    assert!(!scene.is_fine());
    let passed = scene.pass(Pass::Kick);
    assert!(passed.more && !passed.paced && !scene.queue.rests());
}
