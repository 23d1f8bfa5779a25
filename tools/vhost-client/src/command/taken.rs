// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that goes on where its rings contradict it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{Proof, Wire};
use crate::abuse::works_again;
use crate::exchange::{self, BOTH, Goal};
use crate::ktap::Report;
use vdpa_user::device::status;
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Where the queues begin, so that the kernel serves them.
const START: u16 = 1000;
/// Frames each way, before and after.
const FRAMES: u32 = 200;
/// How many chains were taken by somebody who has neither returned nor given them up, and which those are.
const TAKEN: [u32; 3] = [1, 5, 16];
/// The same, but of which the rings do not tell.
const GAP: u32 = 100;

/// Has device A go on behind chains that it has not returned, which it returns as they are, also where its own
/// rings begin; then where it cannot go on at all, and then behind so many that nobody knows which they are. There it
/// is held at last, until this process is killed, if it is to be.
pub fn run(report: &mut Report, wire: &Wire, held: bool) -> Result<()> {
    let setup = Setup {
        start: START,
        ..Setup::default()
    };
    let mut ports = open(wire, setup)?;
    for taken in TAKEN {
        come_back(report, &mut ports, taken, &format!("{taken} chains"));
    }
    for ahead in [u16::MAX, setup.size + 1, 0x8000] {
        let refused = refused(&mut ports, ahead);
        report.step(
            format!("{ahead:#x} from where the used ring stands, a reset is demanded"),
            refused,
        );
    }
    let [a, b] = ports;
    a.stop()?;
    b.stop()?;

    let last = u16::MAX - u16::try_from(FRAMES)?;
    let start = last - 4;
    let mut ports = open(wire, Setup { start, ..setup })?;
    come_back(report, &mut ports, 5, "5 chains before index 0");
    let unsent = unsent(&mut ports, GAP);
    report.step(format!("{GAP} chains that were taken stay out"), unsent);
    let went = goes_on(&mut ports);
    report.step("frames go on behind the gap", went);
    if held {
        report.note("holding behind a gap");
        loop {
            sleep(Duration::from_secs(3600));
        }
    }
    let [a, b] = ports;
    b.stop()?;
    let proof = Proof {
        device: wire.a.clone(),
        peer: Some(wire.b.clone()),
        loopback: false,
    };
    let works = works_again(a.stop()?, &proof);
    report.step("the device works afterwards", works);
    Ok(())
}

/// Two ports that have been at work.
fn open(wire: &Wire, setup: Setup) -> Result<[Port; 2]> {
    let mut ports = [Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?];
    exchange::verify(&mut ports, &BOTH, FRAMES)?;
    Ok(ports)
}

/// Sees that chains that were taken come back unsent, and that frames go on behind them.
fn come_back(report: &mut Report, ports: &mut [Port; 2], taken: u32, which: &str) {
    let undone = unsent(ports, taken).and_then(|()| ports[0].come_to_rest());
    report.step(format!("{which} that were taken come back"), undone);
    let went = exchange::verify(ports, &BOTH, FRAMES);
    report.step("frames go on behind them", went);
}

/// Makes frames available while A is reset, and has it go on behind them. Returns the run that they are of.
fn behind([a, b]: &mut [Port; 2], taken: u32) -> Result<u16> {
    let run = fastrand::u16(..);
    a.come_to_rest()?;
    a.device.reset()?;
    exchange::put(a, b.address, run, taken)?;
    a.pairs[0].transmit.ring.publish()?;
    go_on(a, u16::try_from(taken)?)?;
    Ok(run)
}

/// The same, and sees that they are not sent.
fn unsent(ports: &mut [Port; 2], taken: u32) -> Result<()> {
    let run = behind(ports, taken)?;
    let [a, b] = ports;
    // What is sent from now on arrives behind them.
    let mark = fastrand::u16(..);
    exchange::put(a, b.address, mark, 1)?;
    a.pairs[0].transmit.publish()?;
    wait::until("the next frame arrives", || {
        let tags = b.receive(0)?;
        if tags.iter().any(|tag| tag.run == run) {
            bail!("a chain was done that had been taken before");
        }
        Ok(tags.iter().any(|tag| tag.run == mark))
    })
}

/// Sees that frames go on behind a gap, many times as many as the ring is long, and that it stays.
fn goes_on(ports: &mut [Port; 2]) -> Result<()> {
    let goal = Goal::Time(Duration::from_secs(5));
    let outcome = exchange::run(ports, &BOTH, goal, |_, _| Ok(()))?;
    for tally in &outcome.tallies {
        ensure!(
            tally.received > 4 * FRAMES,
            "only {} frames have arrived",
            tally.received
        );
    }
    let queue = &mut ports[0].pairs[0].transmit;
    let free = usize::from(queue.size) - usize::try_from(GAP)?;
    wait::until("the rest comes back", || {
        ports[0].reap(0)?;
        let idle = ports[0].pairs[0].transmit.idle.len();
        ensure!(idle <= free, "{idle} buffers came back, and not {free}");
        Ok(idle == free)
    })
}

/// Has A go on `ahead` of its used ring.
fn refused([a, _]: &mut [Port; 2], ahead: u16) -> Result<()> {
    a.come_to_rest()?;
    a.device.reset()?;
    let before = a.pairs[0].transmit.ring.base()?;
    // The ring may have been looked at when DRIVER_OK is read again.
    let _ = go_on(a, ahead);
    wait::until("the device demands a reset", || {
        Ok(a.device.status()? & status::NEEDS_RESET != 0)
    })?;
    let after = a.pairs[0].transmit.ring.base()?;
    if after != before {
        bail!("the used index went from {before} to {after}");
    }
    a.device.reset()?;
    a.go_on()
}

/// Has the transmit queue of a device go on `ahead` of its used ring, and the others where they are.
fn go_on(port: &mut Port, ahead: u16) -> Result<()> {
    let transmit = port.pairs[0].transmit.index;
    port.go_on_at(|queue| {
        let base = u16::try_from(queue.ring.base()?)?;
        let ahead = if queue.index == transmit { ahead } else { 0 };
        Ok(base.wrapping_add(ahead).into())
    })
}
