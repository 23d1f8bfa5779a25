// SPDX-License-Identifier: GPL-2.0

//! Queues that start late and queues that stop while others run.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Wire;
use crate::exchange::{self, BOTH, Direction, Goal};
use crate::ktap::Report;
use vdpa_user::port::{Port, Setup};
use vdpa_user::queue::Queue;

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

/// A queue of port 0, and the direction that needs it.
#[derive(Clone, Copy, Debug)]
enum Side {
    Transmit,
    Receive,
}

impl Side {
    const ALL: [Self; 2] = [Self::Transmit, Self::Receive];

    fn needed_by(self) -> [Direction; 1] {
        match self {
            Self::Transmit => [Direction { from: 0, to: 1 }],
            Self::Receive => [Direction { from: 1, to: 0 }],
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Transmit => Self::Receive,
            Self::Receive => Self::Transmit,
        }
    }

    fn queue(self, port: &mut Port) -> Result<&mut Queue> {
        let pair = port.pairs.first_mut().context("no pair")?;
        Ok(match self {
            Self::Transmit => &mut pair.transmit,
            Self::Receive => &mut pair.receive,
        })
    }
}

/// One live queue stops and starts while the others go on.
pub fn disable(report: &mut Report, wire: &Wire) -> Result<()> {
    let mut ports = open(wire, Setup::default())?;
    report.step("frames flow", exchange::verify(&mut ports, &BOTH, SHORT));
    for side in Side::ALL {
        for round in 1..=3 {
            stop(
                report,
                &mut ports,
                side,
                &format!("{side:?}, round {round}"),
            )?;
            let renewed = renew(&mut ports[0], side);
            report.step(
                format!("{side:?}, round {round}: the queue is enabled again"),
                renewed,
            );
            report.step(
                format!("{side:?}, round {round}: frames flow both ways again"),
                exchange::verify(&mut ports, &BOTH, SHORT),
            );
        }
    }
    Ok(())
}

/// One live queue stops until the next reset, as the function cannot restart a queue.
pub fn disable_for_good(report: &mut Report, wire: &Wire) -> Result<()> {
    for side in Side::ALL {
        let mut ports = open(wire, Setup::default())?;
        report.step("frames flow", exchange::verify(&mut ports, &BOTH, SHORT));
        stop(report, &mut ports, side, &format!("{side:?}"))?;
        let index = side.queue(&mut ports[0])?.index;
        ports[0].device.enable(index, true)?;
        side.queue(&mut ports[0])?.ring_doorbell()?;
        let what = format!("{side:?}: enabled again before a reset it stays stopped");
        silence(report, &mut ports, side, &what)?;
        let [a, b] = ports;
        let mut ports = [
            Port::start(a.stop()?, Setup::default())?,
            Port::start(b.stop()?, Setup::default())?,
        ];
        report.step(
            format!("{side:?}: after a reset frames flow"),
            exchange::verify(&mut ports, &BOTH, SHORT),
        );
    }
    Ok(())
}

/// Disables a queue; it stops, and nothing else.
fn stop(report: &mut Report, ports: &mut [Port; 2], side: Side, what: &str) -> Result<()> {
    let index = side.queue(&mut ports[0])?.index;
    ports[0].device.enable(index, false)?;
    report.check(
        ports[0].alive()?,
        format!("{what}: the device runs on with one queue disabled"),
        format!("status {:#x}", ports[0].device.status()?),
    );
    silence(
        report,
        ports,
        side,
        &format!("{what}: the disabled queue passes nothing"),
    )?;
    report.step(
        format!("{what}: the other queue still works"),
        exchange::verify(ports, &side.other().needed_by(), SHORT),
    );
    Ok(())
}

/// Checks that nothing passes in the direction that needs the queue.
fn silence(report: &mut Report, ports: &mut [Port; 2], side: Side, what: &str) -> Result<()> {
    let time = Goal::Silence(Duration::from_secs(1));
    let sent = exchange::run(ports, &side.needed_by(), time, |_, _| Ok(()))?;
    let passed = sent.tallies.first().context("no tally")?.received;
    report.check(passed == 0, what, format!("{passed} frames got through"));
    Ok(())
}

/// Enables a queue again, which goes on where it was.
fn renew(port: &mut Port, side: Side) -> Result<()> {
    let index = side.queue(port)?.index;
    port.device.enable(index, true)?;
    side.queue(port)?.ring_doorbell()
}
