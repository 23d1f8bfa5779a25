// SPDX-License-Identifier: GPL-2.0

//! Who may use a device.

use anyhow::Result;
use nix::errno::Errno;
use vdpa_user::ioctl;

use crate::bench::Live;
use crate::case::{Case, Target, Verdict, fail, pass, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "owner-1",
        title: "a device is opened once",
        demands: "a second open fails while the device is open",
        source: source::UAPI,
        run: opened_once,
    },
    Case {
        id: "owner-2",
        title: "a device has one owner",
        demands: "VHOST_SET_OWNER fails if there is one already",
        source: source::UAPI,
        run: owned_once,
    },
    Case {
        id: "owner-3",
        title: "queues belong to the owner",
        demands: "queues cannot be set up before there is an owner",
        source: source::UAPI,
        run: owner_first,
    },
    Case {
        id: "owner-4",
        title: "a device that was closed while it ran is free",
        demands: "whoever opens the device next can use it, ten times in a row",
        source: source::UAPI,
        run: one_after_the_other,
    },
    Case {
        id: "owner-5",
        title: "what is no request fails",
        demands: "a request that there is not fails with ENOTTY or ENOIOCTLCMD's user-space form, and does no harm",
        source: "ioctl(2)",
        run: no_request,
    },
];

fn opened_once(target: &Target) -> Result<Verdict> {
    let _first = target.open()?;
    match target.open() {
        Ok(_) => fail("it was opened twice"),
        Err(error) => pass(format!("{error:#}")),
    }
}

fn owned_once(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    device.own()?;
    match device.own() {
        Ok(()) => fail("it can be owned twice"),
        Err(error) => pass(format!("{error:#}")),
    }
}

fn owner_first(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let result = ioctl::state(&device, ioctl::VHOST_SET_VRING_NUM(), 0, 16);
    verdict(result == Err(Errno::EPERM), format!("{result:?}"))
}

fn one_after_the_other(target: &Target) -> Result<Verdict> {
    for _ in 0..10 {
        Live::open(target)?.work(5)?;
    }
    pass("10 owners, 5 requests each")
}

fn no_request(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    let result = ioctl::state(&live.device, ioctl::NOT_A_REQUEST(), 0, 0);
    live.work(5)?;
    verdict(
        matches!(result, Err(Errno::ENOTTY | Errno::EINVAL)),
        format!("{result:?}"),
    )
}
