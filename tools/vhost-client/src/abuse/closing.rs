// SPDX-License-Identifier: GPL-2.0

//! Opening twice, closing and resetting in every state.

use anyhow::{Result, ensure};
use nix::errno::Errno;

use super::{LEAST, claimed, works, works_again};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::port::{Port, Setup};
use vdpa_user::ring;

/// How far a device is brought up before it is closed or reset.
const STATES: [&str; 7] = [
    "open",
    "owned",
    "acknowledged",
    "negotiated",
    "described",
    "live without queues",
    "live",
];

/// Brings an owned device to a state.
fn bring(device: Device, state: &str) -> Result<Device> {
    match state {
        "acknowledged" => device.add_status(status::ACKNOWLEDGE | status::DRIVER)?,
        "negotiated" => device.negotiate(LEAST)?,
        "described" => {
            device.negotiate(LEAST)?;
            device.memory.clear()?;
            let ring = ring::new(&device.memory, 64, false, false)?;
            device.set_queue(0, 64, ring.areas(), 0)?;
            device.enable(0, true)?;
        }
        "live without queues" => {
            device.negotiate(LEAST)?;
            device.add_status(status::DRIVER_OK)?;
        }
        "live" => return Ok(Port::start(device, Setup::default())?.device),
        _ => {}
    }
    Ok(device)
}

/// All of it.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let first = Device::open(&proof.device)?;
    let second = Device::open(&proof.device).map(drop);
    let errno = second
        .as_ref()
        .err()
        .and_then(|error| error.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error)
        .map(Errno::from_raw);
    report.check(
        errno == Some(Errno::EBUSY),
        "a device opens once: EBUSY",
        format!("{second:?}"),
    );
    drop(first);

    for state in STATES {
        let closed = (|| {
            let device = if state == "open" {
                Device::open(&proof.device)?
            } else {
                bring(claimed(proof)?, state)?
            };
            drop(device);
            let fresh = Device::open(&proof.device)?;
            let shown = fresh.status()?;
            ensure!(shown == 0, "status {shown:#x} on the next open");
            drop(fresh);
            works(proof)
        })();
        report.step(
            format!("closed while {state}: the next user finds it fresh"),
            closed,
        );
    }
    for state in &STATES[1..] {
        let again = (|| {
            let device = bring(claimed(proof)?, state)?;
            for _ in 0..3 {
                device.reset()?;
            }
            works_again(device, proof)
        })();
        report.step(format!("reset while {state}: it comes up again"), again);
    }
    let cycles = (|| {
        let mut device = claimed(proof)?;
        for _ in 0..30 {
            device = Port::start(device, Setup::default())?.stop()?;
        }
        works_again(device, proof)
    })();
    report.step("30 times up and down", cycles);
    Ok(())
}
