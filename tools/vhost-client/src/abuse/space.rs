// SPDX-License-Identifier: GPL-2.0

//! The configuration space.

use anyhow::{Result, ensure};
use nix::errno::Errno;

use super::{claimed, refused};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::ioctl::{self, Argument};

/// Reads and writes out of range, and reads of every legal range.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    let size = device.config_size()?;
    ensure!(size > 0, "the device has no configuration space");
    let requests = [
        ("read", ioctl::VHOST_VDPA_GET_CONFIG()),
        ("write", ioctl::VHOST_VDPA_SET_CONFIG()),
    ];
    let ranges = [
        (0, 0),
        (size, 0),
        (size, 1),
        (size - 1, 2),
        (0, size + 1),
        (0, u32::MAX),
        (1, u32::MAX),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
        (size + 1, 1),
    ];
    for (name, request) in requests {
        for (offset, length) in ranges {
            let what = format!("a {name} of {length:#x} bytes at {offset:#x}");
            refused(report, &device, &what, &[Errno::EINVAL], || {
                ioctl::send(&device, request, &mut Argument::words(&[offset, length]))
            })?;
        }
        refused(
            report,
            &device,
            &format!("a {name} from nowhere"),
            &[Errno::EFAULT],
            || ioctl::send_null(&device, request),
        )?;
    }
    let whole = device.config()?;
    let mut different = Vec::new();
    let length = u32::try_from(whole.len())?;
    let starts = (0..length).step_by(3).chain([length - 1]);
    for offset in starts {
        for length in [1, 2, 3, 4, 6, 7, 8, 16, length] {
            let length = length.min(u32::try_from(whole.len())? - offset);
            let mut argument = Argument::words(&[offset, length]);
            ioctl::send(&device, ioctl::VHOST_VDPA_GET_CONFIG(), &mut argument)?;
            let (from, count) = (usize::try_from(offset)?, usize::try_from(length)?);
            let wanted = &whole[from..from + count];
            let got = argument.tail(8);
            // One byte after the wanted ones shows an answer that is too long.
            if &got[..count] != wanted || got[count] != 0 {
                different.push((offset, length));
            }
        }
    }
    let mut argument = Argument::words(&[0, size]);
    let all = ioctl::send(&device, ioctl::VHOST_VDPA_GET_CONFIG(), &mut argument);
    report.check(
        all.is_ok() && argument.tail(8).starts_with(&whole),
        "the whole space can be read at once",
        format!("{all:?}"),
    );
    report.check(
        different.is_empty(),
        "every part of the configuration reads like the whole",
        format!("different at (offset, length): {different:?}"),
    );
    Ok(())
}
