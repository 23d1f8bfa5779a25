// SPDX-License-Identifier: GPL-2.0

//! Memory that is mapped anew under virtqueues that are served.

use anyhow::{Context, Result};

use super::{Proof, Wire};
use crate::abuse::works_again;
use crate::exchange::{self, BOTH};
use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::memory;
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Frames each way between two changes.
const FRAMES: u32 = 200;

/// Takes the rings away and gives them back, between frames, then takes them away for good.
pub fn run(report: &mut Report, wire: &Wire, rounds: u32, setup: Setup) -> Result<()> {
    let open = |path| Port::open(path, setup);
    let mut ports = [open(&wire.a)?, open(&wire.b)?];

    exchange::verify(&mut ports, &BOTH, FRAMES)?;
    for round in 1..=rounds {
        // A device that returns something has to have its rings. That it does so late is no matter.
        ports.iter_mut().try_for_each(Port::come_to_rest)?;
        for port in &ports {
            let device = &port.device;
            let size = device.memory.size();
            // A mapping that nobody uses comes and goes beside.
            let beside = memory::BASE + 2 * size;
            device.map_at(beside, size, device.memory.host_address()?)?;
            device.unmap(beside, size)?;
            device.unmap_all()?;
            device.map_all()?;
        }
        let went = exchange::verify(&mut ports, &BOTH, FRAMES);
        report.step(
            format!(
                "{FRAMES} frames each way arrive after the memory was mapped anew, round {round}"
            ),
            went,
        );
    }
    let [a, b] = ports;
    b.stop()?;
    let device = without_rings(report, a)?;
    report.step(
        "the device works afterwards",
        works_again(
            device,
            &Proof {
                device: wire.a.clone(),
                peer: Some(wire.b.clone()),
                loopback: false,
            },
        ),
    );
    Ok(())
}

/// Takes the memory away and kicks: whoever serves the rings finds them gone.
fn without_rings(report: &mut Report, port: Port) -> Result<Device> {
    port.device.unmap_all()?;
    for pair in &port.pairs {
        pair.transmit.ring_doorbell()?;
    }
    let demands = wait::until("the device demands a reset", || {
        Ok(port.device.status()? & status::NEEDS_RESET != 0)
    });
    report.step(
        "a device whose rings were taken away demands a reset",
        demands,
    );
    let device = port.stop().context("resetting it")?;
    device.map_all()?;
    Ok(device)
}
