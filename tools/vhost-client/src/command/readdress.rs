// SPDX-License-Identifier: GPL-2.0

//! A device whose address is the administrator's.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::ktap::Report;
use vdpa_user::port::{Port, Setup};

/// Asks for another address, which is refused, and for that of the device, which is granted; keeps the device
/// then until this process is killed.
pub fn run(report: &mut Report, path: &Path) -> Result<()> {
    let setup = Setup {
        control: true,
        ..Setup::default()
    };
    let mut port = Port::open(path, setup)?;
    let own = port.address;
    for (address, expected) in [([2, 0x66, 0x77, 0x88, 0x99, 0], 1), (own, 0)] {
        let answer = port.command(&[&[1, 1], &address])?;
        ensure!(
            answer == expected,
            "to {address:x?} it says {answer}, not {expected}"
        );
    }
    let config = port.device.config()?;
    let shown = config.get(..own.len()).context("no room for an address")?;
    ensure!(shown == own, "it shows {shown:x?}, not {own:x?}");
    ensure!(port.alive()?, "the device does not go on");
    report.note("holding with its own address");
    loop {
        sleep(Duration::from_secs(3600));
    }
}
