// SPDX-License-Identifier: GPL-2.0

//! A ring that is found broken just as its device is suspended.

use anyhow::Result;

use super::Proof;
use crate::abuse::{claimed, works_again};
use crate::ktap::Report;
use vdpa_user::device::status;
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

/// Where the queues begin, so that the kernel serves them.
const START: u16 = 1000;

/// Kicks for a descriptor that there is not and suspends the device at once, `rounds` times: whoever
/// finds the ring broken, a device that is said to be suspended has none.
pub fn run(report: &mut Report, proof: &Proof, rounds: u32) -> Result<()> {
    let setup = Setup {
        start: START,
        event_index: true,
        ..Setup::default()
    };
    let mut device = claimed(proof)?;
    let mut suspended = 0;
    let mut content = 0;

    for _ in 0..rounds {
        let port = Port::start(device, setup)?;
        if let Some(pair) = port.pairs.first() {
            // Nobody waits for a queue that receives when a device is suspended.
            let queue = &pair.receive;
            let driver = queue.ring.areas().driver;
            let memory = &port.device.memory;
            // A kick finds only rings that somebody has looked at.
            let event = queue.ring.areas().device + 4 + 8 * u64::from(queue.size);
            wait::until("the receive queue's buffers are taken", || {
                Ok(memory.load16(event)? == START + queue.size)
            })?;
            let mut index = [0; 2];
            memory.read(driver + 2, &mut index)?;
            let index = u16::from_le_bytes(index);
            let slot = u64::from(index % queue.size);
            memory.write(driver + 4 + 2 * slot, &[0xff; 2])?;
            memory.write(driver + 2, &index.wrapping_add(1).to_le_bytes())?;
            queue.ring_doorbell()?;
        }
        suspended += u32::from(port.device.suspend().is_ok());
        content += u32::from(port.device.status()? & status::NEEDS_RESET == 0);
        device = port.stop()?;
    }
    report.check(
        suspended == 0,
        format!("a device whose rings are broken is not suspended, {rounds} times"),
        format!("it was {suspended} times"),
    );
    report.check(
        content == 0,
        "it demands a reset each time",
        format!("{content} times it did not"),
    );
    report.step("the device works afterwards", works_again(device, proof));
    Ok(())
}
