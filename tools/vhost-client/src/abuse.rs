// SPDX-License-Identifier: GPL-2.0

//! Requests that must be refused, at every moment of a device's life.
//!
//! Each is checked three ways: the right error, nothing that can be read back has changed, and
//! the device works afterwards.

mod closing;
pub mod control;
mod doorbells;
mod live;
mod negotiation;
pub mod physical;
mod queues;
mod space;
mod table;
pub mod unmapped;

use anyhow::{Result, ensure};
use nix::errno::Errno;

use crate::command::Proof;
use crate::exchange::{self, BOTH, LOOP};
use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::port::{Port, Setup};
use vdpa_user::ring;
use vdpa_user::stage::LEAST;

/// Number of network devices (virtio 1.3, 5).
const NET: u32 = 1;
/// Frames that show a device works.
const SHORT: u32 = 100;

type Group = fn(&mut Report, &Proof) -> Result<()>;

/// The groups, in the order they run.
const GROUPS: [(&str, Group); 14] = [
    ("features", negotiation::features),
    ("status", negotiation::status),
    ("sizes", queues::sizes),
    ("addresses", queues::addresses),
    ("packed", queues::packed),
    ("indices", queues::indices),
    ("config", space::run),
    ("table", table::run),
    ("doorbells", doorbells::run),
    ("batch", table::batch),
    ("control", control::run),
    ("order", queues::order),
    ("live", live::run),
    ("closing", closing::run),
];

/// Runs every group whose name contains `only`, each followed by a short transfer.
pub fn run(report: &mut Report, proof: &Proof, only: Option<&str>) -> Result<()> {
    for (name, group) in GROUPS {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        report.note(format!("group {name}"));
        if let Err(error) = group(report, proof) {
            report.fail(
                format!("{name}: the group runs to its end"),
                format!("{error:#}"),
            );
        }
        report.step(format!("{name}: the device works afterwards"), works(proof));
    }
    Ok(())
}

/// Opens the device anew and passes a few frames, or just brings it up if it is not for frames.
pub fn works(proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    if device.device_id()? != NET {
        return comes_up(&device);
    }
    drop(device);
    let port = Port::open(&proof.device, Setup::default())?;
    flows(port, proof)
}

/// Brings an open device up again and passes a few frames, or just brings it up.
pub fn works_again(device: Device, proof: &Proof) -> Result<()> {
    if device.device_id()? != NET {
        return comes_up(&device);
    }
    flows(Port::start(device, Setup::default())?, proof)
}

fn flows(port: Port, proof: &Proof) -> Result<()> {
    if proof.loopback {
        exchange::verify(&mut [port], &LOOP, SHORT)?;
    } else if let Some(peer) = &proof.peer {
        let peer = Port::open(peer, Setup::default())?;
        exchange::verify(&mut [port, peer], &BOTH, SHORT)?;
    } else {
        ensure!(port.alive()?, "the device does not run");
    }
    Ok(())
}

/// Brings up a device of any type, with one queue.
fn comes_up(device: &Device) -> Result<()> {
    const SIZE: u16 = 64;

    device.negotiate(LEAST)?;
    device.memory.clear()?;
    let ring = ring::new(&device.memory, SIZE, false, false)?;
    device.set_queue(0, SIZE, ring.areas(), 0)?;
    device.enable(0, true)?;
    device.add_status(status::DRIVER_OK)?;
    let shown = device.status()?;
    ensure!(
        shown & (status::DRIVER_OK | status::FAILED | status::NEEDS_RESET) == status::DRIVER_OK,
        "the status is {shown:#x}"
    );
    device.reset()
}

/// Opens and claims the device under test.
pub fn claimed(proof: &Proof) -> Result<Device> {
    let mut device = Device::open(&proof.device)?;
    device.claim()?;
    Ok(device)
}

/// Runs a request that must fail with one of `errors` and change nothing.
pub fn refused<T: std::fmt::Debug>(
    report: &mut Report,
    device: &Device,
    what: &str,
    errors: &[Errno],
    request: impl FnOnce() -> Result<T, Errno>,
) -> Result<()> {
    let before = device.snapshot()?;
    let result = request();
    let after = device.snapshot()?;
    match result {
        Err(errno) if errors.contains(&errno) => report.check(
            before == after,
            format!("{what}: {errno:?}, nothing changed"),
            format!("before {before:?}, after {after:?}"),
        ),
        Err(errno) => report.check(
            false,
            format!("{what}: {errors:?}"),
            format!("the error is {errno:?}"),
        ),
        Ok(value) => report.check(
            false,
            format!("{what}: {errors:?}"),
            format!("it succeeded: {value:?}"),
        ),
    };
    Ok(())
}

/// Runs a request that has no way to fail and must change nothing.
pub fn ignored(
    report: &mut Report,
    device: &Device,
    what: &str,
    request: impl FnOnce() -> Result<(), Errno>,
) -> Result<()> {
    let before = device.snapshot()?;
    let result = request();
    let after = device.snapshot()?;
    report.check(
        before == after,
        format!("{what}: nothing changed"),
        format!("result {result:?}, before {before:?}, after {after:?}"),
    );
    Ok(())
}
