// SPDX-License-Identifier: GPL-2.0

//! A device that is told everything that its features allow, and told it again when it has forgotten.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::ktap::Report;
use vdpa_user::port::{Port, Setup};

/// Commands of all classes (virtio 1.3, 5.1.6.5): coalescing, offloads, queue pairs, hashes, RSS, an
/// announcement, VLANs, addresses, modes. They are told again in another order.
const COMMANDS: [&[u8]; 19] = [
    &[6, 0, 10, 0, 0, 0, 20, 0, 0, 0],
    &[6, 2, 3, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0],
    &[6, 1, 7, 0, 0, 0, 8, 0, 0, 0],
    &[5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0],
    &[4, 0, 2, 0],
    &[4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // Of two entries, with a key of four bytes.
    &[
        4, 1, 0x3f, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0x11, 0x22, 0x33, 0x44,
    ],
    &[3, 0],
    &[2, 0, 5, 0],
    &[2, 0, 0x23, 1],
    &[2, 1, 5, 0],
    &[
        1, 0, 1, 0, 0, 0, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0, 0, 0,
    ],
    &[1, 1, 0x02, 0x66, 0x77, 0x88, 0x99, 0],
    &[0, 0, 0],
    &[0, 1, 1],
    &[0, 2, 0],
    &[0, 3, 1],
    &[0, 4, 0],
    &[0, 5, 1],
];

/// The one command that asks: when queue 3 interrupts is what it was told.
fn queue_is_told(port: &mut Port) -> Result<()> {
    let told = port.inquire(&[&[6, 3, 3, 0, 0, 0]], 8)?;
    ensure!(
        told == (0, vec![5, 0, 0, 0, 6, 0, 0, 0]),
        "it says {told:?}"
    );
    Ok(())
}

/// Tells the device, resumes it, and keeps it then until this process is killed.
pub fn run(report: &mut Report, path: &Path) -> Result<()> {
    let setup = Setup {
        pairs: 2,
        control: true,
        everything: true,
        ..Setup::default()
    };
    let mut port = Port::open(path, setup)?;
    for command in COMMANDS {
        let answer = port.command(&[command])?;
        ensure!(answer == 0, "{command:x?} is answered by {answer}");
    }
    queue_is_told(&mut port)?;
    port.device.suspend()?;
    port.device.resume()?;
    ensure!(port.alive()?, "the device does not go on");
    queue_is_told(&mut port)?;
    report.note("holding what was told again");
    loop {
        sleep(Duration::from_secs(3600));
    }
}
