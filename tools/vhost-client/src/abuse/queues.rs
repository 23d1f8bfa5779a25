// SPDX-License-Identifier: GPL-2.0

//! Queue parameters: sizes, addresses, indices, and the order they come in.

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::eventfd::EfdFlags;
use vmm_sys_util::eventfd::EventFd;

use super::{claimed, ignored, refused, works_again};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::memory;
use vdpa_user::ring;
use vdpa_user::stage::LEAST;

const UNSUPPORTED: [Errno; 1] = [Errno::EOPNOTSUPP];

fn set_num(device: &Device, index: u32, num: u32) -> Result<(), Errno> {
    ioctl::state(device, ioctl::VHOST_SET_VRING_NUM(), index, num).map(drop)
}

/// Sizes.
pub fn sizes(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    let limit = u32::from(device.queue_limit()?);
    // Later some of them may not exist: a control queue that was not negotiated.
    let sizes: Vec<_> = (0..device.queue_count()?)
        .map(|index| device.queue_size(index))
        .collect();
    report.check(
        sizes
            .iter()
            .flatten()
            .all(|size| (1..=limit).contains(size)),
        "every queue's size is within the limit",
        format!("{sizes:?}, limit {limit}"),
    );
    device.negotiate(LEAST)?;
    report.check(
        limit.is_power_of_two(),
        "the largest size is a power of two",
        format!("it is {limit}"),
    );
    for num in [
        0,
        3,
        limit - 1,
        limit + 1,
        2 * limit,
        65535,
        65536,
        u32::MAX,
    ] {
        refused(
            report,
            &device,
            &format!("size {num}"),
            &[Errno::EINVAL],
            || set_num(&device, 0, num),
        )?;
    }
    let before = device.queue_size(0);
    for num in [limit, 2, 1, 64] {
        set_num(&device, 0, num)?;
        report.check(
            device.queue_size(0) == before,
            format!("GET_VRING_SIZE does not follow size {num}"),
            format!("was {before:?}, is {:?}", device.queue_size(0)),
        );
        report.check(
            u32::from(device.queue_limit()?) == limit,
            format!("GET_VRING_NUM does not follow size {num}"),
            format!("was {limit}, is {}", device.queue_limit()?),
        );
    }
    report.step(
        "a larger size replaces a smaller one",
        works_again(device, proof),
    );
    Ok(())
}

/// Addresses.
pub fn addresses(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    device.negotiate(LEAST)?;
    set_num(&device, 0, 64)?;
    let base = memory::BASE;
    let good = (base, base + 0x1000, base + 0x2000);
    let last = u64::MAX - 15;
    let cases = [
        ("a misaligned descriptor table", base + 8, good.1, good.2),
        ("a descriptor table off by one", base + 1, good.1, good.2),
        ("a misaligned used ring", good.0, base + 0x1002, good.2),
        ("a misaligned available ring", good.0, good.1, base + 0x2001),
        ("a descriptor table that wraps", last, good.1, good.2),
        ("a used ring that wraps", good.0, u64::MAX - 3, good.2),
        ("an available ring that wraps", good.0, good.1, u64::MAX - 1),
    ];
    for (what, desc, used, avail) in cases {
        refused(report, &device, what, &[Errno::EINVAL], || {
            let mut argument = Argument::addresses(0, 0, desc, used, avail);
            ioctl::send(&device, ioctl::VHOST_SET_VRING_ADDR(), &mut argument)
        })?;
    }
    refused(
        report,
        &device,
        "unknown address flags",
        &UNSUPPORTED,
        || {
            let mut argument = Argument::addresses(0, 0x10, good.0, good.1, good.2);
            ioctl::send(&device, ioctl::VHOST_SET_VRING_ADDR(), &mut argument)
        },
    )?;
    let set_base = |base| ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, base);
    for base in [1, 63, 64, 0x8000, 0xffff] {
        set_base(base)?;
        let shown = ioctl::state(&device, ioctl::VHOST_GET_VRING_BASE(), 0, 0);
        report.check(
            shown == Ok(base),
            format!("base {base} is told again"),
            format!("{shown:?}"),
        );
    }
    refused(
        report,
        &device,
        "a base beyond 16 bits",
        &[Errno::EINVAL],
        || ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, 0x1_0000),
    )?;
    let zero = ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, 0);
    report.check(zero.is_ok(), "base 0 is accepted", format!("{zero:?}"));
    let shown = ioctl::state(&device, ioctl::VHOST_GET_VRING_BASE(), 0, 0xdead_beef);
    report.check(
        shown == Ok(0),
        "GET_VRING_BASE tells the initial state",
        format!("{shown:x?}"),
    );
    Ok(())
}

