// SPDX-License-Identifier: GPL-2.0

//! Features and status.

use anyhow::Result;
use nix::errno::Errno;

use super::{claimed, ignored, refused};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::stage::LEAST;

fn set_features(device: &Device, features: u64) -> Result<(), Errno> {
    ioctl::send(
        device,
        ioctl::VHOST_SET_FEATURES(),
        &mut Argument::long(features),
    )
}

/// Feature sets a device must not take.
pub fn features(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    let offered = device.features()?;
    device.add_status(status::ACKNOWLEDGE)?;
    device.add_status(status::DRIVER)?;
    for bit in 0..64 {
        let extra = 1 << bit;
        if offered & extra == 0 {
            refused(
                report,
                &device,
                &format!("feature bit {bit}, which is not offered"),
                &[Errno::EINVAL],
                || set_features(&device, LEAST | extra),
            )?;
        }
    }
    let cases = [
        ("features without VERSION_1", offered & !feature::VERSION_1),
        (
            "features without ACCESS_PLATFORM",
            offered & !feature::ACCESS_PLATFORM,
        ),
        ("all 64 features", u64::MAX),
    ];
    for (what, features) in cases {
        refused(report, &device, what, &[Errno::EINVAL], || {
            set_features(&device, features)
        })?;
    }
    // The kernel itself and QEMU do this to read the configuration of a fresh device.
    report.check(
        set_features(&device, 0).is_ok(),
        "no features are accepted",
        "refused",
    );
    report.check(
        set_features(&device, offered).is_ok(),
        "all offered are accepted",
        "refused",
    );
    set_features(&device, LEAST)?;
    refused(
        report,
        &device,
        "features from nowhere",
        &[Errno::EFAULT],
        || ioctl::send_null(&device, ioctl::VHOST_SET_FEATURES()),
    )?;
    device.add_status(status::FEATURES_OK)?;
    for (what, features) in [
        ("the same features", LEAST),
        ("others", offered),
        ("none", 0),
    ] {
        refused(
            report,
            &device,
            &format!("{what} after FEATURES_OK"),
            &[Errno::EBUSY],
            || set_features(&device, features),
        )?;
    }
    backend(report, &device)
}

fn backend(report: &mut Report, device: &Device) -> Result<()> {
    let offered = device.backend_features()?;
    for bit in [0, 9, 17, 63] {
        refused(
            report,
            device,
            &format!("unknown back end feature bit {bit}"),
            &[Errno::EOPNOTSUPP],
            || {
                let mut argument = Argument::long(2 | (1 << bit));
                ioctl::send(device, ioctl::VHOST_SET_BACKEND_FEATURES(), &mut argument)
            },
        )?;
    }
    for (name, bit) in [("SUSPEND", 4), ("RESUME", 5)] {
        if (offered >> bit) & 1 == 1 {
            continue;
        }
        refused(
            report,
            device,
            &format!("back end feature {name}, which is not offered"),
            &[Errno::EOPNOTSUPP],
            || {
                let mut argument = Argument::long(2 | (1 << bit));
                ioctl::send(device, ioctl::VHOST_SET_BACKEND_FEATURES(), &mut argument)
            },
        )?;
    }
    Ok(())
}

/// Status values a device must not take.
pub fn status(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    let seen = status::ACKNOWLEDGE | status::DRIVER;
    device.add_status(seen)?;
    for (what, value) in [
        ("ACKNOWLEDGE", status::DRIVER),
        ("DRIVER", status::ACKNOWLEDGE),
    ] {
        refused(
            report,
            &device,
            &format!("clearing {what}"),
            &[Errno::EINVAL],
            || device.raw_status(value),
        )?;
    }
    for bit in [0x10, 0x20] {
        ignored(
            report,
            &device,
            &format!("unknown status bit {bit:#x}"),
            || device.raw_status(seen | bit),
        )?;
    }
    ignored(report, &device, "NEEDS_RESET set by a driver", || {
        device.raw_status(seen | status::NEEDS_RESET)
    })?;
    refused(
        report,
        &device,
        "a status from nowhere",
        &[Errno::EFAULT],
        || ioctl::send_null(&device, ioctl::VHOST_VDPA_SET_STATUS()),
    )?;

    let jumps = [
        ("DRIVER_OK without FEATURES_OK", seen | status::DRIVER_OK),
        ("DRIVER_OK alone", status::DRIVER_OK),
        ("every known bit at once", 0xcf),
        ("all ones", 0xff),
    ];
    for (what, value) in jumps {
        device.reset()?;
        let result = device.raw_status(value);
        let shown = device.status()?;
        // With features never set, nothing may run: VERSION_1 is not negotiated.
        report.check(
            shown & status::DRIVER_OK == 0,
            format!("{what}: the device does not run"),
            format!("result {result:?}, status {shown:#x}"),
        );
        report.step(format!("{what}: a reset is enough"), device.reset());
    }
    device.negotiate(LEAST)?;
    device.raw_status(seen | status::FEATURES_OK | status::FAILED)?;
    report.check(
        device.status()? & status::FAILED != 0,
        "a driver may give up with FAILED",
        format!("status {:#x}", device.status()?),
    );
    report.step("FAILED: a reset is enough", device.reset());
    report.step("a second reset is harmless", device.reset());
    Ok(())
}
