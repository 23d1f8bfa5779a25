// SPDX-License-Identifier: GPL-2.0

//! Devices in use while something happens to them. Scripts wait for the lines printed here.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Wire;
use crate::exchange::{self, BOTH, Goal};
use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Keeps the device open, live if it is to be `setup`, until this process is killed. While it is live
/// each configuration interrupt is a line, which says whether a reset is asked for. It is suspended
/// first if it is to be `suspended`, up to the first of them.
pub fn hold(report: &mut Report, path: &Path, setup: Option<Setup>, suspended: bool) -> Result<()> {
    const LONG: Duration = Duration::from_secs(3600);

    let mut device = Device::open(path)?;
    let Some(setup) = setup else {
        report.note("holding open");
        loop {
            sleep(LONG);
        }
    };
    device.claim()?;
    let port = Port::start(device, setup)?;
    if suspended {
        port.device.suspend()?;
        // One that was waiting already is of the time before.
        while port.config_call.read().is_ok() {}
        report.note("holding suspended");
        wait::any(&[&port.config_call], LONG)?;
        let resumed = port.device.resume().is_ok();
        let broken = port.device.status()? & status::NEEDS_RESET != 0;
        report.note(match (resumed, broken) {
            (true, false) => "resumed",
            (true, true) => "resumed, NEEDS_RESET",
            (false, true) => "does not resume, NEEDS_RESET",
            (false, false) => "does not resume",
        });
    } else {
        report.note("holding live");
    }
    loop {
        wait::any(&[&port.config_call], LONG)?;
        if port.config_call.read().is_err() {
            continue;
        }
        match port.device.status() {
            Ok(shown) if shown & status::NEEDS_RESET != 0 => {
                report.note("configuration interrupt, NEEDS_RESET");
            }
            Ok(shown) => report.note(format!("configuration interrupt, status {shown:#x}")),
            Err(error) => report.note(format!("configuration interrupt, no status: {error:#}")),
        }
    }
}

/// Sends both ways for `seconds`; ends early, and well, when a device goes away.
pub fn traffic(report: &mut Report, wire: &Wire, seconds: u64) -> Result<()> {
    let setup = Setup::default();
    let mut ports = [Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?];
    exchange::verify(&mut ports, &BOTH, 50)?;
    report.note("traffic flows");
    let goal = Goal::Time(Duration::from_secs(seconds));
    let outcome = exchange::run(&mut ports, &BOTH, goal, |_, _| Ok(()))?;
    for (way, tally) in outcome.tallies.iter().enumerate() {
        report.note(format!(
            "way {way}: sent {}, received {}",
            tally.sent, tally.received
        ));
    }
    let end = if outcome.gone {
        "a device went away"
    } else {
        "the time is over"
    };
    report.ok(format!("traffic ended: {end}"));
    Ok(())
}

/// Waits until device A shows NEEDS_RESET and announces it, resets it and checks that it works.
pub fn survive(report: &mut Report, wire: &Wire, seconds: u64) -> Result<()> {
    let setup = Setup::default();
    let mut ports = [Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?];
    exchange::verify(&mut ports, &BOTH, 50)?;
    // An announcement of the link's state may be waiting: only a later one counts.
    while ports[0].config_call.read().is_ok() {}
    report.note("traffic flows");
    let limit = Duration::from_secs(seconds);
    let interrupted = wait::any(&[&ports[0].config_call], limit)?;
    report.check(
        interrupted,
        "a configuration interrupt announces the reset",
        format!("none within {seconds} s"),
    );
    let seen = wait::until("NEEDS_RESET", || {
        Ok(ports[0].device.status()? & status::NEEDS_RESET != 0)
    });
    report.step("the status shows NEEDS_RESET", seen);
    let shown = ports[0].device.status()?;
    report.check(
        shown & status::DRIVER_OK != 0,
        "the driver's own bits are still shown",
        format!("status {shown:#x}"),
    );
    // Kicks to a device in this state go nowhere and must not hurt.
    for pair in &ports[0].pairs {
        pair.transmit.ring_doorbell()?;
        pair.receive.ring_doorbell()?;
    }
    let [a, b] = ports;
    let revived: Result<_> = (|| {
        let mut ports = [Port::start(a.stop()?, setup)?, b];
        let outcome = exchange::verify(&mut ports, &BOTH, 300)?;
        ensure!(!outcome.gone);
        Ok(())
    })();
    report.step("after a reset frames flow again", revived);
    Ok(())
}
