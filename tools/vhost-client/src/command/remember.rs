// SPDX-License-Identifier: GPL-2.0

//! A device that is stopped, and goes on with all that its control queue was told.

use anyhow::{Context, Result, ensure};

use super::Wire;
use crate::exchange::{self, BOTH};
use crate::ktap::Report;
use vdpa_user::frame::{self, Tag};
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// The address that the device is told to have.
const ADDRESS: [u8; 6] = [0x02, 0, 0, 0, 0, 0x55];
/// The address of nobody.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0, 0, 0x66];
/// Frames each way, to see that it works at all.
const FRAMES: u32 = 50;
/// Frames to nobody.
const STRAY: u32 = 8;
/// The flow of the frames to nobody, and of the last frame.
const STRAYS: u16 = 1;
const LAST: u16 = 2;

/// Tells the first device an address and to filter by it, resumes it `rounds` times, and looks
/// each time what it lets pass.
pub fn run(report: &mut Report, wire: &Wire, rounds: u32) -> Result<()> {
    let setup = Setup {
        control: true,
        ..Setup::default()
    };
    let mut ports = [Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?];
    let all = strays(&mut ports, NOBODY).context("before it is told an address")?;
    report.check(
        all == STRAY,
        "a device that was told nothing lets all frames pass",
        format!("{all} of {STRAY} passed"),
    );
    report.step("the device is told an address", tell(&mut ports));
    filters(report, &mut ports, "before it is stopped")?;
    for round in 1..=rounds {
        let port = ports.first_mut().context("no port")?;
        port.device.suspend()?;
        port.device.resume()?;
        port.queues().try_for_each(|queue| queue.ring_doorbell())?;
        filters(report, &mut ports, &format!("after stop {round}"))?;
    }
    let port = ports.first_mut().context("no port")?;
    let answer = port.command(&[&[0, 0, 1]]);
    report.check(
        matches!(answer, Ok(0)),
        "the control queue goes on",
        format!("{answer:?}"),
    );
    let all = strays(&mut ports, NOBODY).context("told to let all frames pass")?;
    report.check(
        all == STRAY,
        "told to let all frames pass, it does",
        format!("{all} of {STRAY} passed"),
    );
    Ok(())
}

/// Gives the first device an address, and has it let only frames pass that are for it.
fn tell(ports: &mut [Port]) -> Result<()> {
    let port = ports.first_mut().context("no port")?;
    let mut command = vec![1, 1];
    command.extend(ADDRESS);
    for command in [&command[..], &[0, 0, 0]] {
        let answer = port.command(&[command])?;
        ensure!(answer == 0, "{command:?} is answered by {answer}");
    }
    port.address = ADDRESS;
    Ok(())
}

/// Checks what the first device lets pass.
fn filters(report: &mut Report, ports: &mut [Port], when: &str) -> Result<()> {
    report.step(
        format!("{when} the frames to its address pass"),
        exchange::verify(ports, &BOTH, FRAMES),
    );
    let passed = strays(ports, ADDRESS).with_context(|| when.to_owned())?;
    report.check(
        passed == 0,
        format!("{when} frames to nobody do not pass"),
        format!("{passed} of {STRAY} passed"),
    );
    Ok(())
}

/// Sends frames to nobody, and one to `own`, from the second device to the first. Returns how many of
/// the former have passed when the last one has.
fn strays(ports: &mut [Port], own: [u8; 6]) -> Result<u32> {
    let run = fastrand::u16(..);
    let [to, from] = ports else {
        anyhow::bail!("not two ports");
    };
    for number in 0..=STRAY {
        let (flow, destination) = match number {
            STRAY => (LAST, own),
            _ => (STRAYS, NOBODY),
        };
        let tag = Tag { run, flow, number };
        let frame = frame::build(tag, from.address, destination, 0);
        ensure!(from.send(0, &frame)?, "no room for a frame");
    }
    for pair in &mut from.pairs {
        pair.transmit.publish()?;
    }
    let (mut strays, mut taken) = (0, 0);
    let waited = wait::until("the last frame", || {
        taken += from.reap(0)?;
        let mut last = false;
        for tag in to.receive(0)?.iter().filter(|tag| tag.run == run) {
            strays += u32::from(tag.flow == STRAYS);
            last |= tag.flow == LAST;
        }
        Ok(last)
    });
    waited.with_context(|| {
        format!("the sender's device has taken {taken} frames, {strays} to nobody have arrived")
    })?;
    Ok(strays)
}
