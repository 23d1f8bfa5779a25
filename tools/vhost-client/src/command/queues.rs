// SPDX-License-Identifier: GPL-2.0

//! Queues that start late and queues that stop while others run.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Wire;
use crate::exchange::{self, BOTH, Direction, Goal};
use crate::ioctl;
use crate::ktap::Report;
use crate::port::{Port, Setup};

/// Frames of a short check.
const SHORT: u32 = 300;

fn open(wire: &Wire, setup: Setup) -> Result<[Port; 2]> {
    Ok([Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?])
}

/// Queues are enabled after DRIVER_OK.
pub fn late_enable(report: &mut Report, wire: &Wire) -> Result<()> {
    let setup = Setup {
        late: true,
        ..Setup::default()
    };
    let opened = open(wire, setup);
    let Some(mut ports) = report.step("DRIVER_OK comes before the queues are enabled", opened)
    else {
        return Ok(());
    };
    report.step("frames flow", exchange::verify(&mut ports, &BOTH, SHORT));
    let [a, b] = ports;
    // Once more on the same open file: nothing of the first time may be left.
    let again: Result<_> = (|| {
        Ok([
            Port::start(a.stop()?, setup)?,
            Port::start(b.stop()?, setup)?,
        ])
    })();
    if let Some(mut ports) = report.step("the same after a reset", again) {
        report.step(
            "frames flow again",
            exchange::verify(&mut ports, &BOTH, SHORT),
        );
    }
    Ok(())
}

/// One live queue stops and starts while the others go on.
pub fn disable(report: &mut Report, wire: &Wire) -> Result<()> {
    let mut ports = open(wire, Setup::default())?;
    report.step("frames flow", exchange::verify(&mut ports, &BOTH, SHORT));
    let back = [Direction { from: 1, to: 0 }];
    let forth = [Direction { from: 0, to: 1 }];
    for round in 1..=3 {
        // Queue 1 of port 0 transmits: without it nothing goes from 0 to 1.
        ports[0].device.enable(1, false)?;
        report.check(
            ports[0].alive()?,
            format!("round {round}: the device runs on with one queue disabled"),
            format!("status {:#x}", ports[0].device.status()?),
        );
        let sent = exchange::run(
            &mut ports,
            &forth,
            Goal::Time(Duration::from_secs(1)),
            |_, _| Ok(()),
        )?;
        let passed = sent.tallies.first().context("no tally")?.received;
        report.check(
            passed == 0,
            format!("round {round}: the disabled queue sends nothing"),
            format!("{passed} frames got through"),
        );
        report.step(
            format!("round {round}: the other queues still work"),
            exchange::verify(&mut ports, &back, SHORT),
        );
        let renewed = renew(&mut ports[0]);
        report.step(
            format!("round {round}: the queue is enabled again"),
            renewed,
        );
        report.step(
            format!("round {round}: frames flow both ways again"),
            exchange::verify(&mut ports, &BOTH, SHORT),
        );
    }
    Ok(())
}

/// Enables the transmit queue again.
///
/// A queue that was stopped by a reset starts at index 0, so its ring must, too. A device that
/// stopped it in another way says where it goes on.
fn renew(port: &mut Port) -> Result<()> {
    let queue = &mut port.pairs.first_mut().context("no pair")?.transmit;
    let index = queue.index;
    let base = ioctl::state(&port.device, ioctl::VHOST_GET_VRING_BASE(), index.into(), 0);
    if base.unwrap_or(0) == 0 {
        queue.restart()?;
    }
    port.device.enable(index, true)?;
    queue.ring_doorbell()
}
