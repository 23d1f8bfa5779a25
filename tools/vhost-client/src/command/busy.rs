// SPDX-License-Identifier: GPL-2.0

//! A device that has to finish what it was asked for before it can be stopped, and is slow.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::errno::Errno;

use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::port::Setup;
use vdpa_user::queue::Queue;
use vdpa_user::refusal;
use vdpa_user::ring::Buffer;
use vdpa_user::stage::LEAST;
use vdpa_user::wait;

/// The class of a source of entropy (virtio 1.3, 5.4).
const ENTROPY: u32 = 4;

/// Suspends a source of entropy that gives a little, and then nothing for longer than the kernel waits.
pub fn run(report: &mut Report, path: &Path, setup: Setup) -> Result<()> {
    let mut device = Device::open(path)?;
    ensure!(device.device_id()? == ENTROPY, "no source of entropy");
    device.claim()?;
    device.memory.clear()?;
    device.negotiate(LEAST)?;
    let mut queue = Queue::new(&device, 0, setup, LEAST, 0)?;
    device.enable(0, true)?;
    device.add_status(status::DRIVER_OK)?;

    // What it gives is little enough to be all for a while.
    report.step("the first request is answered", exchange(&mut queue));
    ask(&mut queue)?;
    let refused = device.suspend();
    report.check(
        refused.as_ref().err().and_then(refusal::errno) == Some(Errno::EBUSY),
        "a device that is at work is not suspended: EBUSY",
        format!("{refused:?}"),
    );
    let shown = device.status()?;
    report.check(
        shown & (status::NEEDS_RESET | status::DRIVER_OK) == status::DRIVER_OK,
        "it demands no reset",
        format!("status {shown:#x}"),
    );
    report.step("it finishes", answered(&mut queue));
    report.step("it is asked again, and answers", exchange(&mut queue));
    if report
        .step("then it is suspended", device.suspend())
        .is_none()
    {
        return Ok(());
    }
    let place = (device.base(0)?, queue.ring.base()?);
    report.check(
        place.0 == place.1,
        "it says where it is",
        format!("{}, and the ring says {}", place.0, place.1),
    );
    report.step("it goes on", device.resume());
    report.step("it answers then", exchange(&mut queue));
    Ok(())
}

/// Asks for something.
fn ask(queue: &mut Queue) -> Result<()> {
    let address = queue.slot(0)?;
    let buffer = Buffer {
        address,
        length: 8,
        writable: true,
    };
    queue.ring.add(&[buffer], 0)?;
    queue.publish()
}

/// Waits for an answer.
fn answered(queue: &mut Queue) -> Result<()> {
    let mut written = None;
    wait::until("an answer", || {
        written = queue.ring.take()?.map(|used| used.written);
        Ok(written.is_some())
    })?;
    ensure!(
        written.is_some_and(|written| (1..=8).contains(&written)),
        "{written:?} bytes of 8"
    );
    Ok(())
}

fn exchange(queue: &mut Queue) -> Result<()> {
    ask(queue)?;
    answered(queue)
}
