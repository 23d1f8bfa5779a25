// SPDX-License-Identifier: GPL-2.0

//! A virtqueue that goes on where its rings contradict it.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::{Proof, Wire};
use crate::abuse::works_again;
use crate::exchange::{self, BOTH};
use crate::ktap::Report;
use vdpa_user::device::status;
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Where the queues begin, so that the kernel serves them.
const START: u16 = 1000;
/// Frames each way, before and after.
const FRAMES: u32 = 200;
/// How many chains were taken by somebody who has neither returned nor given them up.
const TAKEN: [u32; 3] = [1, 5, 32];

/// Has device A go on behind chains that it has not returned, which it is to do again, and then where
/// it cannot go on at all.
pub fn run(report: &mut Report, wire: &Wire) -> Result<()> {
    let setup = Setup {
        start: START,
        ..Setup::default()
    };
    let open = |path| Port::open(path, setup);
    let mut ports = [open(&wire.a)?, open(&wire.b)?];
    exchange::verify(&mut ports, &BOTH, FRAMES)?;
    for taken in TAKEN {
        let again = again(&mut ports, taken);
        report.step(
            format!("{taken} chains that were taken are done again"),
            again,
        );
        let went = exchange::verify(&mut ports, &BOTH, FRAMES);
        report.step("frames go on behind them", went);
    }
    for ahead in [u16::MAX, setup.size + 1, 0x8000] {
        let refused = refused(&mut ports, ahead);
        report.step(
            format!("{ahead:#x} from where the used ring stands, a reset is demanded"),
            refused,
        );
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

/// Makes frames available while A is reset, and has it go on behind them.
fn again([a, b]: &mut [Port; 2], taken: u32) -> Result<()> {
    let run = fastrand::u16(..);
    a.come_to_rest()?;
    a.device.reset()?;
    exchange::put(a, b.address, run, taken)?;
    a.pairs[0].transmit.ring.publish()?;
    go_on(a, u16::try_from(taken)?)?;
    let mut arrived = BTreeSet::new();
    wait::until("the frames arrive", || {
        let tags = b.receive(0)?;
        arrived.extend(
            tags.iter()
                .filter(|tag| tag.run == run)
                .map(|tag| tag.number),
        );
        Ok(arrived.len() == usize::try_from(taken)?)
    })?;
    // A ring that skips what it has not returned brings something back twice.
    a.come_to_rest()
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