/// Where packed rings may start.
pub fn packed(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    if device.features()? & feature::RING_PACKED == 0 {
        report.note("the device has no packed rings");
        return Ok(());
    }
    device.negotiate(LEAST | feature::RING_PACKED)?;
    let set_base = |base| ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, base);
    // Used ring in the upper half, available ring in the lower; the wrap counter on top of each.
    for base in [0, 0x8000, 0x8000_0000, 0x8000_8001, 0x8001_8000] {
        let what = format!("packed base {base:#x}");
        refused(report, &device, &what, &UNSUPPORTED, || set_base(base))?;
    }
    let initial = set_base(0x8000_8000);
    report.check(
        initial.is_ok(),
        "packed base 0x80008000 is accepted",
        format!("{initial:?}"),
    );
    Ok(())
}

/// Indices, and requests this device does not implement.
pub fn indices(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    let count = device.queue_count()?;
    let requests = [
        ("SET_VRING_NUM", ioctl::VHOST_SET_VRING_NUM()),
        ("SET_VRING_ADDR", ioctl::VHOST_SET_VRING_ADDR()),
        ("SET_VRING_BASE", ioctl::VHOST_SET_VRING_BASE()),
        ("GET_VRING_BASE", ioctl::VHOST_GET_VRING_BASE()),
        ("SET_VRING_KICK", ioctl::VHOST_SET_VRING_KICK()),
        ("SET_VRING_CALL", ioctl::VHOST_SET_VRING_CALL()),
        ("SET_VRING_ERR", ioctl::VHOST_SET_VRING_ERR()),
        ("SET_VRING_ENABLE", ioctl::VHOST_VDPA_SET_VRING_ENABLE()),
        ("GET_VRING_GROUP", ioctl::VHOST_VDPA_GET_VRING_GROUP()),
        (
            "GET_VRING_DESC_GROUP",
            ioctl::VHOST_VDPA_GET_VRING_DESC_GROUP(),
        ),
        ("GET_VRING_SIZE", ioctl::VHOST_VDPA_GET_VRING_SIZE()),
    ];
    for (name, request) in requests {
        for index in [count, 0xffff, 0x1_0000, u32::MAX] {
            let what = format!("{name} of queue {index:#x}");
            refused(report, &device, &what, &[Errno::ENOBUFS], || {
                ioctl::state(&device, request, index, 1)
            })?;
        }
        refused(
            report,
            &device,
            &format!("{name} from nowhere"),
            &[Errno::EFAULT],
            || ioctl::send_null(&device, request),
        )?;
    }
    for (name, request) in [
        ("kick", ioctl::VHOST_SET_VRING_KICK()),
        ("call", ioctl::VHOST_SET_VRING_CALL()),
        ("error", ioctl::VHOST_SET_VRING_ERR()),
    ] {
        refused(
            report,
            &device,
            &format!("{name} with a closed file"),
            &[Errno::EBADF],
            || ioctl::state(&device, request, 0, 9999),
        )?;
        let what = format!("{name} with a file that is no event");
        refused(report, &device, &what, &[Errno::EINVAL], || {
            let other = u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&device)).unwrap_or(0);
            ioctl::state(&device, request, 0, other)
        })?;
    }
    refused(
        report,
        &device,
        "a configuration event on a closed file",
        &[Errno::EBADF],
        || ioctl::state(&device, ioctl::VHOST_VDPA_SET_CONFIG_CALL(), 9999, 0),
    )?;
    let asid = ioctl::VHOST_VDPA_SET_GROUP_ASID();
    for (group, space) in [(0, 2), (2, 0), (0, u32::MAX), (u32::MAX, 0)] {
        let what = format!("group {group} in address space {space}");
        // A group that is no number of a queue either is refused before.
        let errors = [Errno::EINVAL, Errno::ENOBUFS];
        refused(report, &device, &what, &errors, || {
            ioctl::state(&device, asid, group, space)
        })?;
    }
    let unknown = [
        ("an unknown request", ioctl::NOT_A_REQUEST(), Errno::ENOTTY),
        ("a dirty log", ioctl::VHOST_SET_LOG_BASE(), Errno::ENOTTY),
    ];
    for (what, request, errno) in unknown {
        refused(report, &device, what, &[errno], || {
            ioctl::state(&device, request, 0, 0)
        })?;
    }
    Ok(())
}

