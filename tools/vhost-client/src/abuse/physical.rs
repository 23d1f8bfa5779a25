// SPDX-License-Identifier: GPL-2.0

//! Rings at physical addresses, which nobody has mapped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vmm_sys_util::eventfd::EventFd;

use super::{claimed, works};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, status};
use vdpa_user::doorbell::PAGE;
use vdpa_user::memory;
use vdpa_user::ring::{self, Areas, Buffer};
use vdpa_user::stage::LEAST;

/// Descriptors of the queue: with these, each of its areas lies in one page.
const SIZE: u16 = 64;
/// The transmit queue of a network device.
const TRANSMIT: u16 = 1;
/// Bytes of the header that comes before a frame.
const HEADER: u64 = 12;
/// Bytes of the shortest frame.
const FRAME: u64 = 60;

/// The physical address of a byte of the device's memory, which this process has touched.
fn physical(device: &Device, iova: u64) -> Result<u64> {
    let page = u64::try_from(PAGE)?;
    let address = u64::try_from(device.memory.host_address()?.addr())? + (iova - memory::BASE);
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")?
        .read_exact_at(&mut entry, address / page * 8)
        .context("cannot read /proc/self/pagemap")?;
    // The frame number is in bits 0 to 54 (Documentation/admin-guide/mm/pagemap.rst).
    let frame = u64::from_ne_bytes(entry) & ((1 << 55) - 1);
    ensure!(frame != 0, "no physical address: run as root");
    Ok(frame * page + address % page)
}

/// Sends a frame from rings that the device finds only if it reaches physical memory, from a
/// process that maps nothing, or other addresses.
pub fn run(report: &mut Report, proof: &Proof, map: bool) -> Result<()> {
    let (device, who) = if map {
        (claimed(proof)?, "a process that maps other addresses")
    } else {
        let device = Device::open(&proof.device)?;
        device.own()?;
        (device, "a process that maps nothing")
    };
    send(report, &device, who)?;
    drop(device);
    report.step("the device works afterwards", works(proof));
    Ok(())
}

fn send(report: &mut Report, device: &Device, who: &str) -> Result<()> {
    device.negotiate(LEAST)?;
    device.memory.clear()?;
    let mut ring = ring::new(&device.memory, SIZE, false, false)?;
    let buffer = device.memory.allocate(HEADER + FRAME, 8)?;
    let areas = ring.areas();
    let places = Areas {
        descriptors: physical(device, areas.descriptors)?,
        driver: physical(device, areas.driver)?,
        device: physical(device, areas.device)?,
    };
    // For whoever looks whether the IOMMU has reported an access there: that nothing comes back
    // does not tell a device that was stopped from one that has not tried.
    report.note(format!(
        "{who}: rings at {:#x} {:#x} {:#x}",
        places.descriptors, places.driver, places.device
    ));
    device.set_queue(TRANSMIT, SIZE, places, 0)?;
    let kick = EventFd::new(0)?;
    device.set_kick(TRANSMIT, &kick)?;
    device.enable(TRANSMIT, true)?;
    device.add_status(status::DRIVER_OK)?;
    let chain = [Buffer {
        address: physical(device, buffer)?,
        length: u32::try_from(HEADER + FRAME)?,
        writable: false,
    }];
    ring.add(&chain, 0)?;
    ring.publish()?;
    kick.write(1)?;
    std::thread::sleep(Duration::from_millis(1500));
    let used = ring.take()?;
    report.check(
        used.is_none(),
        format!("{who} does not reach physical memory"),
        format!("the device has used {used:?}"),
    );
    device.reset()
}
