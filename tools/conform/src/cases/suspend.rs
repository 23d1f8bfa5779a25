// SPDX-License-Identifier: GPL-2.0

//! A device that is stopped, and goes on.

use anyhow::{Context, Result};
use nix::errno::Errno;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::ioctl;
use vdpa_user::port::Setup;
use vdpa_user::refusal;

use crate::bench::Live;
use crate::case::{Case, RESUME, SUSPEND, Target, Verdict, fail, pass, skip, source, verdict};
use vdpa_user::stage::LEAST;

pub const CASES: &[Case] = &[
    Case {
        id: "suspend-1",
        title: "what is not offered is refused",
        demands: "without VHOST_BACKEND_F_SUSPEND (_RESUME) VHOST_VDPA_SUSPEND (_RESUME) of a device that runs fails with EOPNOTSUPP",
        source: source::TYPES,
        run: not_offered,
    },
    Case {
        id: "suspend-2",
        title: "a suspended device is at rest",
        demands: "after VHOST_VDPA_SUSPEND the device does not touch its queues, whatever it is told",
        source: "uapi/linux/vhost.h, VHOST_VDPA_SUSPEND",
        run: at_rest,
    },
    Case {
        id: "suspend-3",
        title: "a suspended device says where it stands",
        demands: "VHOST_GET_VRING_BASE tells how far it has come: all before that is done, nothing after it",
        source: "uapi/linux/vhost.h, VHOST_VDPA_SUSPEND",
        run: says_where,
    },
    Case {
        id: "suspend-4",
        title: "a resumed device goes on",
        demands: "after VHOST_VDPA_RESUME requests are done as before, those that were made available meanwhile, too",
        source: "uapi/linux/vhost.h, VHOST_VDPA_RESUME",
        run: goes_on,
    },
    Case {
        id: "suspend-5",
        title: "a suspended device can be reset and go on elsewhere",
        demands: "with the index that was told, a device goes on where another one, or itself, was stopped",
        source: "uapi/linux/vhost.h; linux/vdpa.h, set_vq_state",
        run: elsewhere,
    },
    Case {
        id: "suspend-6",
        title: "to suspend twice, or before there is anything, does no harm",
        demands: "VHOST_VDPA_SUSPEND and _RESUME of a device that does not run, or has been, leave it usable",
        source: source::UAPI,
        run: out_of_order,
    },
    Case {
        id: "suspend-7",
        title: "enabling a queue does not wake a suspended device",
        demands: "VHOST_VDPA_SET_VRING_ENABLE with 1 does not make a suspended device process buffers",
        source: "drivers/vhost/vdpa.c, vhost_vdpa_suspend",
        run: not_woken,
    },
    Case {
        id: "suspend-8",
        title: "a suspended device stays as it is",
        demands: "the state is kept: the device shows DRIVER_OK, its configuration does not change, and where a queue stands is told again and again",
        source: "uapi/linux/vhost.h, VHOST_VDPA_SUSPEND",
        run: stays,
    },
    Case {
        id: "suspend-9",
        title: "packed rings go on elsewhere, too",
        demands: "with the indices and wrap counters that were told, a device goes on where another one, or itself, was stopped",
        source: "uapi/linux/vhost.h; linux/vdpa.h, set_vq_state",
        run: packed_elsewhere,
    },
];

fn offers(target: &Target, bits: u64) -> Result<bool> {
    offers_now(&target.open()?, bits)
}

fn not_offered(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    let offered = live.device.backend_features()?;
    let mut seen = Vec::new();
    for (name, bit, request) in [
        ("SUSPEND", SUSPEND, ioctl::VHOST_VDPA_SUSPEND()),
        ("RESUME", RESUME, ioctl::VHOST_VDPA_RESUME()),
    ] {
        if offered & bit == 0 {
            let result = ioctl::send_null(&live.device, request);
            if result != Err(Errno::EOPNOTSUPP) {
                return fail(format!("{name}: {result:?}"));
            }
            seen.push(name);
        }
    }
    live.work(5)?;
    if seen.is_empty() {
        return skip("the device offers both");
    }
    pass(format!("{seen:?}"))
}

fn at_rest(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    let mut live = Live::open(target)?;
    live.work(20)?;
    live.device.suspend()?;
    let served = live.is_served()?;
    verdict(!served, format!("a request was done: {served}"))
}

