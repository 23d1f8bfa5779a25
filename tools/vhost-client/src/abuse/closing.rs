// SPDX-License-Identifier: GPL-2.0

//! Opening twice, closing and resetting in every state.

use anyhow::{Result, ensure};
use nix::errno::Errno;

use super::{claimed, works, works_again};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::port::{Port, Setup};
use vdpa_user::stage::Stage;

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

    let opened = Device::open(&proof.device);
    let ended = opened.map(drop).and_then(|()| is_fresh(proof));
    report.step("closed while open: the next user finds it fresh", ended);
    for stage in Stage::ALL {
        let ended = brought(proof, stage).map(drop);
        report.step(
            format!("closed while {stage}: the next user finds it fresh"),
            ended.and_then(|()| is_fresh(proof)),
        );
        report.step(
            format!("reset while {stage}: it comes up again"),
            brought(proof, stage).and_then(|device| comes_again(device, proof)),
        );
    }
    let ended = live(proof).map(drop);
    report.step(
        "closed while live: the next user finds it fresh",
        ended.and_then(|()| is_fresh(proof)),
    );
    report.step(
        "reset while live: it comes up again",
        live(proof).and_then(|device| comes_again(device, proof)),
    );
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

/// A device that has been brought so far.
fn brought(proof: &Proof, stage: Stage) -> Result<Device> {
    let device = claimed(proof)?;
    stage.bring(&device)?;
    Ok(device)
}

/// A device that is live, with all its queues.
fn live(proof: &Proof) -> Result<Device> {
    Ok(Port::start(claimed(proof)?, Setup::default())?.device)
}

/// Checks what the next user finds.
fn is_fresh(proof: &Proof) -> Result<()> {
    let fresh = Device::open(&proof.device)?;
    let shown = fresh.status()?;
    ensure!(shown == 0, "status {shown:#x} on the next open");
    drop(fresh);
    works(proof)
}

/// Resets a device more often than is needed, and uses it.
fn comes_again(device: Device, proof: &Proof) -> Result<()> {
    for _ in 0..3 {
        device.reset()?;
    }
    works_again(device, proof)
}
