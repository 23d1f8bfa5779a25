// SPDX-License-Identifier: GPL-2.0

//! Mappings of doorbells: which are refused, and what a mapping leads to later.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};

use super::{claimed, refused};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::doorbell::Page;
use vdpa_user::stage::LEAST;

/// All of the machine's memory.
const MEMORY: &str = "/dev/mem";

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
            Page::map_with(device, index.into(), 1, write, shared).map(drop)
        })?;
    }
    Ok(())
}

/// The kernel asks for the doorbell's address again when the page is touched for the first time.
/// Whatever was negotiated in between, the page must not be page 0 of the machine's memory, which
/// an address that is suddenly missing would lead to.
fn survives(report: &mut Report, device: &Device) -> Result<()> {
    /// No queue has this number, and a device that knows its doorbells by address ignores it.
    const TRACE: u16 = 0x5a5a;

    let (mut touched, mut checked) = (0_u16, 0_u16);
    for index in 0..u16::try_from(device.queue_count()?)? {
        let what = format!("doorbell {index} does not become page 0");
        device.reset()?;
        let Ok(page) = Page::map(device, index) else {
            report.skip(what, "it cannot be mapped");
            continue;
        };
        // Least: no control queue, whose index then means nothing.
        device.negotiate(LEAST)?;
        touched += 1;
        let before = match first_word() {
            Ok(word) => word,
            Err(error) => {
                // A locked-down kernel; the page is touched nevertheless.
                page.ring(TRACE);
                report.skip(what, format!("{error:#}"));
                continue;
            }
        };
        page.ring(TRACE);
        let after = first_word()?;
        checked += 1;
        report.check(
            before == after && after != TRACE,
            what,
            format!("its first word was {before:#x} and is {after:#x}"),
        );
    }
    let watched = "page 0 is watched while doorbells ring";
    if touched > 0 && !Path::new(MEMORY).exists() {
        report.skip(watched, "this kernel shows its memory to nobody");
    } else if touched > 0 {
        report.check(
            checked > 0,
            watched,
            format!("{touched} doorbell(s) can be mapped, and {MEMORY} was never read"),
        );
    }
    device.reset()
}

/// The first 16 bits of the machine's memory, which the kernel lets root read.
fn first_word() -> Result<u16> {
    let mut word = [0; 2];
    File::open(MEMORY)
        .and_then(|memory| memory.read_exact_at(&mut word, 0))
        .with_context(|| format!("cannot read {MEMORY}"))?;
    Ok(u16::from_le_bytes(word))
}
