// SPDX-License-Identifier: GPL-2.0

//! Queues whose driver looks for itself and wants no interrupts.

use anyhow::{Result, ensure};

use super::Wire;
use crate::exchange::{self, BOTH};
use crate::ktap::Report;
use vdpa_user::frame::{self, Tag};
use vdpa_user::port::{Port, Setup};
use vdpa_user::queue::Queue;
use vdpa_user::ring::Used;
use vdpa_user::wait;

/// Frames that go through a quiet queue, each on its own.
const FRAMES: u32 = 32;
/// Frames each way, before and after.
const OTHERS: u32 = 200;

/// Where frames come from, and which queue of A is quiet then.
struct Case {
    name: &'static str,
    from: usize,
    queue: fn(&mut Port) -> &mut Queue,
}

const CASES: [Case; 2] = [
    Case {
        name: "transmit",
        from: 0,
        queue: |a| &mut a.pairs[0].transmit,
    },
    Case {
        name: "receive",
        from: 1,
        queue: |a| &mut a.pairs[0].receive,
    },
];

/// Has frames pass through each queue of A while it asks for no interrupts, then while it does again.
pub fn run(report: &mut Report, wire: &Wire, setup: Setup) -> Result<()> {
    let open = |path| Port::open(path, setup);
    let mut ports = [open(&wire.a)?, open(&wire.b)?];
    exchange::verify(&mut ports, &BOTH, OTHERS)?;
    for case in &CASES {
        ports.iter_mut().try_for_each(Port::come_to_rest)?;
        let interrupts = pass(&mut ports, case)?;
        // Those of earlier frames may have been on their way, from either end of a relay.
        report.check(
            interrupts <= 2,
            format!("{FRAMES} frames pass a quiet {} queue", case.name),
            format!("it interrupts {interrupts} times"),
        );
        let went = exchange::verify(&mut ports, &BOTH, OTHERS);
        report.step(format!("the {} queue interrupts again", case.name), went);
    }
    Ok(())
}

/// Sends the frames and says how often the quiet queue interrupted.
fn pass(ports: &mut [Port; 2], case: &Case) -> Result<u64> {
    let run = fastrand::u16(..);
    let [a, b] = ports;
    let addresses = [a.address, b.address];
    let quiet = (case.queue)(a);
    quiet.ring.disarm()?;
    quiet.interrupted();
    let before = quiet.interrupts;
    for number in 0..FRAMES {
        let tag = Tag {
            run,
            flow: 0,
            number,
        };
        let to = 1 - case.from;
        let frame = frame::build(tag, addresses[case.from], addresses[to], 0);
        let sender = &mut ports[case.from];
        ensure!(sender.send(0, &frame)?, "no buffer for frame {number}");
        sender.pairs[0].transmit.publish()?;
        let quiet = (case.queue)(&mut ports[0]);
        wait::until("a quiet queue returns a buffer", || {
            let Some(Used { token, .. }) = quiet.ring.take()? else {
                return Ok(false);
            };
            quiet.idle.push(token);
            Ok(true)
        })?;
    }
    let quiet = (case.queue)(&mut ports[0]);
    quiet.interrupted();
    Ok(quiet.interrupts - before)
}
