// SPDX-License-Identifier: GPL-2.0

//! The translation table.

use anyhow::Result;
use nix::errno::Errno;

use super::{claimed, refused, works_again};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::frame;
use vdpa_user::memory;
use vdpa_user::port::{Port, Setup};

const UPDATE: u8 = 2;
const INVALIDATE: u8 = 3;
const READ_WRITE: u8 = 3;
/// Where a device writes its interrupts, on x86.
const INTERRUPTS: u64 = 0xfee0_0000;
/// `VHOST_IOTLB_MSG_V2`.
const VERSION_2: u32 = 2;

/// A `struct vhost_msg_v2`.
fn message(version: u32, kind: u8, iova: u64, size: u64, address: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(version.to_ne_bytes());
    bytes.extend([0; 4]);
    for word in [iova, size, address] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend([READ_WRITE, kind]);
    bytes.resize(72, 0);
    bytes
}

fn write(device: &Device, bytes: &[u8]) -> Result<usize, Errno> {
    device
        .message(bytes)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// Messages that must be refused.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    // A number for the message; what it points to is never read by this process.
    let here = device.memory.host_address()?.addr();
    let here = u64::try_from(here)?;
    let free = memory::BASE + memory::SIZE;
    let (_, last) = device.iova_range()?;
    let fault = [Errno::EFAULT];
    let cases = [
        (
            "memory mapped twice",
            message(VERSION_2, UPDATE, memory::BASE, 0x1000, here),
            fault,
        ),
        (
            "an overlap",
            message(VERSION_2, UPDATE, free - 0x1000, 0x2000, here),
            fault,
        ),
        (
            "memory nobody has",
            message(VERSION_2, UPDATE, free, 0x1000, 0x1000),
            fault,
        ),
        (
            "a range that wraps",
            message(VERSION_2, UPDATE, u64::MAX - 0xfff, 0x2000, here),
            fault,
        ),
        (
            "an unknown message",
            message(VERSION_2, 77, free, 0x1000, here),
            fault,
        ),
        (
            "an empty range",
            message(VERSION_2, UPDATE, free, 0, here),
            [Errno::EINVAL],
        ),
        (
            "an unknown version",
            message(99, UPDATE, free, 0x1000, here),
            [Errno::EINVAL],
        ),
        (
            "a message cut short",
            message(VERSION_2, UPDATE, free, 0x1000, here)[..20].to_vec(),
            [Errno::EINVAL],
        ),
    ];
    for (what, bytes, errors) in cases {
        refused(report, &device, what, &errors, || write(&device, &bytes))?;
    }
    if last < u64::MAX - 0x2000 {
        let bytes = message(VERSION_2, UPDATE, (last & !0xfff) + 0x1000, 0x1000, here);
        refused(
            report,
            &device,
            "a range beyond the aperture",
            &fault,
            || write(&device, &bytes),
        )?;
    }
    if !proof.loopback {
        // Behind it what a device writes is an interrupt, and is nowhere in memory.
        let bytes = message(VERSION_2, UPDATE, INTERRUPTS - 0x1000, 0x2000, here);
        refused(
            report,
            &device,
            "a range that reaches into the interrupts'",
            &fault,
            || write(&device, &bytes),
        )?;
    }
    let gone = message(VERSION_2, INVALIDATE, free, 0x1000, 0);
    let result = write(&device, &gone);
    report.check(
        result.is_ok(),
        "taking away what is not there",
        format!("{result:?}"),
    );
    for round in 0..50 {
        device.unmap_all()?;
        device
            .map_all()
            .map_err(|error| error.context(format!("mapping again, round {round}")))?;
    }
    report.ok("memory is mapped and taken away 50 times");
    Ok(())
}

/// A table that is taken away in one batch while the device works. Until the batch ends, a device
/// in software must neither lose the pages nor hold the batch up.
///
/// Hardware loses its memory at once, and the IOMMU reports that: see `unmapped`.
pub fn batch(report: &mut Report, proof: &Proof) -> Result<()> {
    if !proof.loopback {
        report.note("only for a device in software");
        return Ok(());
    }
    let mut device = claimed(proof)?;
    let (begin, end) = (
        message(VERSION_2, 5, 0, 0, 0),
        message(VERSION_2, 6, 0, 0, 0),
    );
    let all = message(VERSION_2, INVALIDATE, memory::BASE, memory::SIZE, 0);
    for round in 1..=5 {
        let mut port = Port::start(device, Setup::default())?;
        let source = port.address;
        for number in 0..32 {
            let tag = frame::Tag {
                run: 0,
                flow: 0,
                number,
            };
            port.send(0, &frame::build(tag, source, source, 0))?;
        }
        write(&port.device, &begin)?;
        write(&port.device, &all)?;
        for pair in &mut port.pairs {
            pair.transmit.publish()?;
            pair.transmit.ring_doorbell()?;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        write(&port.device, &end)?;
        for pair in &port.pairs {
            pair.transmit.ring_doorbell()?;
            pair.receive.ring_doorbell()?;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        let Some(stopped) = report.step(format!("round {round}: a reset is enough"), port.stop())
        else {
            return Ok(());
        };
        stopped.map_all()?;
        device = stopped;
    }
    report.step("the device comes up again", works_again(device, proof));
    Ok(())
}