fn says_where(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    let mut live = Live::open(target)?;
    live.work(20)?;
    live.offer(30)?;
    live.device.suspend()?;
    live.reap()?;
    let rings = live.worker()?.ring.base()?;
    let index = live.worker()?.index;
    let told = live.device.base(index)?;
    verdict(
        told == rings,
        format!("it says {told}, its rings say {rings}"),
    )
}

fn goes_on(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND | RESUME)? {
        return skip("VHOST_BACKEND_F_RESUME is not offered");
    }
    let mut live = Live::open(target)?;
    for round in 0..5 {
        live.work(20)?;
        live.device.suspend()?;
        live.offer(1)?;
        live.device.resume()?;
        live.worker()?.ring_doorbell()?;
        live.finish(1).with_context(|| format!("round {round}"))?;
    }
    live.work(20)?;
    pass("5 times")
}

fn elsewhere(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    moves(target, Setup::default())
}

fn packed_elsewhere(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    if target.open()?.features()? & feature::RING_PACKED == 0 {
        return skip("RING_PACKED is not offered");
    }
    let packed = Setup {
        packed: true,
        ..Setup::default()
    };
    moves(target, packed)
}

/// Stops a device, resets it, and has it go on from where it was.
fn moves(target: &Target, setup: Setup) -> Result<Verdict> {
    let mut live = Live::start(target.claim()?, setup)?;
    for round in 0..3 {
        live.work(33)?;
        if let Err(error) = live.device.suspend() {
            // It may be able to do it with rings of one kind, and not of another.
            if setup.packed && refusal::is_not_offered(&error) {
                return skip(format!("not with packed rings: {error:#}"));
            }
            return Err(error);
        }
        live.reap()?;
        live.device.reset()?;
        live.go_on()
            .and_then(|()| live.work(33))
            .with_context(|| format!("round {round}"))?;
    }
    pass("3 times, each from the index that was told")
}

fn out_of_order(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    let device = target.claim()?;
    let mut told = Vec::new();
    let suspend = |device: &Device| ioctl::send_null(device, ioctl::VHOST_VDPA_SUSPEND());
    let resume = |device: &Device| ioctl::send_null(device, ioctl::VHOST_VDPA_RESUME());
    told.push(("suspend, new", suspend(&device)));
    told.push(("resume, new", resume(&device)));
    device.negotiate(LEAST)?;
    told.push(("suspend, negotiated", suspend(&device)));
    let mut live = Live::start(device, Setup::default())?;
    told.push(("resume, live", resume(&live.device)));
    live.work(5)?;
    told.push(("suspend, live", suspend(&live.device)));
    told.push(("suspend, suspended", suspend(&live.device)));
    let mut live = Live::start(live.stop()?, Setup::default())?;
    live.work(5)?;
    pass(format!("{told:?}"))
}

fn not_woken(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    let mut live = Live::open(target)?;
    live.work(10)?;
    live.device.suspend()?;
    // There is no answer to wait for: it may be refused.
    let enabled = live.enable_all(true);
    if live.is_served()? {
        return fail(format!("a request was done; enabling: {enabled:?}"));
    }
    if !offers_now(&live.device, RESUME)? {
        return pass("nothing was done");
    }
    live.device.resume()?;
    live.worker()?.ring_doorbell()?;
    live.finish(1)?;
    live.work(10)?;
    pass("nothing was done until it was resumed")
}

/// Whether an open device offers all of `bits`.
fn offers_now(device: &Device, bits: u64) -> Result<bool> {
    Ok(device.backend_features()? & bits == bits)
}

fn stays(target: &Target) -> Result<Verdict> {
    if !offers(target, SUSPEND)? {
        return skip("VHOST_BACKEND_F_SUSPEND is not offered");
    }
    let mut live = Live::open(target)?;
    live.work(33)?;
    let config = live.device.config()?;
    live.device.suspend()?;
    let index = live.worker()?.index;
    let base = live.device.base(index)?;
    for _ in 0..5 {
        let shown = live.device.status()?;
        if shown & status::DRIVER_OK == 0 || shown & status::NEEDS_RESET != 0 {
            return fail(format!("the status is {shown:#x}"));
        }
        let now = live.device.config()?;
        if now != config {
            return fail(format!(
                "the configuration was {config:02x?}, is {now:02x?}"
            ));
        }
        let told = live.device.base(index)?;
        if told != base {
            return fail(format!("it stood at {base}, then at {told}"));
        }
        live.is_served()?;
    }
    pass(format!("it stands at {base}, 5 times"))
}
