// SPDX-License-Identifier: GPL-2.0

//! Mappings of doorbells: which are refused, and what a mapping leads to later.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};

use super::{LEAST, claimed, refused};
use crate::command::Proof;
use crate::device::Device;
use crate::doorbell::{PAGE, Page};
use crate::ktap::Report;

/// All of it.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    bad_arguments(report, &device)?;
    survives(report, &device)
}

fn bad_arguments(report: &mut Report, device: &Device) -> Result<()> {
    let (write, read) = (ProtFlags::PROT_WRITE, ProtFlags::PROT_READ);
    let (shared, private) = (MapFlags::MAP_SHARED, MapFlags::MAP_PRIVATE);
    let beyond = u16::try_from(device.queue_count()?)?;
    let cases = [
        ("a private doorbell", 1, write, private),
        ("a readable doorbell", 1, read | write, shared),
        ("a doorbell of two pages", 2, write, shared),
    ];
    for (what, pages, protection, flags) in cases {
        refused(report, device, what, &[Errno::EINVAL], || {
            Page::map_with(device, 0, pages, protection, flags).map(drop)
        })?;
    }
    for index in [beyond, u16::MAX] {
        // 524 is the kernel's own ENOTSUPP, which user space has no name for.
        let errors = [Errno::EINVAL, Errno::UnknownErrno];
        let what = format!("the doorbell of queue {index}");
        refused(report, device, &what, &errors, || {
            Page::map_with(device, index, 1, write, shared).map(drop)
        })?;
    }
    Ok(())
}

/// The kernel asks for the doorbell's address again when the page is touched for the first time.
/// Whatever was negotiated in between, it must be the address from before: page 0 is not ours.
fn survives(report: &mut Report, device: &Device) -> Result<()> {
    for index in 0..u16::try_from(device.queue_count()?)? {
        device.reset()?;
        let (Ok(early), Ok(late)) = (Page::map(device, index), Page::map(device, index)) else {
            report.skip(
                format!("doorbell {index} stays where it is"),
                "it cannot be mapped",
            );
            continue;
        };
        early.ring(index);
        // Least: no control queue, whose index then means nothing.
        device.negotiate(LEAST)?;
        late.ring(index);
        let (before, after) = (frame_of(&early)?, frame_of(&late)?);
        report.check(
            before != 0 && before == after,
            format!("doorbell {index} stays where it is"),
            format!("page frame {before:#x} before the negotiation, {after:#x} after it"),
        );
    }
    device.reset()
}

/// The number of the physical page behind a mapping (Documentation/admin-guide/mm/pagemap.rst).
fn frame_of(page: &Page) -> Result<u64> {
    let mut entry = [0; 8];
    let number = u64::try_from(page.address() / PAGE)?;
    File::open("/proc/self/pagemap")
        .and_then(|file| file.read_exact_at(&mut entry, 8 * number))
        .context("cannot read the page map: run as root")?;
    Ok(u64::from_ne_bytes(entry) & ((1 << 55) - 1))
}
