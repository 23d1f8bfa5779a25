// SPDX-License-Identifier: GPL-2.0

//! A device that is stopped under traffic and goes on where it was, as for a guest that is stopped
//! or moves to another host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::errno::Errno;

use crate::exchange::{self, BOTH, Goal, LOOP, Tally};
use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::port::{Port, Setup};
use vdpa_user::refusal::errno;

/// How a device goes on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Way {
    /// By VHOST_VDPA_RESUME
    Resume,
    /// By a reset, and from the places in the rings at which it was
    Restart,
}

/// How long a stopped device is watched.
const WATCHED: Duration = Duration::from_millis(20);

/// What became of the stops.
#[derive(Default)]
struct Stops {
    count: u32,
    /// How many frames had arrived when there was no memory for one.
    refused_at: Option<u32>,
    /// Frames that were on their way to the device when it was stopped: it loses what arrives then.
    at_risk: u32,
}

/// Stops the first of one or two devices `rounds` times while `count` frames go each way. What a single
/// one sends comes back to it.
pub fn run(
    report: &mut Report,
    ends: &[&Path],
    way: Way,
    rounds: u32,
    count: u32,
    setup: Setup,
) -> Result<()> {
    let mut ports = Vec::new();
    for end in ends {
        ports.push(Port::open(end, setup)?);
    }
    let ways: &[_] = if ends.len() > 1 { &BOTH } else { &LOOP };
    // The last direction is toward the device that is stopped.
    let toward = ways.len() - 1;
    let each_way = u64::from(count) * ways.len() as u64;
    let mut stops = Stops::default();

    let ran = exchange::run(&mut ports, ways, Goal::Frames(count), |ports, tallies| {
        let done: u32 = tallies.iter().map(|tally| tally.sent).sum();
        let due = u64::from(stops.count + 1) * each_way / u64::from(rounds + 1);
        let arrived: u32 = tallies.iter().map(|tally| tally.received).sum();
        // A device that had no memory to stop has to go on before it is asked again.
        let goes_on = stops.refused_at.is_none_or(|before| arrived > before);
        if stops.count < rounds && u64::from(done) >= due && goes_on {
            let port = ports.first_mut().context("no port")?;
            let tally = tallies.get_mut(toward).context("no direction")?;
            if stop(port, tally, &mut stops)? {
                go_on(port, way)?;
            } else {
                ensure!(stops.refused_at.is_none(), "stopping was refused twice");
                stops.refused_at = Some(arrived);
            }
        }
        Ok(())
    });
    let Some(outcome) = report.step(format!("{count} frames each way, with {rounds} stops"), ran)
    else {
        let port = ports.first().context("no port")?;
        report.note(format!("its status is {:#x}", port.device.status()?));
        return Ok(());
    };
    report.check(
        stops.count == rounds,
        "the device was stopped as often as it should",
        format!("{} times", stops.count),
    );
    for (index, tally) in outcome.tallies.iter().enumerate() {
        let lost = tally.sent - tally.received;
        let bound = if index == toward { stops.at_risk } else { 0 };
        let name = if index == toward { "receives" } else { "sends" };
        report.check(
            tally.reordered == 0,
            format!("what it {name} arrives once and in order"),
            format!("{} out of order or twice", tally.reordered),
        );
        report.check(
            lost <= bound,
            format!("of what it {name}, nothing is lost but while it is stopped"),
            format!("{lost} lost, of {bound} that were on their way then"),
        );
        if index == toward {
            report.check(
                tally.overtaken == 0,
                "nothing was lost before it was stopped",
                format!("{} that later frames had overtaken", tally.overtaken),
            );
        }
        report.note(format!("{name}: {} sent, {lost} lost", tally.sent));
    }
    let alive = ports.first().context("no port")?.alive()?;
    report.check(alive, "the device runs at the end", "it does not");
    Ok(())
}

/// Asks for a change of a device. Returns whether it was made: it is not if there is no memory for it, and the
/// device stays as it is then. None of what this says otherwise is what a lack of memory is known by.
fn ask(device: &Device, change: impl Fn(&Device) -> Result<()>) -> Result<bool> {
    let before = device.status()?;
    let Err(error) = change(device) else {
        return Ok(true);
    };
    if errno(&error) != Some(Errno::ENOMEM) {
        return Err(error);
    }
    let after = device.status()?;
    ensure!(
        after == before,
        "a lack of memory has changed the status from {before:#x} to {after:#x}"
    );
    Ok(false)
}

/// Stops a device, and checks that it has, and that it says where. Returns whether there was memory for that.
fn stop(port: &mut Port, toward: &mut Tally, stops: &mut Stops) -> Result<bool> {
    if !ask(&port.device, Device::suspend)? {
        return Ok(false);
    }
    stops.count += 1;
    stops.at_risk += toward.outstanding();
    toward.forgive();
    stands_still(port)?;
    Ok(true)
}

/// Checks that a device which was stopped stays where it is, and says where that is.
fn stands_still(port: &mut Port) -> Result<()> {
    let places: Vec<u32> = port
        .queues()
        .map(|queue| queue.ring.base())
        .collect::<Result<_>>()?;
    std::thread::sleep(WATCHED);
    for (queue, place) in port.queues().zip(places) {
        let said = port.device.base(queue.index)?;
        let now = queue.ring.base()?;
        ensure!(
            now == place && said == place,
            "queue {} was at {place} when the device was stopped, is at {now}, and is said to be \
             at {said}",
            queue.index
        );
    }
    Ok(())
}

fn go_on(port: &mut Port, way: Way) -> Result<()> {
    match way {
        Way::Resume => {
            if !ask(&port.device, Device::resume)? {
                stands_still(port)?;
                let again = ask(&port.device, Device::resume)?;
                ensure!(again, "going on was refused twice");
            }
            port.queues().try_for_each(|queue| queue.ring_doorbell())
        }
        Way::Restart => {
            port.device.reset()?;
            port.go_on()
        }
    }
}
