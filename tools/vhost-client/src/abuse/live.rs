// SPDX-License-Identifier: GPL-2.0

//! Requests that must not disturb a device at work.

use std::os::fd::AsRawFd;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::eventfd::EfdFlags;
use vmm_sys_util::eventfd::EventFd;

use super::{SHORT, ignored, refused};
use crate::command::Proof;
use crate::exchange::{self, BOTH, Direction, Goal, LOOP};
use crate::ktap::Report;
use vdpa_user::device::{feature, status};
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::memory;
use vdpa_user::port::{Port, Setup};
use vdpa_user::stage::LEAST;

/// Abuses a live device, then one with traffic on it.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let setup = Setup::default();
    let mut ports = vec![Port::open(&proof.device, setup)?];
    let mut ways: &[Direction] = &[];
    if proof.loopback {
        ways = &LOOP;
    } else if let Some(peer) = &proof.peer {
        ports.push(Port::open(peer, setup)?);
        ways = &BOTH;
    }
    requests(report, &mut ports[0])?;
    report.step(
        "frames flow after each of these",
        exchange::verify(&mut ports, ways, SHORT),
    );
    calls(report, &mut ports, ways)?;
    memory_moves(report, &ports[0])?;
    report.step(
        "frames flow to the end",
        exchange::verify(&mut ports, ways, SHORT),
    );
    Ok(())
}

fn requests(report: &mut Report, port: &mut Port) -> Result<()> {
    let device = &port.device;
    let areas = port.pairs[0].receive.ring.areas();
    let invalid = [Errno::EINVAL];
    refused(report, device, "live: the same addresses", &invalid, || {
        let mut argument = Argument::addresses(0, 0, areas.descriptors, areas.device, areas.driver);
        ioctl::send(device, ioctl::VHOST_SET_VRING_ADDR(), &mut argument)
    })?;
    refused(report, device, "live: other addresses", &invalid, || {
        let end = memory::BASE + memory::SIZE;
        let mut argument = Argument::addresses(0, 0, end, end + 0x1000, end + 0x2000);
        ioctl::send(device, ioctl::VHOST_SET_VRING_ADDR(), &mut argument)
    })?;
    refused(report, device, "live: a base", &invalid, || {
        ioctl::state(device, ioctl::VHOST_SET_VRING_BASE(), 0, 0)
    })?;
    refused(report, device, "live: features", &[Errno::EBUSY], || {
        ioctl::send(
            device,
            ioctl::VHOST_SET_FEATURES(),
            &mut Argument::long(LEAST),
        )
    })?;
    ignored(report, device, "live: another size", || {
        ioctl::state(device, ioctl::VHOST_SET_VRING_NUM(), 0, 8).map(drop)
    })?;
    ignored(report, device, "live: enabling what is enabled", || {
        ioctl::state(device, ioctl::VHOST_VDPA_SET_VRING_ENABLE(), 0, 1).map(drop)
    })?;
    let now = device.status()?;
    ignored(report, device, "live: DRIVER_OK once more", || {
        device.raw_status(now)
    })?;
    ignored(report, device, "live: an unknown status bit", || {
        device.raw_status(now | 0x20)
    })?;
    for value in [
        status::DRIVER_OK,
        now & !status::DRIVER_OK,
        now & !status::FEATURES_OK,
    ] {
        let what = format!("live: status {value:#x}, which clears bits");
        refused(report, device, &what, &invalid, || device.raw_status(value))?;
    }
    for (what, request, bit) in [
        ("SUSPEND", ioctl::VHOST_VDPA_SUSPEND(), 4),
        ("RESUME", ioctl::VHOST_VDPA_RESUME(), 5),
    ] {
        if (device.backend_features()? >> bit) & 1 == 0 {
            let what = format!("live: {what}, which is not offered");
            refused(report, device, &what, &[Errno::EOPNOTSUPP], || {
                ioctl::state(device, request, 0, 0)
            })?;
        }
    }
    // Address, MTU and pair limit are for the device to set.
    if device.features()? & (feature::MAC | feature::MTU) != 0 {
        ignored(
            report,
            device,
            "live: a write over the configuration",
            || {
                let mut bytes = Vec::new();
                bytes.extend(6_u32.to_ne_bytes());
                bytes.extend(6_u32.to_ne_bytes());
                bytes.extend([0xff; 6]);
                ioctl::send(
                    device,
                    ioctl::VHOST_VDPA_SET_CONFIG(),
                    &mut Argument::bytes(&bytes),
                )
            },
        )?;
    }
    Ok(())
}

/// The event that announces completions is exchanged, taken away and brought back under traffic.
fn calls(report: &mut Report, ports: &mut [Port], ways: &[Direction]) -> Result<()> {
    let flags = EfdFlags::EFD_NONBLOCK.bits();
    let mut changes = 0_u32;
    let ran = exchange::run(ports, ways, Goal::Frames(3000), |ports, _| {
        let queue = &mut ports[0].pairs[0].receive;
        let index = queue.index;
        let fresh = EventFd::new(flags)?;
        let device = &ports[0].device;
        // A gap without any event, then a new one; a completion inside the gap has nobody to tell.
        ioctl::state(
            device,
            ioctl::VHOST_SET_VRING_CALL(),
            index.into(),
            u32::MAX,
        )?;
        device.set_call(index, &fresh)?;
        fresh.write(1)?;
        ports[0].pairs[0].receive.call = fresh;
        let config = EventFd::new(flags)?;
        ports[0].device.set_config_call(&config)?;
        ports[0].config_call = config;
        changes += 1;
        Ok(())
    });
    report.step("frames flow while the events are exchanged", ran);
    if !ways.is_empty() {
        report.check(
            changes > 10,
            "the events were exchanged many times",
            format!("{changes}"),
        );
    }
    let device = &ports[0].device;
    let none = u32::MAX;
    ignored(report, device, "live: no configuration event", || {
        let mut argument = Argument::words(&[none]);
        ioctl::send(device, ioctl::VHOST_VDPA_SET_CONFIG_CALL(), &mut argument)
    })?;
    let event = ports[0].config_call.as_raw_fd();
    ignored(
        report,
        device,
        "live: the configuration event again",
        || {
            let mut argument = Argument::words(&[u32::try_from(event).unwrap_or(none)]);
            ioctl::send(device, ioctl::VHOST_VDPA_SET_CONFIG_CALL(), &mut argument)
        },
    )
}

/// More memory comes and goes while the device works.
fn memory_moves(report: &mut Report, port: &Port) -> Result<()> {
    // The last pages are never handed out to rings or buffers of this size.
    let start = memory::BASE + memory::SIZE - 0x4000;
    for _ in 0..20 {
        port.device.unmap(start, 0x4000)?;
        port.device.map(start, 0x4000)?;
    }
    report.ok("live: memory next to the rings is mapped anew");
    Ok(())
}
