// SPDX-License-Identifier: GPL-2.0

//! Frames through two devices, or through one that sends them back.

use std::path::Path;

use anyhow::Result;

use super::Wire;
use crate::exchange::{self, BOTH, Direction, LOOP};
use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::doorbell::Page;
use vdpa_user::port::{Port, Setup};

/// Both directions between two devices.
pub fn wire(report: &mut Report, wire: &Wire, count: u32, setup: Setup) -> Result<()> {
    let mut ports = Vec::new();
    for path in [&wire.a, &wire.b] {
        let opened = Port::open(path, setup);
        let Some(port) = report.step(format!("{} comes up", path.display()), opened) else {
            return Ok(());
        };
        report.note(format!("features {:#x}", port.features));
        ports.push(port);
    }
    judge(report, &mut ports, &BOTH, count)?;
    for port in ports {
        let path = port.device.path().display().to_string();
        report.step(format!("{path} stops"), port.stop());
    }
    Ok(())
}

/// One device that hears itself.
pub fn loopback(report: &mut Report, path: &Path, count: u32, setup: Setup) -> Result<()> {
    let Some(port) = report.step("the device comes up", Port::open(path, setup)) else {
        return Ok(());
    };
    let mut ports = [port];
    judge(report, &mut ports, &LOOP, count)?;
    let [port] = ports;
    report.step("the device stops", port.stop());
    Ok(())
}

/// Both directions, with mapped doorbells.
pub fn doorbell(report: &mut Report, wires: &Wire, count: u32) -> Result<()> {
    for path in [&wires.a, &wires.b] {
        let device = Device::open(path)?;
        if let Err(errno) = Page::map(&device, 0) {
            report.skip(
                "frames with mapped doorbells",
                format!("{}: no doorbell to map ({errno})", path.display()),
            );
            return Ok(());
        }
    }
    let setup = Setup {
        doorbell: true,
        ..Setup::default()
    };
    wire(report, wires, count, setup)
}

/// Runs the frames and prints one result for each thing that can go wrong.
fn judge(report: &mut Report, ports: &mut [Port], ways: &[Direction], count: u32) -> Result<()> {
    let ran = exchange::run(ports, ways, exchange::Goal::Frames(count), |_, _| Ok(()));
    let Some(outcome) = report.step(format!("{count} frames each way arrive intact"), ran) else {
        return Ok(());
    };
    for (tally, way) in outcome.tallies.iter().zip(ways) {
        report.check(
            tally.reordered == 0 && tally.received == count,
            format!(
                "the frames from {} to {} arrive once and in order",
                way.from, way.to
            ),
            format!(
                "{} arrived, {} out of order",
                tally.received, tally.reordered
            ),
        );
    }
    for port in ports.iter() {
        let path = port.device.path().display();
        let silent: Vec<u16> = port
            .pairs
            .iter()
            .filter(|pair| pair.transmit.interrupts == 0)
            .map(|pair| pair.transmit.index)
            .collect();
        report.check(
            silent.is_empty(),
            format!("every transmit queue of {path} interrupts"),
            format!("no interrupt from the queues {silent:?}"),
        );
        let received: u64 = port.pairs.iter().map(|pair| pair.receive.interrupts).sum();
        report.check(
            received > 0,
            format!("the receive queues of {path} interrupt"),
            "no interrupt",
        );
        let merges: Vec<_> = port
            .pairs
            .iter()
            .filter_map(|pair| pair.merge.as_ref())
            .collect();
        if !merges.is_empty() {
            let merged: u32 = merges.iter().map(|merge| merge.merged).sum();
            let straddled: u32 = merges.iter().map(|merge| merge.straddled).sum();
            report.check(
                merged > 0,
                format!("frames arrive at {path} in several buffers"),
                "each came in one",
            );
            report.note(format!(
                "{path} received {merged} frames in several buffers, {straddled} over index 0"
            ));
        }
    }
    // How a switch spreads flows over receive queues is its own affair, so this is no result.
    for (tally, way) in outcome.tallies.iter().zip(ways) {
        let used = tally.queues.iter().filter(|used| **used).count();
        report.note(format!("port {} received on {used} queue(s)", way.to));
    }
    Ok(())
}
