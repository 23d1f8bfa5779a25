// SPDX-License-Identifier: GPL-2.0

//! How the device and its driver tell each other that there is something to do.

use std::thread::sleep;

use anyhow::Result;
use nix::sys::eventfd::EfdFlags;
use vdpa_user::ioctl;
use vmm_sys_util::eventfd::EventFd;

use crate::bench::{Live, WATCHED};
use crate::case::{Case, Target, Verdict, fail, pass, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "events-1",
        title: "what is done is announced",
        demands: "the event of VHOST_SET_VRING_CALL fires when buffers were used",
        source: "virtio 1.3, 2.7.8.2; uapi/linux/vhost.h",
        run: announced,
    },
    Case {
        id: "events-2",
        title: "a device is told by an event",
        demands: "the device serves its queue when the event of VHOST_SET_VRING_KICK fires",
        source: source::UAPI,
        run: told,
    },
    Case {
        id: "events-3",
        title: "the event of completions can be another one",
        demands: "VHOST_SET_VRING_CALL while the device runs: from then on the new event fires, and the old one does not",
        source: source::UAPI,
        run: another_call,
    },
    Case {
        id: "events-4",
        title: "the event of completions can go",
        demands: "VHOST_SET_VRING_CALL with -1 takes the event away; requests are done as before",
        source: source::UAPI,
        run: no_call,
    },
    Case {
        id: "events-5",
        title: "the event of notifications can be another one",
        demands: "VHOST_SET_VRING_KICK while the device runs: from then on the new event is listened to",
        source: source::UAPI,
        run: another_kick,
    },
    Case {
        id: "events-6",
        title: "the event of the configuration can come and go",
        demands: "VHOST_VDPA_SET_CONFIG_CALL sets an event at any time, and -1 takes it away",
        source: source::UAPI,
        run: config_call,
    },
    Case {
        id: "events-7",
        title: "a device without work is silent",
        demands: "no event fires when nothing was used",
        source: "virtio 1.3, 2.7.7.2 and 2.7.8.2",
        run: silent,
    },
];

/// Takes an event away.
const NONE: u32 = u32::MAX;

fn event() -> Result<EventFd> {
    Ok(EventFd::new(EfdFlags::EFD_NONBLOCK.bits())?)
}

fn announced(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(200)?;
    pass(format!(
        "200 requests, {} announcements",
        live.worker()?.interrupts
    ))
}

fn told(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    for _ in 0..50 {
        live.work(1)?;
    }
    pass("50 requests one by one")
}

fn another_call(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = live.worker()?.index;
    let new = event()?;
    live.device.set_call(index, &new)?;
    let old = std::mem::replace(&mut live.worker()?.call, new);
    let _ = old.read();
    live.work(10)?;
    let stray = old.read();
    verdict(
        stray.is_err(),
        format!("the new one fires, the old one: {stray:?}"),
    )
}

fn no_call(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = u32::from(live.worker()?.index);
    ioctl::state(&live.device, ioctl::VHOST_SET_VRING_CALL(), index, NONE)?;
    live.worker()?.interrupted();
    live.offer(1)?;
    sleep(WATCHED);
    let fired = live.worker()?.interrupted();
    let done = live.reap()?;
    verdict(
        done == 1 && !fired,
        format!("{done} of 1 done; the event that was taken away has fired: {fired}"),
    )
}

fn another_kick(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = live.worker()?.index;
    let kick = event()?;
    live.device.set_kick(index, &kick)?;
    live.offer(1)?;
    kick.write(1)?;
    live.finish(1)?;
    pass("the new one is listened to")
}

fn config_call(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    for _ in 0..3 {
        live.device.set_config_call(&event()?)?;
        ioctl::state(&live.device, ioctl::VHOST_VDPA_SET_CONFIG_CALL(), NONE, 0)?;
    }
    live.work(10)?;
    pass("set and taken away 3 times while the device runs")
}

fn silent(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    live.worker()?.interrupted();
    sleep(WATCHED);
    if live.worker()?.interrupted() {
        return fail("the event has fired although nothing was used");
    }
    pass("no event while nothing was used")
}
