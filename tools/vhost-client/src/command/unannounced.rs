// SPDX-License-Identifier: GPL-2.0

//! A device that is reset behind its driver's back, at moments at which the driver is about to
//! take it for what it was.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Proof;
use crate::abuse::{claimed, works_again};
use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::port::{Port, Setup};
use vdpa_user::ring;
use vdpa_user::stage::LEAST;

/// Descriptors of the virtqueue that shall be started.
const SIZE: u16 = 64;

/// Has `command` reset the device at each of the moments. It must not be said to run then, and the
/// next reset must mend it.
pub fn run(report: &mut Report, proof: &Proof, command: &str) -> Result<()> {
    let device = claimed(proof)?;
    device.reset()?;
    reset(command)?;
    device.add_status(status::ACKNOWLEDGE | status::DRIVER)?;
    device.set_features(LEAST)?;
    // Whether this is refused already is the device's affair.
    let _ = device.raw_status(device.status()? | status::FEATURES_OK);
    refuses_to_start(report, &device, "before its features are set")?;
    works(report, device, proof);

    let device = claimed(proof)?;
    device.negotiate(LEAST)?;
    reset(command)?;
    refuses_to_start(report, &device, "before DRIVER_OK")?;
    works(report, device, proof);

    let port = Port::open(&proof.device, Setup::default())?;
    port.device.suspend()?;
    reset(command)?;
    let resumed = port.device.resume();
    report.check(
        resumed.is_err(),
        "a device that was reset while it was suspended does not go on",
        "it is said to",
    );
    let shown = port.device.status()?;
    report.check(
        shown & status::NEEDS_RESET != 0,
        "it demands a reset",
        format!("status {shown:#x}"),
    );
    works(report, port.stop()?, proof);
    Ok(())
}

/// Runs a command of the shell.
fn reset(command: &str) -> Result<()> {
    let done = Command::new("sh").args(["-c", command]).status();
    ensure!(done.context("running sh")?.success(), "{command} fails");
    Ok(())
}

/// Sets a device up that was reset `when`, and checks that it is not said to be started.
fn refuses_to_start(report: &mut Report, device: &Device, when: &str) -> Result<()> {
    device.memory.clear()?;
    let ring = ring::new(&device.memory, SIZE, false, false)?;
    device.set_queue(0, SIZE, ring.areas(), 0)?;
    device.enable(0, true)?;
    // Whether the request fails is the kernel's affair; what is shown is what counts.
    let _ = device.raw_status(device.status()? | status::DRIVER_OK);
    let shown = device.status()?;
    report.check(
        shown & (status::DRIVER_OK | status::FAILED) == status::FAILED,
        format!("a device that was reset {when} does not start"),
        format!("status {shown:#x}"),
    );
    Ok(())
}

fn works(report: &mut Report, device: Device, proof: &Proof) {
    report.step("after a reset it works", works_again(device, proof));
}
