// SPDX-License-Identifier: GPL-2.0

//! A driver that has written into its ring what it does not show yet, as its device is suspended.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::{Proof, Wire};
use crate::abuse::works_again;
use crate::exchange;
use crate::ktap::Report;
use vdpa_user::device::status;
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Frames that were received: their chains are returned, and nobody has looked at them.
const FRAMES: u16 = 10;
/// How many of these chains are written into the available ring again, ahead of its index.
const AHEAD: u16 = 4;
/// How long it takes until they are shown: longer than to stop the device, and less than is waited.
const LATER: Duration = Duration::from_millis(20);
/// How long is waited at least.
const WAITS: Duration = Duration::from_millis(50);
/// How often.
const ROUNDS: u32 = 10;

/// Suspends device A while its driver has written ahead of the index of its receive queue: that is waited
/// for, and where it is never shown, nobody knows where the queue stands.
pub fn run(report: &mut Report, wire: &Wire) -> Result<()> {
    for round in 0..ROUNDS {
        let [a, b] = written_ahead(wire)?;
        let stands = stands_once_shown(&a);
        report.step(
            format!("round {round}: suspended, once what was written is shown"),
            stands,
        );
        a.stop()?;
        b.stop()?;
    }
    let [a, b] = written_ahead(wire)?;
    let begun = Instant::now();
    let suspended = a.device.suspend();
    let waited = begun.elapsed();
    report.check(
        suspended.is_err() && a.device.status()? & status::NEEDS_RESET != 0,
        "what is never shown is no place to go on from",
        format!("suspend: {suspended:?}"),
    );
    report.check(
        waited > WAITS,
        "it is waited for all the same",
        format!("for {waited:?}"),
    );
    let device = a.stop()?;
    b.stop()?;
    let proof = Proof {
        device: wire.a.clone(),
        peer: Some(wire.b.clone()),
        loopback: false,
    };
    report.step("the device works afterwards", works_again(device, &proof));
    Ok(())
}

/// Returns the devices, and A has received frames; some of its chains are made available again in another
/// order, but for the index.
fn written_ahead(wire: &Wire) -> Result<[Port; 2]> {
    let open = |path| Port::open(path, Setup::default());
    let [a, mut b] = [open(&wire.a)?, open(&wire.b)?];
    exchange::put(&mut b, a.address, fastrand::u16(..), FRAMES.into())?;
    b.pairs[0].transmit.publish()?;
    let queue = &a.pairs[0].receive;
    let memory = &a.device.memory;
    let areas = queue.ring.areas();
    wait::until("the frames arrive", || {
        Ok(memory.load16(areas.device + 2)? == FRAMES)
    })?;
    for ahead in 0..AHEAD {
        let other = u64::from((ahead + 1) % AHEAD);
        let mut head = [0; 2];
        memory.read(areas.device + 4 + 8 * other, &mut head)?;
        memory.write(areas.driver + 4 + 2 * u64::from(ahead), &head)?;
    }
    let shown = memory.load16(areas.driver + 2)?;
    ensure!(shown == queue.size, "{shown} chains are shown");
    Ok([a, b])
}

/// Shows what was written ahead while A is suspended.
fn stands_once_shown(a: &Port) -> Result<()> {
    let queue = &a.pairs[0].receive;
    let memory = a.device.memory.clone();
    let index = queue.ring.areas().driver + 2;
    let shown = queue.size.wrapping_add(AHEAD);
    let driver = thread::spawn(move || {
        thread::sleep(LATER);
        memory.store16(index, shown)
    });
    let suspended = a.device.suspend();
    driver.join().map_err(|_| anyhow!("the driver fails"))??;
    suspended?;
    let base = a.device.base(queue.index)?;
    ensure!(base == u32::from(FRAMES), "it stands at {base}");
    Ok(())
}
