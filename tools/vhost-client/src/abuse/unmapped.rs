// SPDX-License-Identifier: GPL-2.0

//! Rings the device cannot reach. The IOMMU reports the faults: a test of its own.

use std::time::Duration;

use anyhow::Result;

use super::{claimed, works_again};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::status;
use vdpa_user::memory;
use vdpa_user::ring::Areas;
use vdpa_user::stage::LEAST;

/// Brings the device live with rings outside of its memory, then with memory taken away.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let mut device = claimed(proof)?;
    let beyond = memory::BASE + memory::SIZE + 0x10_0000;
    for round in 1..=3 {
        device.negotiate(LEAST)?;
        for index in 0..2 {
            let start = beyond + 0x1_0000 * u64::from(index);
            let areas = Areas {
                descriptors: start,
                driver: start + 0x4000,
                device: start + 0x8000,
            };
            device.set_queue(index, 64, areas, 0)?;
            device.enable(index, true)?;
        }
        let result = device.raw_status(device.status()? | status::DRIVER_OK);
        let shown = device.status()?;
        report.note(format!(
            "round {round}: result {result:?}, status {shown:#x}"
        ));
        // Whether a device notices at once is its own affair; that it can be reset is ours.
        std::thread::sleep(Duration::from_millis(300));
        report.step(
            format!("round {round}: a device with unreachable rings can be reset"),
            device.reset(),
        );
    }
    for round in 1..=3 {
        let port = vdpa_user::port::Port::start(device, vdpa_user::port::Setup::default())?;
        port.device.unmap_all()?;
        for pair in &port.pairs {
            pair.transmit.ring_doorbell()?;
            pair.receive.ring_doorbell()?;
        }
        std::thread::sleep(Duration::from_millis(300));
        report.note(format!(
            "round {round}: status {:#x}",
            port.device.status()?
        ));
        let stopped = port.stop();
        let Some(stopped) = report.step(
            format!("round {round}: a device that lost its memory can be reset"),
            stopped,
        ) else {
            return Ok(());
        };
        stopped.map_all()?;
        device = stopped;
    }
    report.step("the device works afterwards", works_again(device, proof));
    Ok(())
}