/// Requests at the wrong time.
pub fn order(report: &mut Report, proof: &Proof) -> Result<()> {
    let fresh = Device::open(&proof.device)?;
    refused(
        report,
        &fresh,
        "a queue of a device without owner",
        &[Errno::EPERM],
        || set_num(&fresh, 0, 64),
    )?;
    drop(fresh);

    let device = claimed(proof)?;
    let kick = EventFd::new(EfdFlags::EFD_NONBLOCK.bits())?;
    device.set_kick(0, &kick)?;
    ignored(report, &device, "kicks of a fresh device", || {
        kick.write(1).map_err(into_errno)
    })?;
    device.negotiate(LEAST)?;
    ignored(report, &device, "kicks before DRIVER_OK", || {
        kick.write(1).map_err(into_errno)
    })?;

    // Enabled, but nobody said where and how large: the device cannot run like that.
    device.enable(0, true)?;
    let result = device.raw_status(device.status()? | status::DRIVER_OK);
    let shown = device.status()?;
    report.check(
        shown & status::DRIVER_OK == 0,
        "an enabled queue without addresses: the device does not run",
        format!("result {result:?}, status {shown:#x}"),
    );
    report.check(
        shown & status::FAILED != 0,
        "an enabled queue without addresses: FAILED is shown",
        format!("status {shown:#x}"),
    );
    report.step("a reset is enough", device.reset());

    // Enabled first and described later is unusual but complete.
    device.negotiate(LEAST)?;
    device.memory.clear()?;
    let mut rings = Vec::new();
    for index in 0..2 {
        device.enable(index, true)?;
        let ring = ring::new(&device.memory, 64, false, false)?;
        device.set_queue(index, 64, ring.areas(), 0)?;
        rings.push(ring);
    }
    report.step(
        "queues enabled before their addresses are set",
        device.add_status(status::DRIVER_OK),
    );
    device.reset()?;
    ignored(report, &device, "kicks after a reset", || {
        kick.write(1).map_err(into_errno)
    })?;
    ignored(report, &device, "disabling a queue that never ran", || {
        ioctl::state(&device, ioctl::VHOST_VDPA_SET_VRING_ENABLE(), 0, 0).map(drop)
    })?;
    for (what, request) in [
        ("SUSPEND", ioctl::VHOST_VDPA_SUSPEND()),
        ("RESUME", ioctl::VHOST_VDPA_RESUME()),
    ] {
        ignored(report, &device, &format!("{what} before DRIVER_OK"), || {
            ioctl::state(&device, request, 0, 0).map(drop)
        })?;
    }
    report.step(
        "the device comes up after all that",
        works_again(device, proof),
    );
    Ok(())
}

fn into_errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
