// SPDX-License-Identifier: GPL-2.0

//! A device that is stopped, and goes on with all that its control queue was told.

use anyhow::{Context, Result, ensure};

use super::Wire;
use crate::exchange::{self, BOTH};
use crate::ktap::Report;
use vdpa_user::frame::{self, Tag};
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Frames each way, to see that it works at all.
const FRAMES: u32 = 50;
/// Frames that are not for the device.
const STRAY: u32 = 8;
/// The VLAN that the device is told to be in, and one that it is not in.
const VLAN: u16 = 0x123;
const OTHER_VLAN: u16 = 0x124;
/// The flow of the frames that are not for the device, and of the last frame.
const STRAYS: u16 = 1;
const LAST: u16 = 2;

/// An address of a station. Such as nobody has had: a switch between the devices remembers for minutes
/// where it has seen an address, and sends nothing for it back to there.
fn invented() -> [u8; 6] {
    let [a, b, c, d, e, ..] = fastrand::u64(..).to_le_bytes();
    // Administered locally, and of one station.
    [0x02, a, b, c, d, e]
}

/// The addresses of one run.
#[derive(Clone, Copy)]
struct Addresses {
    /// The one that the device is told to have.
    own: [u8; 6],
    /// That of nobody.
    nobody: [u8; 6],
}

/// Where a frame goes.
#[derive(Clone, Copy)]
struct Target {
    address: [u8; 6],
    vlan: Option<u16>,
}

impl Target {
    const fn address(address: [u8; 6]) -> Self {
        Self {
            address,
            vlan: None,
        }
    }

    const fn vlan(address: [u8; 6], vlan: u16) -> Self {
        Self {
            address,
            vlan: Some(vlan),
        }
    }
}

/// Tells the first device an address and a VLAN, and to filter by them, resumes it `rounds` times, and looks
/// each time what it lets pass.
pub fn run(report: &mut Report, wire: &Wire, rounds: u32) -> Result<()> {
    let setup = Setup {
        control: true,
        ..Setup::default()
    };
    let mut ports = [Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?];
    let addresses = Addresses {
        own: invented(),
        nobody: invented(),
    };
    let nobody = Target::address(addresses.nobody);
    let all = strays(&mut ports, nobody, nobody).context("before it is told an address")?;
    report.check(
        all == STRAY,
        "a device that was told nothing lets all frames pass",
        format!("{all} of {STRAY} passed"),
    );
    report.step(
        "the device is told an address and a VLAN",
        tell(&mut ports, addresses.own),
    );
    filters(report, &mut ports, addresses, "before it is stopped")?;
    for round in 1..=rounds {
        let port = ports.first_mut().context("no port")?;
        port.device.suspend()?;
        port.device.resume()?;
        port.queues().try_for_each(|queue| queue.ring_doorbell())?;
        filters(
            report,
            &mut ports,
            addresses,
            &format!("after stop {round}"),
        )?;
    }
    let port = ports.first_mut().context("no port")?;
    let answer = port.command(&[&[0, 0, 1]]);
    report.check(
        matches!(answer, Ok(0)),
        "the control queue goes on",
        format!("{answer:?}"),
    );
    let all = strays(&mut ports, nobody, nobody).context("told to let all frames pass")?;
    report.check(
        all == STRAY,
        "told to let all frames pass, it does",
        format!("{all} of {STRAY} passed"),
    );
    Ok(())
}

/// Gives the first device an address and a VLAN, and has it let only frames pass that are for it.
fn tell(ports: &mut [Port], address: [u8; 6]) -> Result<()> {
    let port = ports.first_mut().context("no port")?;
    let mut command = vec![1, 1];
    command.extend(address);
    let [low, high] = VLAN.to_le_bytes();
    for command in [&command[..], &[2, 0, low, high], &[0, 0, 0]] {
        let answer = port.command(&[command])?;
        ensure!(answer == 0, "{command:?} is answered by {answer}");
    }
    port.address = address;
    Ok(())
}

/// Checks what the first device lets pass.
fn filters(
    report: &mut Report,
    ports: &mut [Port],
    addresses: Addresses,
    when: &str,
) -> Result<()> {
    report.step(
        format!("{when} the frames to its address pass"),
        exchange::verify(ports, &BOTH, FRAMES),
    );
    for (name, stray, own) in [
        (
            "to nobody",
            Target::address(addresses.nobody),
            Target::address(addresses.own),
        ),
        (
            "to another VLAN",
            Target::vlan(addresses.own, OTHER_VLAN),
            Target::vlan(addresses.own, VLAN),
        ),
    ] {
        let passed = strays(ports, stray, own).with_context(|| format!("{when}, {name}"))?;
        report.check(
            passed == 0,
            format!("{when} frames {name} do not pass"),
            format!("{passed} of {STRAY} passed"),
        );
    }
    Ok(())
}

/// Sends frames to `stray`, and one to `own`, from the second device to the first. Returns how many of
/// the former have passed when the last one has.
fn strays(ports: &mut [Port], stray: Target, own: Target) -> Result<u32> {
    let run = fastrand::u16(..);
    let [to, from] = ports else {
        anyhow::bail!("not two ports");
    };
    for number in 0..=STRAY {
        let (flow, target) = match number {
            STRAY => (LAST, own),
            _ => (STRAYS, stray),
        };
        let tag = Tag { run, flow, number };
        let plain = frame::build(tag, from.address, target.address, 0);
        let frame = match target.vlan {
            Some(vlan) => frame::into_vlan(plain, vlan),
            None => plain,
        };
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
        format!("the sender's device has taken {taken} frames, {strays} that were not to pass have arrived")
    })?;
    Ok(strays)
}
